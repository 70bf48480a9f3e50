"""Protection against damaged or malicious saved models: shapes are compared before memory is allocated.

A configuration of a few bytes may describe a network that fills the memory, or has a million blocks.
So every part is first built without values, on torch's ``meta`` device, and building stops as soon as
it has more tensors, or larger ones, than the file of weights; then names and shapes are compared. Only
what agrees is built for good.
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

from rdvfi.registry import Passing, backbones, create_from_spec, renderers, trajectories
from rdvfi.saved_models.checkpoint import ModelFiles, is_referenced
from rdvfi.saved_models.weight_files import STAGES, check_shapes, stored_shapes

_REGISTRIES = {"backbone": backbones, "trajectory": trajectories, "renderer": renderers}
_TENSORS, _VALUES = 1000, 2**24
"""Beyond those of the file: buffers that are not saved, and modules that set a tensor twice."""


class _TooLargeError(Passing):
    """More was built than the file holds."""


def check_described(files: ModelFiles) -> None:
    """Refuse a saved model whose configuration describes another model than its weights are of.

    Parts that load weights from elsewhere, and those of plug-ins that cannot be built without values,
    are not looked at.

    Raises:
        ValueError: If names or shapes differ, or it describes a larger model.
    """
    found: dict[str, Tensor] = {}
    stored: dict[str, tuple[int, ...]] = {}
    for part, stage in STAGES.items():
        spec = getattr(files.config, part)
        if _loads(spec) or (part == "backbone" and _refers(spec)):
            continue
        shapes = stored_shapes(files.weights_path, stage)
        built = _built(part, spec, shapes, files)
        if built is None:
            continue
        found |= {f"{stage}.{name}": tensor for name, tensor in built.state_dict().items()}
        stored |= {f"{stage}.{name}": shape for name, shape in shapes.items()}
    check_shapes(files.weights_path, found, stored)


def _built(part: str, spec: Any, shapes: Mapping[str, tuple[int, ...]], files: ModelFiles) -> Any:
    """A part without values; None if it cannot be built so."""
    values = sum(torch.Size(shape).numel() for shape in shapes.values())
    try:
        with _bounded(4 * len(shapes) + _TENSORS, 4 * values + _VALUES), torch.device("meta"):
            return create_from_spec(_REGISTRIES[part], spec)
    except _TooLargeError:
        raise ValueError(
            f"{files.config_path} describes a {part} that is larger than its weights in {files.weights_path.name}"
        ) from None
    except (KeyError, TypeError, OSError, ValueError) as error:
        if "meta" in str(error):  # of a plug-in: it reads values while it is built
            return None
        raise ValueError(f"{files.config_path} does not describe a model: {error}") from error


def _loads(spec: Any) -> bool:
    """Whether a component inside fetches published weights when it is built."""
    config = spec.get("config") if isinstance(spec, dict) else None
    if not isinstance(config, dict):
        return False
    return config.get("pretrained") is True or any(_loads(value) for value in config.values())


def _refers(spec: Any) -> bool:
    """Whether the weights of a backbone are stored elsewhere; invalid specifications are refused later."""
    return isinstance(spec, dict) and isinstance(spec.get("config"), dict) and is_referenced(spec)


@contextmanager
def _bounded(tensors: int, values: int) -> Iterator[None]:
    """Stop this thread when its modules get more tensors, or more values in them."""
    thread, counted = threading.get_ident(), [0, 0]

    def note(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or threading.get_ident() != thread:
            return
        counted[0] += 1
        counted[1] += tensor.numel()
        if counted[0] > tensors or counted[1] > values:
            raise _TooLargeError

    hooks = [register_module_parameter_registration_hook(note), register_module_buffer_registration_hook(note)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
