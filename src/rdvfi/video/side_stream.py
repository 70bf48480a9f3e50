"""Copies to and from a GPU beside the computation.

A CUDA stream does its work in order; streams run beside each other, and wait for each other's events. Frames come in on
one, are computed on a second, and leave on a third, so that no copy waits for a kernel that does not need it; the
default stream is left to FFmpeg, which decodes there. Memory that one stream has and another uses is marked
(`torch.Tensor.record_stream`), or torch would give it away too early. On a CPU there are no streams: work is done when
it is asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CopiedTensors:
    """Tensors that a stream makes.

    Attributes:
        tensors: What it makes, perhaps later.
        event: When it is done; None if it is.
    """

    tensors: tuple[Tensor, ...]
    event: Any = None

    def here(self) -> tuple[Tensor, ...]:
        """The tensors for the stream that is current, which waits for them; the caller does not."""
        if self.event is not None:
            stream = torch.cuda.current_stream(self.tensors[0].device)
            stream.wait_event(self.event)
            for tensor in self.tensors:
                tensor.record_stream(stream)
        return self.tensors

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors, once they are there."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensors


class SideStream:
    """A stream for copies, or for work.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Work within is done here, after the work of the stream outside so far and before what follows."""
        if self._stream is None:
            yield
            return
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def send(self, tensors: tuple[Tensor, ...], device: torch.device) -> CopiedTensors:
        """Copy tensors to a device, from the processor's memory by way of pinned memory.

        What is on the device already, as decoders leave it, is copied as well, and waited for: they need theirs again.
        """
        if self._stream is None:
            return CopiedTensors(tuple(tensor.to(device) for tensor in tensors))
        with torch.cuda.stream(self._stream):
            if tensors[0].is_cuda:
                self._stream.wait_stream(torch.cuda.default_stream(device))
                made = CopiedTensors(tuple(tensor.clone() for tensor in tensors), self._stream.record_event())
                made.wait()
                return made
            sent = tuple(_pinned(tensor).to(device, non_blocking=True) for tensor in tensors)
            return CopiedTensors(sent, self._stream.record_event())

    def fetch(self, tensors: tuple[Tensor, ...]) -> CopiedTensors:
        """Copy tensors, which the current stream makes, to pinned memory of the processor."""
        if self._stream is None:
            return CopiedTensors(tensors)
        self._stream.wait_stream(torch.cuda.current_stream(tensors[0].device))
        with torch.cuda.stream(self._stream):
            for tensor in tensors:
                tensor.record_stream(self._stream)
            fetched = tuple(_pinned(tensor) for tensor in tensors)
            return CopiedTensors(fetched, self._stream.record_event())


def _pinned(tensor: Tensor) -> Tensor:
    """A copy in pinned memory; if it comes from a device, perhaps later."""
    made = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return made.copy_(tensor, non_blocking=True)
