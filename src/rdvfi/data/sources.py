"""Sources of training batches, and mixing several of them.

A source is asked for batches of a size, from a seed, from any index on:

    source.batches(size, seed, start=k)  ==  source.batches(size, seed) without its first k batches

and batch ``i`` depends on ``(size, seed, i)`` alone, not on the number of workers nor on what was
drawn before. So a run that is stopped after ``k`` batches and goes on from ``start=k`` sees what it
would have seen. Reaching ``start`` is cheap: nothing that is passed over is made.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

Batch = dict[str, Tensor]
"""Named tensors, the batch first: ``frames`` (b, t, 3, h, w) in [0, 1], ``times`` (b, t), ..."""

ENDS_ONLY = "ends_only"
"""Key of a batch whose frames are the two ends and then free ones: nothing is known at the knots."""


@runtime_checkable
class BatchSource(Protocol):
    """Anything that gives endless, repeatable batches."""

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches of ``size`` samples, from number ``start`` on."""
        ...


def mixed(sources: Sequence[BatchSource], size: int, seed: int, start: int = 0) -> Iterator[Batch]:
    """Batches from several sources in turn; source ``i`` draws with seed ``seed + i``.

    Raises:
        ValueError: If there are no sources, or ``size`` or ``start`` is out of range.
    """
    check(size, start)
    if not sources:
        raise ValueError("there are no sources to draw batches from")
    number = len(sources)
    # Of the batches before `start`, source i gave every one whose number is i modulo their number.
    given = [(start - i + number - 1) // number for i in range(number)]
    streams = [source.batches(size, seed + i, given[i]) for i, source in enumerate(sources)]
    return _turns(streams, start)


def _turns(streams: list[Iterator[Batch]], index: int) -> Iterator[Batch]:
    while True:
        yield next(streams[index % len(streams)])
        index += 1


def check(size: int, start: int) -> None:
    """Refuse a batch size below 1 and a start below 0."""
    if size < 1:
        raise ValueError(f"batch size is {size}; it must be at least 1")
    if start < 0:
        raise ValueError(f"batches cannot start at {start}; they are numbered from 0")


Make = Callable[[np.random.Generator], dict[str, np.ndarray]]
"""Makes one sample from a source of randomness: 8-bit ``frames`` (t, h, w, 3) and other arrays."""


class Stream:
    """Samples made by ``make(rng)``, in background processes.

    Args:
        make: Makes one sample; with workers it must be what processes can inherit.
        workers: Processes; 0 makes samples in this one.
    """

    def __init__(self, make: Make, *, workers: int = 1) -> None:
        self._make, self._workers = make, workers

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; sample ``j`` of batch ``i`` is made from ``(seed, i size + j)``."""
        check(size, start)
        dataset = _Batches(self._make, size, seed, start)
        ahead = 4 if self._workers else None
        loader = DataLoader(dataset, batch_size=None, num_workers=self._workers, prefetch_factor=ahead)
        return iter(loader)


class _Batches(IterableDataset[Batch]):
    """Whole batches; the loader takes them from its workers in turn, so their order holds."""

    def __init__(self, make: Make, size: int, seed: int, start: int) -> None:
        self._make, self._size, self._seed, self._start = make, size, seed, start

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        index, step = (info.id, info.num_workers) if info else (0, 1)
        index += self._start
        while True:
            first = index * self._size
            yield default_collate(
                [
                    to_tensors(self._make(np.random.default_rng([self._seed, number])))
                    for number in range(first, first + self._size)
                ]
            )
            index += step


def to_tensors(sample: dict[str, np.ndarray]) -> Batch:
    """Frames to float (t, 3, h, w) in [0, 1]; the rest unchanged."""
    tensors = {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in sample.items()}
    tensors["frames"] = tensors["frames"].permute(0, 3, 1, 2).float() / 255.0
    return tensors
