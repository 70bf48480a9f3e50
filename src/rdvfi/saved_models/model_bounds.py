"""Protection against damaged or malicious saved models: shapes are compared before memory is allocated.

A configuration of a few bytes may describe a network that exceeds the memory, or has a million blocks.
Every part is therefore first built without values, on torch's ``meta`` device. Building stops as soon as
it has more tensors, or more values, than the file of weights; then names and shapes are compared. The
real parts are built only if they agree.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from rdvfi.registry import UnwrappedError, backbones, create_from_spec, renderers, trajectories
from rdvfi.saved_models.checkpoint import ModelFiles, is_referenced
from rdvfi.saved_models.weight_files import STAGES, check_shapes, stored_shapes

_REGISTRIES = {"backbone": backbones, "trajectory": trajectories, "renderer": renderers}
_EXTRA_TENSORS, _EXTRA_VALUES = 1000, 2**24
"""Allowance beyond those of the file, for buffers that are not saved and modules that set a tensor twice."""


class _TooLargeError(UnwrappedError):
    """The configuration describes a larger model than its weights."""


def check_size_and_shapes(files: ModelFiles) -> None:
    """Check that the configuration of a saved model describes the model of its weights.

    Parts that load weights from elsewhere, and parts of plug-ins that cannot be built without values,
    are not checked.

    Raises:
        ValueError: If names or shapes differ, or the described model is larger.
    """
    expected: dict[str, Tensor] = {}
    stored: dict[str, tuple[int, ...]] = {}
    for part, stage in STAGES.items():
        spec = getattr(files.config, part)
        if _is_pretrained(spec) or (part == "backbone" and _has_reference(spec)):
            continue
        shapes = stored_shapes(files.weights_path, stage)
        module = _build_on_meta(part, spec, shapes, files)
        if module is None:
            continue
        expected |= {f"{stage}.{name}": tensor for name, tensor in module.state_dict().items()}
        stored |= {f"{stage}.{name}": shape for name, shape in shapes.items()}
    check_shapes(files.weights_path, expected, stored)


def _build_on_meta(part: str, spec: Any, shapes: Mapping[str, tuple[int, ...]], files: ModelFiles) -> Any:
    """A part without values; None if it cannot be built without them."""
    values = sum(torch.Size(shape).numel() for shape in shapes.values())
    try:
        with _limit_size(4 * len(shapes) + _EXTRA_TENSORS, 4 * values + _EXTRA_VALUES), torch.device("meta"):
            return create_from_spec(_REGISTRIES[part], spec)
    except _TooLargeError:
        raise ValueError(
            f"{files.config_path} describes a {part} that is larger than its weights in {files.weights_path.name}"
        ) from None
    except (KeyError, TypeError, OSError, ValueError) as error:
        if "meta" in str(error):  # a plug-in that reads values while it is built
            return None
        raise ValueError(f"{files.config_path} does not describe a model: {error}") from error


def _is_pretrained(spec: Any) -> bool:
    """Whether a component loads published weights when it is built."""
    config = spec.get("config") if isinstance(spec, dict) else None
    if not isinstance(config, dict):
        return False
    return config.get("pretrained") is True or any(_is_pretrained(value) for value in config.values())


def _has_reference(spec: Any) -> bool:
    """Whether the weights of a backbone are stored elsewhere; invalid specifications are refused later."""
    return isinstance(spec, dict) and isinstance(spec.get("config"), dict) and is_referenced(spec)


@contextmanager
def _limit_size(max_tensors: int, max_values: int) -> Iterator[None]:
    """Raise in this thread when the modules that it builds have more tensors, or more values in total."""
    thread, tensors, values = threading.get_ident(), 0, 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal tensors, values
        if tensor is None or threading.get_ident() != thread:
            return
        tensors += 1
        values += tensor.numel()
        if tensors > max_tensors or values > max_values:
            raise _TooLargeError

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
