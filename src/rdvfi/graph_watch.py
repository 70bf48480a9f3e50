"""Finding the operations of a running stage that a CUDA graph cannot capture, and counting kernel launches."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rdvfi.ops.inference import KERNELS

_WITHOUT_KERNEL = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::lift_fresh", "aten::detach")
"""Operations that launch no kernel, in addition to views."""


class Watch:
    """A context that records operations which a CUDA graph cannot capture.

    Attributes:
        problems: One line for each such operation: its name and the reason.
        launches: Number of kernel launches by name: the declared number for operators of this library, else one per
            operation.

    Args:
        device: Type of the device; "meta" traces without one.
    """

    def __init__(self, device: str = "cuda") -> None:
        self.problems: list[str] = []
        self.launches: dict[str, int] = {}
        self._modes = ExitStack()
        self._device = device

    def __enter__(self) -> "Watch":
        """Start recording."""
        self._modes.enter_context(_OperationMode(self))
        self._modes.enter_context(_FunctionMode(self))
        return self

    def __exit__(self, *error: object) -> None:
        """Stop recording."""
        self._modes.close()

    def record_operation(self, func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Record one operation by its inputs and outputs."""
        name = func.name()
        on_device = any(x.device.type == self._device for x in (*inputs, *outputs))
        if on_device and not func.is_view and not name.startswith(_WITHOUT_KERNEL):
            own = KERNELS.get(name.removeprefix("rdvfi::"))
            self.launches[name] = self.launches.get(name, 0) + (own.launches if own else 1)
        if on_device and (reason := self._reason(func, inputs, outputs)):
            self.problems.append(f"{name} {reason}")

    def record_copy(self, name: str, result: Any) -> None:
        """Record a tensor that was created from Python numbers."""
        if isinstance(result, Tensor) and result.device.type == self._device:
            self.problems.append(f"{name} copies from the CPU")

    def _reason(self, func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> str | None:
        """Why an operation cannot be captured; None if it can."""
        if getattr(torch.Tag, "cudagraph_unsafe", None) in func.tags:
            return "works outside of the device"
        if torch.Tag.data_dependent_output in func.tags:
            return "waits for a value of the device"
        # The result of an index of integers has a known size, that of a boolean mask does not.
        is_index = func.name().startswith("aten::index")
        has_mask = is_index and any(x.dtype in (torch.bool, torch.uint8) for x in inputs[1:])
        if has_mask or (torch.Tag.dynamic_output_shape in func.tags and not is_index):
            return "makes a result whose size depends on values"
        input_devices = {x.device.type for x in inputs}
        devices = input_devices | {x.device.type for x in outputs}
        if func.name() in ("aten::_to_copy", "aten::copy_") and {"cpu", self._device} <= devices:
            return "copies between the CPU and the device"
        if self._device != "cpu" and self._device in input_devices:
            if any(x.device.type == "cpu" and x.dim() > 0 for x in inputs):
                return "reads a tensor of the CPU"
        return None


class _OperationMode(TorchDispatchMode):
    """Passes every operation to a `Watch`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._watch.record_operation(func, list(tensors_in((args, kwargs or {}))), list(tensors_in(result)))
        return result


class _FunctionMode(TorchFunctionMode):
    """Passes tensors that are created from Python numbers to a `Watch`; no operation shows their copy to the device."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        creates = func in (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
        if creates and not (args and isinstance(args[-1], Tensor)):
            self._watch.record_copy(f"torch.{func.__name__}", result)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self._watch.record_copy("an index that is a list", args[0])
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
            if field.init:  # other fields are computed from these
                yield from tensors_in(getattr(value, field.name))
