"""Progress of training at one step, and the random numbers of that step.

Everything random in a step is a function of (seed, step, part of the step), never of what was drawn
before. So a run that was stopped and goes on draws what it would have drawn, and nothing random has
to be stored. Numbers are drawn for the batch of all processes together and each process takes its
own rows: one process with a batch of 2n and two with batches of n see the same noise.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class TrainingStep:
    """One part of one step of training.

    Attributes:
        step: Steps done before this one.
        steps: Steps of the whole stage.
        seed: Of the run.
        part: Which batch of an accumulated step.
        rank: Number of this process.
        world: Processes in all.
        device: Where tensors shall be; they are drawn on the CPU, so that devices agree.
        clock: Share of the time that the stage may take, where there is a limit.
    """

    step: int
    steps: int
    seed: int = 0
    part: int = 0
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    clock: float = 0.0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self._number(0))

    @property
    def progress(self) -> float:
        """Share of training that is done, [0, 1]: of the steps, or of the time if that is further."""
        return min(1.0, max(self.step / max(1, self.steps), self.clock))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers; the first axis counts this process's samples."""
        return self._own(torch.randn(self._all(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1); the first axis counts this process's samples."""
        return self._own(torch.rand(self._all(shape), generator=self._generator))

    def seed_torch(self) -> None:
        """Set torch's own generators, which dropout and the like draw from."""
        torch.manual_seed(self._number(1 + self.rank))

    def _all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.world * shape[0], *shape[1:]

    def _own(self, drawn: Tensor) -> Tensor:
        own = drawn.chunk(self.world)[self.rank]
        if self.device.type == "cuda":
            own = own.pin_memory()  # or the copy would wait for the device
        return own.to(self.device, non_blocking=True)

    def _number(self, stream: int) -> int:
        entropy = [self.seed, self.step, self.part, stream]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
