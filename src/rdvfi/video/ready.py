"""Preparation of a model for inference: loading, device, precision, check that it is trained."""

import os

import torch

from rdvfi._inputs import read_device
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model

DEFAULT_MODEL = "rdvfi-s"
DEFAULT_MULTIPLIER = 8

ModelLike = str | os.PathLike[str] | Interpolator
"""A name or folder for `create_model`, or a model."""


def ready_model(
    model: ModelLike, device: str | torch.device | None, dtype: torch.dtype | None, *, allow_untrained: bool
) -> Interpolator:
    """The model on its device; a named one is optimized on CUDA (`rdvfi.Interpolator.optimize`).

    Raises:
        ValueError: If it has untrained learned parts, and would draw noise.
    """
    if isinstance(model, Interpolator):
        if device is not None or dtype is not None:
            raise ValueError("device and dtype are for named models; move a model with .to(...)")
        built = model
    else:
        place, kind = choose_place(device, dtype)
        built = create_model(model, device=place, dtype=kind)
        if place.type == "cuda":
            built.optimize()
    missing = built.untrained_parts()
    if missing and not allow_untrained:
        raise ValueError(
            f"the model has untrained parts: {', '.join(missing)}; choose a trained one, "
            "or accept them with allow_untrained=True"
        )
    return built


def choose_place(device: str | torch.device | None, dtype: torch.dtype | None) -> tuple[torch.device, torch.dtype]:
    """Where a named model runs and in which type: half precision on CUDA, if there is a device.

    Raises:
        ValueError: If there is no such device.
    """
    place = read_device("cuda" if torch.cuda.is_available() else "cpu") if device is None else read_device(device)
    if place.type == "meta":
        raise ValueError("device is 'meta', which has no values; expected a name such as cpu or cuda:0")
    return place, dtype or (torch.float16 if place.type == "cuda" else torch.float32)
