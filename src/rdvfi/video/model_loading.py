"""Loading of models for inference: device, precision, and a check that they are trained."""

import os

import torch

from rdvfi._inputs import read_device
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model

DEFAULT_MODEL = "rdvfi-s"
DEFAULT_MULTIPLIER = 8

ModelLike = str | os.PathLike[str] | Interpolator
"""A name or folder for `create_model`, or a model."""


def prepare_model(
    model: ModelLike, device: str | torch.device | None, dtype: torch.dtype | None, *, allow_untrained: bool
) -> Interpolator:
    """Load a named model on its device, or check one that is loaded; the former is optimized on CUDA.

    See `rdvfi.Interpolator.optimize`.

    Raises:
        ValueError: If the model has learned parts that are not trained, and ``allow_untrained`` is off.
    """
    if isinstance(model, Interpolator):
        if device is not None or dtype is not None:
            raise ValueError("device and dtype are for named models; move a model with .to(...)")
        loaded = model
    else:
        chosen_device, chosen_dtype = choose_placement(device, dtype)
        loaded = create_model(model, device=chosen_device, dtype=chosen_dtype)
        if chosen_device.type == "cuda":
            loaded.optimize()
    missing = loaded.untrained_parts()
    if missing and not allow_untrained:
        raise ValueError(
            f"the model has untrained parts: {', '.join(missing)}; choose a trained one, "
            "or accept them with allow_untrained=True"
        )
    return loaded


def choose_placement(device: str | torch.device | None, dtype: torch.dtype | None) -> tuple[torch.device, torch.dtype]:
    """The device and type of a named model: by default CUDA in float16 if available, else the CPU in float32.

    Raises:
        ValueError: If there is no such device.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = read_device(device)
    if chosen.type == "meta":
        raise ValueError("device is 'meta', which has no values; expected a name such as cpu or cuda:0")
    return chosen, dtype or (torch.float16 if chosen.type == "cuda" else torch.float32)
