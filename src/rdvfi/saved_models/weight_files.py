"""Weights of a model as safetensors: written atomically, checked completely before any are loaded."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rdvfi._atomic import atomic
from rdvfi._small_text import check_regular
from rdvfi._tensors import tensor_difference

STAGES = {"backbone": "generator", "trajectory": "trajectory", "renderer": "renderer"}
"""The parts of a model, by the names that users see, and the attributes of the model that hold them."""

_FLOAT_TYPES = ("F16", "BF16", "F32", "F64")
_UNSUPPORTED_TYPES = ("C64", "F8_E4M3", "F8_E5M2", "F8_E8M0")


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors; the file appears under its name only when complete."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic(path) as partial:
        safetensors.torch.save_file(tensors, partial)


def load_weights(
    model: nn.Module, path: Path, *, exclude: str | None = None, names: Collection[str] | None = None
) -> None:
    """Load every tensor of ``model`` from a file; names and shapes must be the same.

    Args:
        model: The model to load into.
        path: A safetensors file.
        exclude: A child of the model whose tensors are not in the file.
        names: Names of the tensors to load from a file that may contain others; all if None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another model. The model is then unchanged.
    """
    expected = tensors_of(model, exclude=exclude)
    if names is not None:
        expected = {name: tensor for name, tensor in expected.items() if name in names}
    with _open_weights(path) as file:
        stored = [name for name in file.keys() if names is None or name in names]
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in stored}
        check_shapes(path, expected, shapes)
        _check_types(path, expected, file)
        state = {name: file.get_tensor(name) for name in expected}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path} is damaged: {name} has values that are not finite")
    model.load_state_dict(state, strict=exclude is None and names is None)


def stored_shapes(path: Path, stage: str) -> dict[str, tuple[int, ...]]:
    """The shapes of one stage's tensors in a file, by their names below the stage.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    prefix = f"{stage}."
    with _open_weights(path) as file:
        names = [name for name in file.keys() if name.startswith(prefix)]
        return {name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in names}


@contextmanager
def _open_weights(path: Path) -> Iterator[Any]:
    """Open a safetensors file; raises FileNotFoundError or ValueError with a message that names the file."""
    expected = "a file with the weights of this model"
    check_regular(path, expected)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {expected} is expected") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def tensors_of(model: nn.Module, *, exclude: str | None = None, only: str | None = None) -> dict[str, Tensor]:
    """The tensors of a model that are saved: all, all except those of one child, or those of one child only."""
    excluded = () if exclude is None else (f"{exclude}.",)
    prefix = "" if only is None else f"{only}."
    state = model.state_dict()
    return {k: v for k, v in state.items() if k.startswith(prefix) and not k.startswith(excluded)}


def _check_types(path: Path, expected: Mapping[str, Tensor], file: Any) -> None:
    """Raise ValueError unless floats are stored as floats of 16 bits or more, and other types as such."""
    for name, tensor in expected.items():
        stored = file.get_slice(name).get_dtype()
        if tensor.is_floating_point() != (stored in _FLOAT_TYPES) or stored in _UNSUPPORTED_TYPES:
            raise ValueError(f"{path} holds {name} as {stored}; {tensor.dtype} is expected")


def check_shapes(path: Path, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if the tensors of a file differ from the expected ones in names or shapes."""
    if shapes.keys() != expected.keys():
        absent = {k.split(".")[0] for k in expected} - {k.split(".")[0] for k in shapes}
        parts = [part for part, stage in STAGES.items() if stage in absent]
        if parts and shapes.keys() <= expected.keys():
            raise ValueError(
                f"{path} holds no weights of {', '.join(parts)}; Interpolator.load_part loads parts that were "
                "saved separately"
            )
    difference = tensor_difference(expected, shapes)
    if difference:
        raise ValueError(f"{path} holds the weights of another model: {difference}")
