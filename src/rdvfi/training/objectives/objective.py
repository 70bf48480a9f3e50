"""The interface between stages and the training engine: an objective, and a feed of batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from rdvfi.media.pixels import Picture
from rdvfi.training.objectives.training_step import TrainingStep

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]
Report = Callable[[str], None]
"""Receives lines on the progress of training."""


@runtime_checkable
class Feed(Protocol):
    """Batches by index: a stream that begins at any index gives the same batches, whenever it is opened."""

    def batches(self, start: int, stride: int = 1) -> Iterator[Batch]:
        """Endless batches with the indices ``start``, ``start + stride`` and so on."""
        ...


class Objective(nn.Module, ABC):
    """The trained module of a stage: its parameters that require gradients are optimised."""

    @abstractmethod
    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        """Weighted losses of one batch, by name; their sum is minimised."""

    def draw_sheet(self, batch: Batch, step: TrainingStep) -> Picture | None:
        """A picture that shows results on a batch, or None."""
        return None
