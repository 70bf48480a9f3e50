"""Copies to and from a GPU that overlap the computation.

Work on one CUDA stream runs in order; different streams run concurrently, and wait for each other's events. Frames are
copied in on one stream, computed on a second, and copied out on a third, so that no copy waits for a kernel that does
not need it; FFmpeg decodes on the default stream. Memory that is allocated on one stream and used on another is
recorded (`torch.Tensor.record_stream`), or torch would reuse it too early. On a CPU there are no streams: work is
done immediately.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CopiedTensors:
    """Tensors that are complete when an event occurs, or already if it is None."""

    tensors: tuple[Tensor, ...]
    event: Any = None

    def on_current_stream(self) -> tuple[Tensor, ...]:
        """The tensors for use on the current stream, which waits for them; the calling thread does not."""
        if self.event is not None:
            stream = torch.cuda.current_stream(self.tensors[0].device)
            stream.wait_event(self.event)
            for tensor in self.tensors:
                tensor.record_stream(stream)
        return self.tensors

    def wait(self) -> tuple[Tensor, ...]:
        """Wait until the tensors are complete, and return them."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensors


class SideStream:
    """A CUDA stream for copies or computation; on a CPU, everything is done immediately."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make this stream current; it is ordered after earlier and before later work of the outer stream."""
        if self._stream is None:
            yield
            return
        outer = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def send(self, tensors: tuple[Tensor, ...], device: torch.device) -> CopiedTensors:
        """Copy tensors to a device; those on the CPU through pinned memory.

        Tensors that are already on the device are copied too, and waited for: the decoder reuses its memory.
        """
        if self._stream is None:
            return CopiedTensors(tuple(tensor.to(device) for tensor in tensors))
        with torch.cuda.stream(self._stream):
            if tensors[0].is_cuda:
                self._stream.wait_stream(torch.cuda.default_stream(device))
                copied = CopiedTensors(tuple(tensor.clone() for tensor in tensors), self._stream.record_event())
                copied.wait()
                return copied
            sent = tuple(_pinned(tensor).to(device, non_blocking=True) for tensor in tensors)
            return CopiedTensors(sent, self._stream.record_event())

    def fetch(self, tensors: tuple[Tensor, ...]) -> CopiedTensors:
        """Copy tensors that the current stream writes to pinned CPU memory."""
        if self._stream is None:
            return CopiedTensors(tensors)
        self._stream.wait_stream(torch.cuda.current_stream(tensors[0].device))
        with torch.cuda.stream(self._stream):
            for tensor in tensors:
                tensor.record_stream(self._stream)
            fetched = tuple(_pinned(tensor) for tensor in tensors)
            return CopiedTensors(fetched, self._stream.record_event())


def _pinned(tensor: Tensor) -> Tensor:
    """A copy in pinned memory, which is complete later if the tensor is on a device."""
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
