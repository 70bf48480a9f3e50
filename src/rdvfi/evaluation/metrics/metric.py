"""The interface of a metric: values per window, and their mean.

A `Metric` looks at one window and gives one value per frame, or one per window. The value of a method is
the mean over everything it made; a metric whose values are ratios gives weights as well, so that its mean
is the ratio of the sums. A `SetMetric` compares two sets of frames (FID, FVD): it has one value for all.

Metrics are registered by name, so ``--metrics`` and plug-ins find them; `create_metrics` makes them, and
says of each that cannot be had (a package or the weights of a network missing) why.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.registry import Registry
from rdvfi.types import Flows

Frames = Float[Tensor, "n 3 H W"]
Values = Float[Tensor, " n"]


class Better(Enum):
    """Which values of a metric are good ones."""

    HIGHER = "higher"
    LOWER = "lower"
    NEAR_ONE = "near 1"


@dataclass(frozen=True, eq=False)
class MadeFrames:
    """What one method made in one window. ``frames`` are rounded to 8 bits, in [0, 1], on the CPU."""

    window: EvaluationWindow
    frames: Frames
    flows: tuple[Flows, Flows] | None = None
    """What `Method.flows` gave, where the true motion is known and a metric asks for it."""

    @cached_property
    def truth(self) -> Frames:
        """The true frames between, in [0, 1]."""
        return self.window.truth()

    @cached_property
    def sequences(self) -> tuple[Frames, Frames]:
        """The made and the true sequence, both with the two inputs at their ends."""
        first, last = self.window.inputs(torch.device("cpu"))
        return torch.cat((first, self.frames, last)), torch.cat((first, self.truth, last))


@dataclass(frozen=True)
class Sample:
    """Values of one window, and what each counts in the mean."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, values: Values | Sequence[float | int], weights: Values | None = None) -> "Sample":
        """Values that count alike, or by ``weights``."""
        found = tuple(float(value) for value in values)
        return cls(found, (1.0,) * len(found) if weights is None else tuple(weights.tolist()))


class Metric(nn.Module, ABC):
    """Compares the frames of one window with the true ones."""

    title: str
    """Heading of its column."""
    better: Better
    decimals: int = 4
    per_frame: bool = True
    """Whether it has a value for each new frame, so that there is one of the middle frame."""
    needs_flows: bool = False
    """Whether it reads `MadeFrames.flows`; such a metric is taken where the true motion is known."""

    @abstractmethod
    def measure(self, made: MadeFrames) -> Sample:
        """Values of the window: one per frame, or, where it is not `per_frame`, any number of them.

        Raises:
            ValueError: If the frames cannot be measured by it, for example because they are too small.
        """


class SetMetric(Metric):
    """Compares all frames that a method made with all true ones; it keeps what it has seen."""

    def measure(self, made: MadeFrames) -> Sample:
        """Takes the window in; there is no value of a single one."""
        self.add(made)
        return Sample((), ())

    @abstractmethod
    def add(self, made: MadeFrames) -> None:
        """Take the frames of one window in."""

    @abstractmethod
    def result(self) -> float:
        """The value of all that was taken in; raises ValueError if that is too little."""


metrics = Registry(Metric, "metric")
"""Metrics by name."""

DEFAULT = ("psnr", "ssim", "gradient-energy")
PERCEPTUAL = ("fsim", "vif", "gmsd")


def metric_class(name: str) -> type[Metric]:
    """What a registered metric is: its title, its direction, its decimals; raises KeyError if there is none."""
    factory = metrics[name]
    if not isinstance(factory, type):
        raise TypeError(f"metric {name!r} is registered by a function; register its class")
    return factory


def create_metric(name: str, *, device: str | torch.device = "cpu") -> Metric:
    """The metric of this name; its network, if it has one, runs on ``device``.

    Raises:
        KeyError: If there is none.
        ImportError: If it needs a package that is not installed.
        FileNotFoundError: If the weights of its network are not in the cache.
        ValueError: If they are of another hash.
    """
    takes = inspect.signature(metric_class(name)).parameters
    return metrics.create(name, **({"device": str(device)} if "device" in takes else {}))


def create_metrics(
    names: Sequence[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be had by name, and of the others why they cannot.

    Raises:
        ValueError: If there is no metric of some name, or one is named twice.
    """
    made: dict[str, Metric] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            metric_class(name)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None
        if name in made or name in missing:
            raise ValueError(f"metrics name {name!r} twice")
        try:
            made[name] = create_metric(name, device=device)
        except (ImportError, OSError, ValueError) as error:
            missing[name] = str(error)
    return made, missing
