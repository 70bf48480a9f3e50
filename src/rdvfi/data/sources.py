"""Sources of training batches, and interleaving of several sources.

A source returns batches of a size, from a seed, beginning at any index:

    source.batches(size, seed, start=k)  ==  source.batches(size, seed) without its first k batches

Batch ``i`` depends on ``(size, seed, i)`` alone, not on the number of workers or on earlier batches. A run that
stops after ``k`` batches and resumes with ``start=k`` therefore sees the same batches as an uninterrupted one.
Skipped batches are not generated.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

Batch = dict[str, Tensor]
"""Tensors by name, batch axis first: ``frames`` (b, t, 3, h, w) in [0, 1], ``times`` (b, t), ..."""

ENDS_ONLY = "ends_only"
"""Key of a batch whose frames are the two ends, then free ones, without frames at the inner knots."""


@runtime_checkable
class BatchSource(Protocol):
    """A source of endless, repeatable batches."""

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches of ``size`` samples, beginning with batch ``start``."""
        ...


def interleave_sources(sources: Sequence[BatchSource], size: int, seed: int, start: int = 0) -> Iterator[Batch]:
    """Batches from several sources in turn; source ``i`` uses the seed ``seed + i``.

    Raises:
        ValueError: If there are no sources, or ``size`` or ``start`` is out of range.
    """
    check_batch_request(size, start)
    if not sources:
        raise ValueError("there are no sources to draw batches from")
    count = len(sources)
    # Before `start`, source i gave the batches whose index is i modulo the number of sources.
    starts = [(start - i + count - 1) // count for i in range(count)]
    streams = [source.batches(size, seed + i, starts[i]) for i, source in enumerate(sources)]
    return _interleave(streams, start)


def _interleave(streams: list[Iterator[Batch]], index: int) -> Iterator[Batch]:
    while True:
        yield next(streams[index % len(streams)])
        index += 1


def check_batch_request(size: int, start: int) -> None:
    """Raise a ValueError for a batch size below 1 or a start below 0."""
    if size < 1:
        raise ValueError(f"batch size is {size}; it must be at least 1")
    if start < 0:
        raise ValueError(f"batches cannot start at {start}; they are numbered from 0")


SampleFunction = Callable[[np.random.Generator], dict[str, np.ndarray]]
"""Makes one sample from a random generator: 8-bit ``frames`` (t, h, w, 3) and other arrays."""


class SampleStream:
    """A source of samples that ``make(rng)`` generates in background processes.

    Args:
        make: Makes one sample. With workers, processes must be able to inherit it.
        workers: Number of background processes; 0 makes samples in this process.
    """

    def __init__(self, make: SampleFunction, *, workers: int = 1) -> None:
        self._make, self._workers = make, workers

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; sample ``j`` of batch ``i`` is generated from ``(seed, i size + j)``."""
        check_batch_request(size, start)
        dataset = _BatchDataset(self._make, size, seed, start)
        prefetch = 4 if self._workers else None
        loader = DataLoader(dataset, batch_size=None, num_workers=self._workers, prefetch_factor=prefetch)
        return iter(loader)


class _BatchDataset(IterableDataset[Batch]):
    """Batches for a `DataLoader`, which takes them from its workers in turn and so keeps their order."""

    def __init__(self, make: SampleFunction, size: int, seed: int, start: int) -> None:
        self._make, self._size, self._seed, self._start = make, size, seed, start

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        index, step = (info.id, info.num_workers) if info else (0, 1)
        index += self._start
        while True:
            first = index * self._size
            yield default_collate(
                [
                    sample_to_tensors(self._make(np.random.default_rng([self._seed, number])))
                    for number in range(first, first + self._size)
                ]
            )
            index += step


def sample_to_tensors(sample: dict[str, np.ndarray]) -> Batch:
    """Convert frames to float (t, 3, h, w) in [0, 1], and other arrays to tensors."""
    tensors = {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in sample.items()}
    tensors["frames"] = tensors["frames"].permute(0, 3, 1, 2).float() / 255.0
    return tensors
