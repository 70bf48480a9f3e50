"""Drawing within bounded memory: the times are divided into chunks, which are halved when memory runs out.

Each time that is drawn needs small maps, about `WORK_BYTES` per pixel of the motion size, and its
frame. How many are drawn together follows from a budget: half of what is free on a CUDA device,
asked for once per call (the host asks the driver; no kernel is waited for), and `CPU_BYTES` on
others, where free memory says little. A time does not depend on the others, so the frames are the
same in any division.
"""

import logging
from collections.abc import Callable, Iterator

import torch

from rdvfi.types import Times, Video

WORK_BYTES = 160
"""Bytes per motion-size pixel and time; RDVFI-S in float32 was measured to need 140."""
CPU_BYTES = 2**30
"""Bytes of work at once where free memory is not asked for."""


_LOGGER = logging.getLogger(__name__)


class Chunks:
    """Divides times, and remembers how much was too much."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self.at_once: int | None = None
        """Times that are drawn at once since memory ran out; None if it never did."""

    def draw(self, frames_at: Callable[[Times], Video], times: Times, *, bytes_each: int) -> Video:
        """``frames_at(times)``, a part of the times after the other; arguments as for `parts`."""
        parts = _Parts(times.numel())
        held = bytes_each * times.numel()
        for frames in self.parts(frames_at, times, bytes_each=bytes_each, held=held):
            parts.add(frames)
        return parts.all()

    def parts(
        self,
        frames_at: Callable[[Times], Video],
        times: Times,
        *,
        bytes_each: int,
        held: int = 0,
        at_most: int | None = None,
    ) -> Iterator[Video]:
        """Frames at some times after the other, in order.

        When the device runs out of memory, half as many are tried at once, here and in later
        calls, and the log says so.

        Args:
            frames_at: Draws frames at some times.
            times: All times, at least one.
            bytes_each: Bytes that one time needs, its frame included.
            held: Bytes of frames that the caller keeps.
            at_most: Times to draw at once, even if there is memory for more.

        Raises:
            torch.OutOfMemoryError: If there is not enough memory for a single time.
        """
        budget = _budget(times.device, held=held)
        at_once = max(1, min(budget, self._limit or budget) // bytes_each)
        at_once = min(at_once, at_most or at_once)
        done = 0
        while done < times.numel():
            part = times[done : done + at_once]
            frames = _if_there_is_memory(frames_at, part)
            if frames is None:
                at_once = max(1, part.numel() // 2)
                self._remember(at_once, bytes_each, times.device)
            else:
                yield frames
                done += part.numel()

    def _remember(self, at_once: int, bytes_each: int, device: torch.device) -> None:
        if self._limit is None:
            _LOGGER.warning("memory ran out on %s: drawing %d frames at once from here on", device, at_once)
        self._limit, self.at_once = at_once * bytes_each, at_once
        if device.type == "cuda":
            torch.cuda.empty_cache()


class _Parts:
    """Frames part by part, written into one tensor so that they are never held twice."""

    def __init__(self, count: int) -> None:
        self._count, self.done = count, 0
        self._parts: list[Video] = []

    def add(self, frames: Video) -> None:
        t = frames.shape[1]
        if t == self._count or frames.requires_grad:
            self._parts.append(frames)
        else:
            if not self._parts:
                shape = (frames.shape[0], self._count, *frames.shape[2:])
                self._parts.append(frames.new_empty(shape))
            self._parts[0][:, self.done : self.done + t] = frames
        self.done += t

    def all(self) -> Video:
        return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts, dim=1)


def _if_there_is_memory(frames_at: Callable[[Times], Video], times: Times) -> Video | None:
    """Frames; None if memory ran out and fewer can be asked for."""
    try:
        return frames_at(times)
    except RuntimeError as error:
        if times.numel() == 1 or not is_out_of_memory(error):
            raise
    return None  # outside the handler: the exception holds on to the tensors of the failed call


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the memory of torch, OpenCV or another library on the CPU, had nothing left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return any(
        mark in text for mark in ("DefaultCPUAllocator", "Insufficient memory", "CUDA out of memory", "bad alloc")
    )


def _budget(device: torch.device, *, held: int) -> int:
    """Bytes to work with beside ``held`` bytes of results."""
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps without using it is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free - held) // 2
