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
    """Kinds of inputs that a loss reads."""

    FRAMES = auto()
    DRAWING = auto()
    FLOW = auto()
    ADJACENT = auto()
    MATCHES = auto()
    ESTIMATES = auto()
    VELOCITY = auto()
    SAMPLER = auto()


@dataclass(frozen=True, eq=False)
class FramePair:
    """New frames and true ones, and the frozen encoder of the backbone."""

    made: Float[Tensor, "n 3 h w"]
    truth: Float[Tensor, "n 3 h w"]
    encode: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Maps:
    """Flows to the first and to the last frame, in pixels of their grid, and the first's share."""

    flows: Float[Tensor, "n 4 h w"]
    mask: Float[Tensor, "n 1 h w"]


@dataclass(frozen=True, eq=False)
class Drawing:
    """The maps of phi_s and their targets, on the trajectory's grid.

    ``refined`` are the maps of phi_s, ``plain`` those of the trajectory, its input. ``wanted`` are the target
    flows, of a teacher or exact; a teacher also gives a mask, and exact flow comes with the visibility of its points
    in both end frames. ``first``, ``last`` and ``truth`` are frames on this grid.
    """

    refined: Maps
    plain: Maps
    wanted: Float[Tensor, "n 4 h w"]
    first: Float[Tensor, "n 3 h w"]
    last: Float[Tensor, "n 3 h w"]
    truth: Float[Tensor, "n 3 h w"]
    wanted_mask: Float[Tensor, "n 1 h w"] | None = None
    visible: Float[Tensor, "n 2 h w"] | None = None


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Flows and exact ones, in latent pixels, with the visibility of their points."""

    made: Float[Tensor, "*n 2 h w"]
    exact: Float[Tensor, "*n 2 h w"]
    visible: Float[Tensor, "*n h w"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Logits of all matches between the cells of two pictures, and the exact flow in cells.

    Rows of the logits are cells of the source, row by row, as columns are of the target.
    """

    logits: Float[Tensor, "n m m"]
    exact: Float[Tensor, "n 2 h w"]
    visible: Float[Tensor, "n h w"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """All estimates of a flow estimator, from coarse to fine, each on its own grid.

    Flows are in full-size pixels. ``exact`` is 1 for samples whose flow is known at occluded points too.
    ``matched`` says whether the first estimate is the expectation over matches, which is not defined for
    occluded points.
    """

    pairs: list[FlowPair]
    exact: Float[Tensor, " n"]
    matched: bool


@dataclass(frozen=True, eq=False)
class GeneratorSampler:
    """The generator as a sampler: clean latents from pure noise, and the true ones."""

    sample: Callable[[Tensor], Tensor]
    clean: Float[Tensor, "b n c hz wz"]
    moment: TrainingStep


@dataclass(frozen=True, eq=False)
class Evidence:
    """Inputs of the losses for one batch; None where the objective does not compute them."""

    progress: float
    frames: FramePair | None = None
    drawing: Drawing | None = None
    flow: FlowPair | None = None
    adjacent: FlowPair | None = None
    matches: Matches | None = None
    estimates: Estimates | None = None
    velocity: tuple[Tensor, Tensor] | None = None
    """Predicted and true target of the network, in its own parameterisation."""
    sampler: GeneratorSampler | None = None

    def has(self, needed: Needs) -> bool:
        """Whether a part is there."""
        return getattr(self, needed.name.lower()) is not None


class Loss(nn.Module, ABC):
    """One number to be made small."""

    needs: Needs

    @abstractmethod
    def forward(self, evidence: Evidence) -> Tensor:
        """The unweighted loss; the needed part of the evidence is there."""


losses = Registry(Loss, "loss")


class Terms(nn.Module):
    """A weighted choice of losses.

    Args:
        weights: Weight by name; those at zero are not made.
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
        self.parts = nn.ModuleDict(
            {name: losses.create(name, **(settings or {}).get(name, {})) for name in self.weights}
        ).requires_grad_(False)

    def need(self, *parts: Needs) -> bool:
        """Whether any loss reads one of these parts."""
        return any(part.needs in parts for part in self._parts().values())

    def forward(self, evidence: Evidence) -> dict[str, Tensor]:
        """Weighted losses whose evidence is there."""
        return {
            name: self.weights[name] * part(evidence)
            for name, part in self._parts().items()
            if evidence.has(part.needs)
        }

    def _parts(self) -> dict[str, Loss]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Loss)}
