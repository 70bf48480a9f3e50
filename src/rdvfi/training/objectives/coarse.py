"""Training of the coarse flow on pairs with known flow.

It learns from pairs (`rdvfi.data.pair_pool`) or from clips with exact flow. For an estimator that returns its
intermediate estimates, all of them and the matches are supervised; for others only the final flow. `matched-dis`
is trained through its learned member, since the selection among its candidates has no gradient.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.pair_pool import EXACT, FLOWS, STRIDES, VISIBLE
from rdvfi.data.pool import FLOW_STRIDE
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import FlowEstimator
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Picture
from rdvfi.motion.flow.matching import MatchedFlows
from rdvfi.training.losses.evidence import Estimates, Evidence, FlowPair, Matches, Needs, WeightedLosses
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.sample_sheet import draw_flow_sheet

_COARSEST, _FINEST = STRIDES[0], STRIDES[-1]
_MAX_SPREAD = 8.0
"""Largest difference, in pixels, of the flows of four cells that are averaged."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """A batch of pairs with known flow: of all pairs forward, then of all backward, so ``n = 2 b``.

    ``flows`` are by stride, in full-size pixels; ``exact`` is 1 where the flow of occluded points is known too.
    """

    first: Float[Tensor, "b 3 h w"]
    last: Float[Tensor, "b 3 h w"]
    flows: dict[int, Float[Tensor, "n 2 hs ws"]]
    visible: dict[int, Float[Tensor, "n hs ws"]]
    exact: Float[Tensor, " n"]

    @classmethod
    def of(cls, batch: Batch) -> "LabelledPair":
        """Read a batch for which `is_pair_batch` holds.

        Raises:
            ValueError: If it lacks a key of pairs.
        """
        missing = {"frames", EXACT, *FLOWS.values(), *VISIBLE.values()} - batch.keys()
        if missing:
            raise ValueError(f"a batch of pairs needs {sorted(missing)}; it has {sorted(batch)}")
        first, last = batch["frames"].unbind(1)
        flows = {stride: batch[name].transpose(0, 1).flatten(0, 1) for stride, name in FLOWS.items()}
        visible = {stride: batch[name].transpose(0, 1).flatten(0, 1) for stride, name in VISIBLE.items()}
        half = _halve_flow(flows[_COARSEST], visible[_COARSEST])
        flows[2 * _COARSEST], visible[2 * _COARSEST] = half
        return cls(first, last, flows, visible, batch[EXACT].repeat(2))

    def pair_with(self, estimate: Float[Tensor, "n 2 h w"]) -> FlowPair:
        """An estimate and the known flow on its grid, or at the finest stride for a full-size estimate.

        Raises:
            ValueError: If the flow is not known on the grid of the estimate.
        """
        height, width = self.first.shape[-2:]
        stride = height // estimate.shape[-2]
        if stride == 1:
            estimate, stride = F.avg_pool2d(estimate.float(), _FINEST), _FINEST
        else:
            estimate = estimate.float() * stride
        if stride not in self.flows or estimate.shape[-2:] != self.flows[stride].shape[-2:]:
            raise ValueError(
                f"an estimate of {tuple(estimate.shape[-2:])} cells has no known flow; pairs of {(height, width)} "
                f"have it at strides {', '.join(map(str, STRIDES))}"
            )
        return FlowPair(estimate, self.flows[stride], self.visible[stride])


def _halve_flow(
    flow: Float[Tensor, "n 2 h w"], visible: Float[Tensor, "n h w"]
) -> tuple[Float[Tensor, "n 2 hs ws"], Float[Tensor, "n hs ws"]]:
    """Flow and visibility on a grid of half the size; a cell is visible if its four cells are and move alike."""
    mean = F.avg_pool2d(flow, 2)
    spread = (F.max_pool2d(flow, 2) + F.max_pool2d(-flow, 2)).amax(1)
    all_visible = -F.max_pool2d(-visible[:, None].float(), 2)[:, 0]
    return mean, all_visible * (spread < _MAX_SPREAD)


def is_pair_batch(batch: Batch) -> bool:
    """Whether a batch contains pairs, not clips."""
    return FLOWS[_FINEST] in batch


@runtime_checkable
class WrapsLearnedFlow(Protocol):
    """A coarse flow that is trained through another estimator inside it."""

    learned: FlowEstimator


@runtime_checkable
class ReturnsEstimates(Protocol):
    """A flow estimator whose intermediate estimates can be supervised."""

    def estimates(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> tuple[list[Tensor], MatchedFlows | None]:
        """Estimates in both directions, each in pixels of its own grid, with or without ``fine`` ones, and matches."""
        ...


class CoarseFlowObjective(Objective):
    """Train the generator's own end-to-end flow.

    Args:
        model: The whole model; the coarse flow of its generator is trained.
        losses: ``estimates`` of pairs, ``flow`` of clips; ``matching`` of both, for `matching`.
        fine_from: Fraction of training before which `matching` stops after its first refinement. Fine estimates
            are only useful when the coarse ones are nearly right.

    Raises:
        ValueError: If the generator has no coarse flow.
    """

    def __init__(self, model: Interpolator, losses: WeightedLosses, *, fine_from: float = 0.0) -> None:
        super().__init__()
        self.model, self.losses, self.fine_from = model, losses, fine_from
        if not isinstance(self._coarse(), FlowEstimator):
            raise ValueError(f"{type(model.generator).__name__} has no coarse flow")

    def _coarse(self) -> object:
        return getattr(self.model.generator, "coarse", None)

    @property
    def estimator(self) -> FlowEstimator:
        """The estimator that is trained."""
        coarse = self._coarse()
        assert isinstance(coarse, FlowEstimator)
        return coarse.learned if isinstance(coarse, WrapsLearnedFlow) else coarse

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        if is_pair_batch(batch):
            evidence, supported = self._pair_evidence(LabelledPair.of(batch), step), Needs.ESTIMATES
        else:
            evidence, supported = self._clip_evidence(ClipBatch.of(batch), step), Needs.FLOW
        losses = self.losses(evidence)
        if not losses:
            raise ValueError(
                f"none of the losses {', '.join(self.losses.weights)} can be computed from these samples; give "
                f"losses.{supported.name.lower()} a weight"
            )
        # DDP waits for the gradient of every parameter; zero gradients are added for those not used yet.
        zero = 0.0 * torch.stack([parameter.sum() for parameter in self.estimator.parameters()]).sum()
        name = next(iter(losses))
        return {**losses, name: losses[name] + zero}

    def draw_sheet(self, batch: Batch, step: TrainingStep) -> Picture:
        samples = {name: value[:2] for name, value in batch.items()}
        if is_pair_batch(samples):
            pair = LabelledPair.of(samples)
            first, last = pair.first, pair.last
            exact, visible = pair.flows[_FINEST], pair.visible[_FINEST]
        else:
            clip = ClipBatch.of(samples)
            first, last = clip.first, clip.last
            exact, visible = _end_flows(clip)
            exact = FLOW_STRIDE * exact
        flow = self.estimator.both_ways(first, last)[0]
        return draw_flow_sheet(first, last, flow, exact[: len(first)], visible[: len(first)])

    def _estimates(self, first: Tensor, last: Tensor, step: TrainingStep) -> tuple[list[Tensor], MatchedFlows | None]:
        estimator = self.estimator
        if isinstance(estimator, ReturnsEstimates):
            return estimator.estimates(first, last, fine=step.progress >= self.fine_from)
        # Called directly: the generator fills occluded points, which would hide errors from the loss.
        return [torch.cat(estimator.both_ways(first, last))], None

    def _pair_evidence(self, pair: LabelledPair, step: TrainingStep) -> Evidence:
        """Every estimate with the known flow on its own grid."""
        flows, matched = self._estimates(pair.first, pair.last, step)
        pairs = [pair.pair_with(flow) for flow in flows]
        estimates, matches = Estimates(pairs, pair.exact, matched=matched is not None), None
        if matched is not None:
            stride = pair.first.shape[-2] // flows[0].shape[-2]
            matches = Matches(matched.logits, pair.flows[stride] / stride, pair.visible[stride])
        return Evidence(step.progress, estimates=estimates, matches=matches)

    def _clip_evidence(self, clip: ClipBatch, step: TrainingStep) -> Evidence:
        """Every estimate on the grid of the exact flow of clips."""
        exact, visible = _end_flows(clip)
        size = (exact.shape[-2], exact.shape[-1])
        flows, matched = self._estimates(clip.first, clip.last, step)
        predicted = torch.stack([resize_flow(flow.float(), size) for flow in flows])
        count, matches = len(flows), None
        if matched is not None and flows[0].shape[-2:] == size:
            matches = Matches(matched.logits, exact, visible)
        pair = FlowPair(predicted, exact.expand(count, -1, -1, -1, -1), visible.expand(count, -1, -1, -1))
        return Evidence(step.progress, flow=pair, matches=matches)


def _end_flows(clip: ClipBatch) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n h w"]]:
    """Exact flow from the first frames to the last and back, in latent pixels, and its visibility.

    Raises:
        ValueError: If the clips have no exact flow.
    """
    if clip.flows is None or clip.visible is None:
        raise ValueError("the coarse flow learns from exact flow, which these clips lack")
    exact = torch.cat((clip.flows[:, 0, 1], clip.flows[:, KNOTS - 1, 0]))
    return exact, torch.cat((clip.visible[:, 0, 1], clip.visible[:, KNOTS - 1, 0]))
