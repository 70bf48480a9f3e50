"""The interface of a metric: values per window, and their mean.

A `Metric` compares one window with the truth and returns values per frame or per window. The score of a method is
the mean over all windows; a metric whose values are ratios also returns weights, so that its mean
is the ratio of the sums. A `SetMetric` compares two sets of frames (FID, FVD) and has a single value.

Metrics are registered by name, for ``--metrics`` and plug-ins. `create_metrics` creates them, and reports
why one is unavailable (a missing package or missing weights).
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

from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.registry import Registry
from rdvfi.types import Flows

Frames = Float[Tensor, "n 3 H W"]
Values = Float[Tensor, " n"]


class Better(Enum):
    """Which values of a metric are better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEAR_ONE = "near 1"


@dataclass(frozen=True, eq=False)
class WindowResult:
    """The interpolated frames of one method in one window: rounded to 8 bits, in [0, 1], on the CPU."""

    window: EvaluationWindow
    frames: Frames
    flows: tuple[Flows, Flows] | None = None
    """The result of `Method.flows`, if the true motion is known and a metric needs it."""

    @cached_property
    def truth(self) -> Frames:
        """The true frames between the inputs, in [0, 1]."""
        return self.window.truth()

    @cached_property
    def sequences(self) -> tuple[Frames, Frames]:
        """The interpolated and the true sequence, each including both inputs."""
        first, last = self.window.inputs(torch.device("cpu"))
        return torch.cat((first, self.frames, last)), torch.cat((first, self.truth, last))


@dataclass(frozen=True)
class Sample:
    """Values of one window, and their weights in the mean."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, values: Values | Sequence[float | int], weights: Values | None = None) -> "Sample":
        """A sample with equal weights, or with ``weights``."""
        floats = tuple(float(value) for value in values)
        return cls(floats, (1.0,) * len(floats) if weights is None else tuple(weights.tolist()))


class Metric(nn.Module, ABC):
    """Compares the frames of one window with the true ones."""

    title: str
    """Heading of its column in tables."""
    better: Better
    decimals: int = 4
    per_frame: bool = True
    """Whether it has one value per interpolated frame, and so a value for the middle frame."""
    needs_flows: bool = False
    """Whether it uses `WindowResult.flows`. Such a metric is computed only if the true motion is known."""

    @abstractmethod
    def measure(self, result: WindowResult) -> Sample:
        """Values of the window: one per frame if `per_frame`, else any number.

        Raises:
            ValueError: If the metric is not defined for the frames, for example because they are too small.
        """


class SetMetric(Metric):
    """Compares the set of all interpolated frames with the set of all true ones; accumulates over windows."""

    def measure(self, result: WindowResult) -> Sample:
        """Accumulate the window. There is no value per window."""
        self.update(result)
        return Sample((), ())

    @abstractmethod
    def update(self, result: WindowResult) -> None:
        """Accumulate the frames of one window."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all windows; raises ValueError if there are too few frames."""


metrics = Registry(Metric, "metric")
"""Metrics by name."""

DEFAULT_METRICS = ("psnr", "ssim", "gradient-energy")
PERCEPTUAL_METRICS = ("fsim", "vif", "gmsd")


def metric_class(name: str) -> type[Metric]:
    """The class of a registered metric; raises KeyError if there is none of this name."""
    factory = metrics[name]
    if not isinstance(factory, type):
        raise TypeError(f"metric {name!r} is registered by a function; register its class")
    return factory


def create_metric(name: str, *, device: str | torch.device = "cpu") -> Metric:
    """Create the metric of this name; its network, if any, runs on ``device``.

    Raises:
        KeyError: If there is no metric of this name.
        ImportError: If it needs a package that is not installed.
        FileNotFoundError: If the weights of its network are not in the cache.
        ValueError: If the hash of these weights differs.
    """
    parameters = inspect.signature(metric_class(name)).parameters
    return metrics.create(name, **({"device": str(device)} if "device" in parameters else {}))


def create_metrics(
    names: Sequence[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Create metrics; return the available ones by name, and the reasons why others are unavailable, by name.

    Raises:
        ValueError: If there is no metric of some name, or one is named twice.
    """
    created: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        try:
            metric_class(name)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None
        if name in created or name in unavailable:
            raise ValueError(f"metrics name {name!r} twice")
        try:
            created[name] = create_metric(name, device=device)
        except (ImportError, OSError, ValueError) as error:
            unavailable[name] = str(error)
    return created, unavailable
