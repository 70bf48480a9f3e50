"""Inputs of the losses, computed once per batch (frames, flows, latents), and the weighted sum of losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.registry import Registry
from rdvfi.training.objectives.training_step import TrainingStep


class Needs(Enum):
    """Kinds of inputs of losses; `Evidence` has a field for each."""

    FRAMES = auto()
    MAPS = auto()
    FLOW = auto()
    ADJACENT = auto()
    MATCHES = auto()
    ESTIMATES = auto()
    VELOCITY = auto()
    SAMPLER = auto()


@dataclass(frozen=True, eq=False)
class FramePair:
    """Interpolated frames, the true frames, and the frozen encoder of the backbone."""

    predicted: Float[Tensor, "n 3 h w"]
    target: Float[Tensor, "n 3 h w"]
    encode: Callable[[Tensor], Tensor]

    @property
    def made(self) -> Float[Tensor, "n 3 h w"]:
        """The predicted frames, by the name of version 0.1.0."""
        return self.predicted

    @property
    def truth(self) -> Float[Tensor, "n 3 h w"]:
        """The true frames, by the name of version 0.1.0."""
        return self.target


@dataclass(frozen=True, eq=False)
class WarpMaps:
    """Flows to the first and to the last frame, in pixels of their grid, and the blending weight of the first."""

    flows: Float[Tensor, "n 4 h w"]
    mask: Float[Tensor, "n 1 h w"]


@dataclass(frozen=True, eq=False)
class MapSupervision:
    """The maps of phi_s and their targets, on the trajectory's grid.

    ``initial`` maps are the input of phi_s, ``refined`` ones its output. Target flows are those of a teacher, who
    also gives a mask, or exact flows, with the visibility of their points in both end frames. ``frame`` is the true
    frame between ``first`` and ``last``.
    """

    refined: WarpMaps
    initial: WarpMaps
    target_flows: Float[Tensor, "n 4 h w"]
    first: Float[Tensor, "n 3 h w"]
    last: Float[Tensor, "n 3 h w"]
    frame: Float[Tensor, "n 3 h w"]
    target_mask: Float[Tensor, "n 1 h w"] | None = None
    visible: Float[Tensor, "n 2 h w"] | None = None


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Predicted and exact flows in the same unit, and the visibility of their points in the target frame."""

    predicted: Float[Tensor, "*n 2 h w"]
    exact: Float[Tensor, "*n 2 h w"]
    visible: Float[Tensor, "*n h w"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Logits of all matches between the cells of two pictures, and the exact flow in cells.

    Rows of the logits are cells of the source in row-major order, columns those of the target.
    """

    logits: Float[Tensor, "n m m"]
    exact: Float[Tensor, "n 2 h w"]
    visible: Float[Tensor, "n h w"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """All estimates of a flow estimator, from coarse to fine, each on its own grid, in full-size pixels.

    ``exact`` is 1 for samples whose flow is also known at occluded points. ``matched`` says whether the first
    estimate is the expectation over matches, which is not defined for occluded points.
    """

    pairs: list[FlowPair]
    exact: Float[Tensor, " n"]
    matched: bool


@dataclass(frozen=True, eq=False)
class GeneratorSampler:
    """The generator as a sampler: clean latents from pure noise, and the true ones."""

    sample: Callable[[Tensor], Tensor]
    clean: Float[Tensor, "b n c hz wz"]
    step: TrainingStep


@dataclass(frozen=True, eq=False)
class Evidence:
    """Inputs of the losses for one batch; None where the objective does not compute them.

    ``flow`` leads to both ends, ``adjacent`` to neighbouring knots; ``velocity`` is the predicted and the true target
    of the network, in its own parameterisation.
    """

    progress: float
    frames: FramePair | None = None
    maps: MapSupervision | None = None
    flow: FlowPair | None = None
    adjacent: FlowPair | None = None
    matches: Matches | None = None
    estimates: Estimates | None = None
    velocity: tuple[Tensor, Tensor] | None = None
    sampler: GeneratorSampler | None = None

    def has(self, needs: Needs) -> bool:
        """Whether an input was computed."""
        return getattr(self, needs.name.lower()) is not None


class Loss(nn.Module, ABC):
    """A scalar loss; ``needs`` names the input of `Evidence` that it reads."""

    needs: Needs

    @abstractmethod
    def forward(self, evidence: Evidence) -> Tensor:
        """The unweighted loss; called only if the evidence has the needed input."""


losses = Registry(Loss, "loss")


class WeightedLosses(nn.Module):
    """The losses of a stage, with their weights.

    Args:
        weights: Weights by name; losses with weight zero are not created.
        settings: Parameters by name of the loss, where they differ from the defaults.

    Raises:
        ValueError: If no weight is positive, or one is negative.
    """

    def __init__(
        self, weights: Mapping[str, int | float], settings: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"losses.{name} must not be negative; got {weight}")
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError("every loss has weight zero; give one, such as losses.l2=1")
        options = settings or {}
        self.by_name: dict[str, Loss] = {name: losses.create(name, **options.get(name, {})) for name in self.weights}
        self.parts = nn.ModuleDict(self.by_name).requires_grad_(False)

    def needs_any(self, *needs: Needs) -> bool:
        """Whether any loss reads one of these inputs."""
        return any(loss.needs in needs for loss in self.by_name.values())

    def forward(self, evidence: Evidence) -> dict[str, Tensor]:
        """The weighted losses whose inputs were computed, by name."""
        available = {name: loss for name, loss in self.by_name.items() if evidence.has(loss.needs)}
        return {name: self.weights[name] * loss(evidence) for name, loss in available.items()}
