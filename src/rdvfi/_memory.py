"""Drawing within bounded memory: the times are divided into chunks, which are halved when memory runs out.

Each time needs small maps, about `WORK_BYTES` per pixel of the motion size, and its
frame. The size of a chunk follows from a budget: half of the free memory of a CUDA device,
which the driver reports once per call without waiting for kernels, and `CPU_BYTES` on
other devices. A frame does not depend on the other times, so frames are the same for any chunks.
"""

import logging
from collections.abc import Callable, Iterator

import torch

from rdvfi.types import Times, Video

WORK_BYTES = 160
"""Bytes per motion-size pixel and time; RDVFI-S in float32 was measured to need 140."""
CPU_BYTES = 2**30
"""Bytes of a chunk on devices other than CUDA."""


_log = logging.getLogger(__name__)


class ChunkedDrawing:
    """Divides times into chunks, and stores the limit at which memory ran out."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self.at_once: int | None = None
        """Number of times per chunk since memory ran out; None if it never did."""

    def draw(self, frames_at: Callable[[Times], Video], times: Times, *, bytes_each: int) -> Video:
        """``frames_at(times)``, computed chunk by chunk; arguments as for `parts`."""
        buffer = _FrameBuffer(times.numel())
        result_bytes = bytes_each * times.numel()
        for frames in self.parts(frames_at, times, bytes_each=bytes_each, result_bytes=result_bytes):
            buffer.add(frames)
        return buffer.frames()

    def parts(
        self,
        frames_at: Callable[[Times], Video],
        times: Times,
        *,
        bytes_each: int,
        result_bytes: int = 0,
        at_most: int | None = None,
    ) -> Iterator[Video]:
        """Yield the frames of one chunk of times after the other, in order.

        When the device runs out of memory, chunks are halved, in this and in later calls, and a warning is logged.

        Args:
            frames_at: Draws frames at given times.
            times: All times, at least one.
            bytes_each: Bytes that one time needs, including its frame.
            result_bytes: Bytes of all frames, if the caller keeps them.
            at_most: Maximum number of times per chunk.

        Raises:
            torch.OutOfMemoryError: If there is not enough memory for a single time.
        """
        budget = _memory_budget(times.device, result_bytes=result_bytes)
        at_once = max(1, min(budget, self._limit or budget) // bytes_each)
        at_once = min(at_once, at_most or at_once)
        done = 0
        while done < times.numel():
            part = times[done : done + at_once]
            frames = _try_to_draw(frames_at, part)
            if frames is None:
                at_once = max(1, part.numel() // 2)
                self._limit_chunks(at_once, bytes_each, times.device)
            else:
                yield frames
                done += part.numel()

    def _limit_chunks(self, at_once: int, bytes_each: int, device: torch.device) -> None:
        if self._limit is None:
            _log.warning("memory ran out on %s: drawing %d frames at once from here on", device, at_once)
        self._limit, self.at_once = at_once * bytes_each, at_once
        if device.type == "cuda":
            torch.cuda.empty_cache()


class _FrameBuffer:
    """Collects frames chunk by chunk in one tensor, so that they are never in memory twice."""

    def __init__(self, count: int) -> None:
        self._count, self._done = count, 0
        self._chunks: list[Video] = []

    def add(self, frames: Video) -> None:
        t = frames.shape[1]
        if t == self._count or frames.requires_grad:
            self._chunks.append(frames)
        else:
            if not self._chunks:
                shape = (frames.shape[0], self._count, *frames.shape[2:])
                self._chunks.append(frames.new_empty(shape))
            self._chunks[0][:, self._done : self._done + t] = frames
        self._done += t

    def frames(self) -> Video:
        return self._chunks[0] if len(self._chunks) == 1 else torch.cat(self._chunks, dim=1)


def _try_to_draw(frames_at: Callable[[Times], Video], times: Times) -> Video | None:
    """The frames; None if memory ran out and there are several times, so that fewer can be tried."""
    try:
        return frames_at(times)
    except RuntimeError as error:
        if times.numel() == 1 or not is_out_of_memory(error):
            raise
    return None  # outside the handler, since the exception keeps the tensors of the failed call alive


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a device or in torch, OpenCV or another library on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return any(
        mark in text for mark in ("DefaultCPUAllocator", "Insufficient memory", "CUDA out of memory", "bad alloc")
    )


def _memory_budget(device: torch.device, *, result_bytes: int) -> int:
    """Bytes available for a chunk, in addition to ``result_bytes`` bytes of results."""
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch has reserved without using it is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free - result_bytes) // 2
