"""Progress of training at one step, and the random numbers of that step.

All random numbers of a step are a function of (seed, step, micro-batch), never of earlier draws. A resumed run
therefore draws the same numbers as an uninterrupted one, and no random state has to be stored. Numbers are drawn
for the global batch of all processes, and each process uses its own rows: one process with a batch of 2n and two
processes with batches of n see the same noise.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class TrainingStep:
    """One micro-batch of one optimiser step.

    Attributes:
        index: Optimiser steps done before this one.
        total: Optimiser steps of the whole stage.
        seed: Seed of the run.
        micro_batch: Index of the batch within an accumulated step.
        rank: Index of this process.
        world_size: Number of processes.
        device: Device of the random tensors; they are drawn on the CPU, so that they do not depend on it.
        time_progress: Fraction of the stage's time limit that has passed; 0 without a limit.
    """

    index: int
    total: int
    seed: int = 0
    micro_batch: int = 0
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    time_progress: float = 0.0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self._stream_seed(0))

    @property
    def progress(self) -> float:
        """Fraction of training that is done, in [0, 1]: of the steps, or of the time limit if that is larger."""
        return min(1.0, max(self.index / max(1, self.total), self.time_progress))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers; the first axis counts the samples of this process."""
        return self._select_own_rows(torch.randn(self._global_shape(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1); the first axis counts the samples of this process."""
        return self._select_own_rows(torch.rand(self._global_shape(shape), generator=self._generator))

    def seed_torch(self) -> None:
        """Seed torch's global generators, which for example dropout uses."""
        torch.manual_seed(self._stream_seed(1 + self.rank))

    def _global_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.world_size * shape[0], *shape[1:]

    def _select_own_rows(self, numbers: Tensor) -> Tensor:
        rows = numbers.chunk(self.world_size)[self.rank]
        if self.device.type == "cuda":
            rows = rows.pin_memory()  # makes the copy asynchronous
        return rows.to(self.device, non_blocking=True)

    def _stream_seed(self, stream: int) -> int:
        entropy = [self.seed, self.index, self.micro_batch, stream]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
