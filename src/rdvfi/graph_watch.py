"""Finding, while a stage runs, the operations that a CUDA graph cannot capture, and counting those that it can."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rdvfi.ops.inference import KERNELS

_NO_WORK = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::lift_fresh", "aten::detach")
"""Operations that start no kernel, beside views."""


class Watch:
    """Records, while operations run within it, those that a CUDA graph cannot capture.

    Attributes:
        found: One line for each such operation: its name and what is wrong with it.
        count: Work that operations start on the device, by name: kernels of our own operators, else operations.

    Args:
        device: Kind of the device. "meta" traces without one.
    """

    def __init__(self, device: str = "cuda") -> None:
        self.found: list[str] = []
        self.count: dict[str, int] = {}
        self._modes = ExitStack()
        self._device = device

    def __enter__(self) -> "Watch":
        """Begin to watch."""
        self._modes.enter_context(_Operations(self))
        self._modes.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        """Watch no longer."""
        self._modes.close()

    def operation(self, func: Any, given: list[Tensor], made: list[Tensor]) -> None:
        """Record one operation by its inputs and outputs."""
        name = func.name()
        here = [x for x in (*given, *made) if x.device.type == self._device]
        if here and not func.is_view and not name.startswith(_NO_WORK):
            own = KERNELS.get(name.removeprefix("rdvfi::"))
            self.count[name] = self.count.get(name, 0) + (own.launches if own else 1)
        if here and (reason := self._reason(func, given, made)):
            self.found.append(f"{name} {reason}")

    def copied(self, name: str, made: Any) -> None:
        """Note a tensor that was made of numbers of Python."""
        if isinstance(made, Tensor) and made.device.type == self._device:
            self.found.append(f"{name} copies from the CPU")

    def _reason(self, func: Any, given: list[Tensor], made: list[Tensor]) -> str | None:
        if getattr(torch.Tag, "cudagraph_unsafe", None) in func.tags:
            return "works outside of the device"
        if torch.Tag.data_dependent_output in func.tags:
            return "waits for a value of the device"
        # An index of whole numbers has a result of known size, one of yes and no has not.
        by_index = func.name().startswith("aten::index")
        if torch.Tag.dynamic_output_shape in func.tags and not by_index:
            return "makes a result whose size depends on values"
        if by_index and any(x.dtype in (torch.bool, torch.uint8) for x in given[1:]):
            return "makes a result whose size depends on values"
        places = {x.device.type for x in given}, {x.device.type for x in made}
        if func.name() in ("aten::_to_copy", "aten::copy_") and {"cpu", self._device} <= places[0] | places[1]:
            return "copies between the CPU and the device"
        other = self._device != "cpu" and self._device in places[0]
        if other and any(x.device.type == "cpu" and x.dim() > 0 for x in given):
            return "reads a tensor of the CPU"
        return None


class _Operations(TorchDispatchMode):
    """Shows every operation to a `Watch`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._watch.operation(func, list(tensors_in((args, kwargs or {}))), list(tensors_in(result)))
        return result


class _Calls(TorchFunctionMode):
    """Shows a `Watch` tensors made of numbers: no operation tells of their way to the device."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made_of = args[-1] if args else None
        if func in (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor) and not isinstance(
            made_of, Tensor
        ):
            self._watch.copied(f"torch.{func.__name__}", result)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self._watch.copied("an index that is a list", args[0])
        return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a structure, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.init:  # others are computed again in a structure with other tensors
                yield from tensors_in(getattr(value, field.name))
