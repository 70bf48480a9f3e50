"""Models by name: those that ship inside this package, saved folders, and the hub.

A model that ships with the package is a pair of files in ``rdvfi/weights``, ``<name>.json`` and
``<name>.safetensors``: the same files as of any saved model, with half-precision tensors.
"""

import os
from pathlib import Path

import torch

from rdvfi._inputs import check_dtype, read_device
from rdvfi.interpolator import Interpolator
from rdvfi.saved_models.checkpoint import write_config
from rdvfi.saved_models.model_names import WEIGHTS_FOLDER, find_files, list_models
from rdvfi.saved_models.weight_files import write_weights

__all__ = ["create_model", "list_models", "save_bundled"]


def create_model(
    name: str | os.PathLike[str],
    *overrides: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Interpolator:
    """A trained model, ready for inference: in eval mode, with frozen parameters.

    To train it further, call ``model.train().requires_grad_(True)``.

    Args:
        name: A model of `list_models`, a folder written by `Interpolator.save_pretrained` or by
            ``rdvfi train``, or a model on the Hugging Face hub as ``owner/name``.
        *overrides: Parts to exchange, as in a recipe: ``"basis=linear"`` chooses, and
            ``"trajectory.knots=FIXED"`` sets. Weights that fit are kept
            (`rdvfi.saved_models.exchange`); other components are untrained, and a logged warning names them.
        device: Device of the model.
        dtype: Type of its networks; on the CPU they always compute in float32.

    Raises:
        ValueError: If no model has this name, its files are damaged, or an override is not valid.
        FileNotFoundError: If there is no such folder or hub model, or the weights of a named model are not installed.
    """
    check_dtype(dtype)
    target = read_device(device)
    model = Interpolator.from_files(find_files(name))
    if overrides:
        from rdvfi.config import exchange_parts  # Hydra is imported when it is needed

        model = exchange_parts(model, *overrides, name=os.fspath(name))
    return model.to(target, dtype)


def save_bundled(model: Interpolator, name: str, folder: Path = WEIGHTS_FOLDER) -> None:
    """Write the pair of files of a model that ships with the package, with half-precision tensors.

    Raises:
        ValueError: If a weight is not finite in half precision.
    """
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()}
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{key} has values that are not finite in half precision; the model is not written")
    config = model.pretrained()
    write_weights(folder / f"{name}.safetensors", state)
    write_config(folder / f"{name}.json", config)
