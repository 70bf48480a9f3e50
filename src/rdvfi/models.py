"""Models by name: those that ship inside this package, saved folders, and the hub.

A model that ships is a pair of files in ``rdvfi/weights``: ``<name>.json`` and
``<name>.safetensors``, the same two files as any saved model, with half-precision tensors.
"""

import os
from pathlib import Path

import torch

from rdvfi.checkpoint import ModelFiles, read_config, write_config, write_weights
from rdvfi.interpolator import Interpolator
from rdvfi.registry import did_you_mean, normalise

WEIGHTS_FOLDER = Path(__file__).parent / "weights"

_SHIPPED = ("rdvfi-s", "rdvfi-s2")
_TO_BE_TRAINED = ("rdvfi-d", "rdvfi-u")


def list_models() -> list[str]:
    """The names whose weights are installed with this package."""
    return sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))


def create_model(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Interpolator:
    """A trained model, ready for inference: in eval mode, its parameters frozen.

    To train it further, call ``model.train().requires_grad_(True)``.

    Args:
        name: A model of `list_models`, a folder written by `Interpolator.save_pretrained`, or a
            model on the Hugging Face hub as ``owner/name``.
        device: Where it shall run.
        dtype: The type of its networks; on the CPU they always compute in float32.

    Raises:
        ValueError: If no model has this name, or its files are damaged.
        FileNotFoundError: If there is no such folder or hub model, or the weights of a named model
            are not installed.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"a model is named by a string or a path; got {name!r}")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating point type; got {dtype}")
    key = normalise(name).lower() if isinstance(name, str) else ""
    if key in list_models():
        return load_bundled(key).to(device, dtype)
    if key in _SHIPPED:
        raise FileNotFoundError(f"the weights of {key!r} are missing from {WEIGHTS_FOLDER}")
    if key in _TO_BE_TRAINED:
        raise FileNotFoundError(
            f"{key!r} has no public weights: the authors of the method published none. Train it "
            "with `rdvfi train` and give the saved folder instead"
        )
    if isinstance(name, str) and "/" not in name and os.sep not in name and not Path(name).exists():
        known = [*list_models(), *_SHIPPED, *_TO_BE_TRAINED]
        hint = did_you_mean(key, known)
        listed = ", ".join(list_models()) or "none"
        raise ValueError(
            f"no model named {name!r}{hint} (installed: {listed}; a folder or a hub id owner/name is accepted too)"
        )
    return Interpolator.from_pretrained(name, device=device, dtype=dtype)


def load_bundled(name: str, folder: Path = WEIGHTS_FOLDER) -> Interpolator:
    """A model from ``<name>.json`` and ``<name>.safetensors``, in float32 on the CPU."""
    config = folder / f"{name}.json"
    saved = ModelFiles(read_config(config), config, folder / f"{name}.safetensors")
    return Interpolator.from_files(saved)


def save_bundled(model: Interpolator, name: str, folder: Path = WEIGHTS_FOLDER) -> None:
    """Write the pair of files under which a model ships: half-precision tensors.

    Raises:
        ValueError: If a weight is too large for half precision, or not a number.
    """
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in model.state_dict().items()}
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{key} holds values that half precision cannot: not written")
    config = model.pretrained()
    write_weights(folder / f"{name}.safetensors", state)
    write_config(folder / f"{name}.json", config)
