"""Weights of a model as safetensors: written atomically, checked completely before anything is loaded."""

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
"""The parts of a model, as users call them, and the attributes that hold them."""

_FLOATS = ("F16", "BF16", "F32", "F64")
_UNREADABLE = ("C64", "F8_E4M3", "F8_E5M2", "F8_E8M0")


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors; the file appears under its name only when complete."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic(path) as partial:
        safetensors.torch.save_file(tensors, partial)


def load_weights(model: nn.Module, path: Path, *, but: str | None = None, names: Collection[str] | None = None) -> None:
    """Load every tensor of ``model`` from a file; names and shapes must be the same.

    Args:
        model: Gets the values.
        path: A safetensors file.
        but: A child of the model whose tensors are not in the file.
        names: Those that are taken from the file, which may hold others; all if None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or of another model. The model is then unchanged.
    """
    expected = tensors_of(model, but=but)
    if names is not None:
        expected = {name: tensor for name, tensor in expected.items() if name in names}
    with _opened(path) as file:
        held = [name for name in file.keys() if names is None or name in names]
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in held}
        check_shapes(path, expected, shapes)
        _check_types(path, expected, file)
        state = {name: file.get_tensor(name) for name in expected}
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{path} is damaged: {broken[0]} holds values that are not finite")
    model.load_state_dict(state, strict=but is None and names is None)


def stored_shapes(path: Path, stage: str) -> dict[str, tuple[int, ...]]:
    """The shapes of one stage's tensors in a file, by their names below the stage.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    prefix = f"{stage}."
    with _opened(path) as file:
        held = [name for name in file.keys() if name.startswith(prefix)]
        return {name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in held}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file of weights; what is wrong with it is one clear error."""
    what = "a file with the weights of this model"
    check_regular(path, what)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: {what} is expected") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def tensors_of(model: nn.Module, *, but: str | None = None, only: str | None = None) -> dict[str, Tensor]:
    """The tensors of a model that are saved: all, all but one child, or one child only."""
    left_out = () if but is None else (f"{but}.",)
    kept = "" if only is None else f"{only}."
    state = model.state_dict()
    return {k: v for k, v in state.items() if k.startswith(kept) and not k.startswith(left_out)}


def _check_types(path: Path, expected: Mapping[str, Tensor], file: Any) -> None:
    """Floats are stored as floats of 16 bits or more, everything else as it is."""
    for name, tensor in expected.items():
        stored = file.get_slice(name).get_dtype()
        if tensor.is_floating_point() != (stored in _FLOATS) or stored in _UNREADABLE:
            raise ValueError(f"{path} holds {name} as {stored}; {tensor.dtype} is expected")


def check_shapes(path: Path, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if shapes.keys() != expected.keys():
        absent = {k.split(".")[0] for k in expected} - {k.split(".")[0] for k in shapes}
        parts = [part for part, stage in STAGES.items() if stage in absent]
        if parts and shapes.keys() <= expected.keys():
            raise ValueError(
                f"{path} holds no weights of {', '.join(parts)}; parts that were saved alone are "
                "taken into a whole model by Interpolator.load_part"
            )
    difference = tensor_difference(expected, shapes)
    if difference:
        raise ValueError(f"{path} holds the weights of another model: {difference}")
