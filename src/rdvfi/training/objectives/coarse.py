"""Training of the coarse flow on pairs with known flow.

It learns from pairs (`rdvfi.data.pair_pool`) or from clips with exact flow. A flow that is found by
matching has every estimate on its way compared, and the matches themselves; of another one only the
result is known. `matched-dis` learns by its learned member: what is chosen from it has no gradient.
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
from rdvfi.training.losses.evidence import Estimates, Evidence, FlowPair, Matches, Needs, Terms
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.sample_sheet import draw_flows

_COARSEST, _FINEST = STRIDES[0], STRIDES[-1]
_ONE_SURFACE = 8.0
"""Pixels by which the flows of four cells may differ to be those of one twice as wide."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """A batch of pairs: the pictures, and the flow of the pairs one way and then the other.

    ``flows`` are by stride, in full-size pixels; ``exact`` is 1 where occluded points are known too.
    """

    first: Float[Tensor, "b 3 h w"]
    last: Float[Tensor, "b 3 h w"]
    flows: dict[int, Float[Tensor, "n 2 hs ws"]]
    visible: dict[int, Float[Tensor, "n hs ws"]]
    exact: Float[Tensor, " n"]

    @classmethod
    def of(cls, batch: Batch) -> "LabelledPair":
        """Read a batch; whether it is one of pairs is told by `holds_pairs`.

        Raises:
            ValueError: If it lacks what pairs have.
        """
        lacking = {"frames", EXACT, *FLOWS.values(), *VISIBLE.values()} - batch.keys()
        if lacking:
            raise ValueError(f"a batch of pairs needs {sorted(lacking)}; it has {sorted(batch)}")
        first, last = batch["frames"].unbind(1)
        flows = {s: batch[name].transpose(0, 1).flatten(0, 1) for s, name in FLOWS.items()}
        seen = {s: batch[name].transpose(0, 1).flatten(0, 1) for s, name in VISIBLE.items()}
        flows[2 * _COARSEST], seen[2 * _COARSEST] = _pooled(flows[_COARSEST], seen[_COARSEST])
        return cls(first, last, flows, seen, batch[EXACT].repeat(2))

    def known(self, made: Float[Tensor, "n 2 h w"], size: tuple[int, int]) -> FlowPair:
        """An estimate on the grid of known flow that is nearest to its own.

        Raises:
            ValueError: If the grid is none of those on which flow is known, nor full size.
        """
        stride = size[0] // made.shape[-2]
        if stride == 1:
            made, stride = F.avg_pool2d(made.float(), _FINEST), _FINEST
        else:
            made = made.float() * stride
        if stride not in self.flows or made.shape[-2:] != self.flows[stride].shape[-2:]:
            raise ValueError(
                f"an estimate of {tuple(made.shape[-2:])} cells has no known flow; pairs of {size} "
                f"have it at strides {', '.join(map(str, STRIDES))}"
            )
        return FlowPair(made, self.flows[stride], self.visible[stride])


def _pooled(
    flow: Float[Tensor, "n 2 h w"], visible: Float[Tensor, "n h w"]
) -> tuple[Float[Tensor, "n 2 hs ws"], Float[Tensor, "n hs ws"]]:
    """The same on a grid of half the size; known where four cells are, and move as one."""
    mean = F.avg_pool2d(flow, 2)
    spread = (F.max_pool2d(flow, 2) + F.max_pool2d(-flow, 2)).amax(1)
    seen = -F.max_pool2d(-visible[:, None].float(), 2)[:, 0]
    return mean, seen * (spread < _ONE_SURFACE)


def holds_pairs(batch: Batch) -> bool:
    """Whether a batch is one of pairs, not of clips."""
    return FLOWS[_FINEST] in batch


@runtime_checkable
class Wraps(Protocol):
    """A coarse flow that learns by another one inside it: what is chosen from that has no gradient."""

    learned: FlowEstimator


@runtime_checkable
class ShowsEstimates(Protocol):
    """A flow estimator whose every estimate on the way can be compared with known flow."""

    def estimates(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> tuple[list[Tensor], MatchedFlows | None]:
        """Estimates both ways, each in pixels of its own grid, and the matches, if it matches.

        Args:
            first: First pictures.
            second: Last pictures.
            fine: Whether those that are refined closely are wanted too.
        """
        ...


class CoarseFlow(Objective):
    """Train the generator's own end-to-end flow.

    Args:
        model: The whole model; the coarse flow of its generator is trained.
        terms: ``estimates`` of pairs, ``flow`` of clips; ``matching`` of both, for `matching`.
        fine_from: Share of training before which `matching` stops at its first refinement. Where to
            look closely is worth learning when it is nearly known.

    Raises:
        ValueError: If the generator has no coarse flow.
    """

    def __init__(self, model: Interpolator, terms: Terms, *, fine_from: float = 0.0) -> None:
        super().__init__()
        self.model, self.terms, self.fine_from = model, terms, fine_from
        if not isinstance(self._coarse(), FlowEstimator):
            raise ValueError(f"{type(model.generator).__name__} has no coarse flow")

    def _coarse(self) -> object:
        return getattr(self.model.generator, "coarse", None)

    @property
    def estimator(self) -> FlowEstimator:
        """The estimator that is trained."""
        coarse = self._coarse()
        assert isinstance(coarse, FlowEstimator)
        return coarse.learned if isinstance(coarse, Wraps) else coarse

    def forward(self, batch: Batch, moment: TrainingStep) -> Losses:
        evidence = (
            self._of_pairs(LabelledPair.of(batch), moment)
            if holds_pairs(batch)
            else self._of_clips(ClipBatch.of(batch), moment)
        )
        found = self.terms(evidence)
        if not found:
            wanted = Needs.ESTIMATES if holds_pairs(batch) else Needs.FLOW
            raise ValueError(
                f"no loss of {', '.join(self.terms.weights)} reads what these samples tell; give "
                f"losses.{wanted.name.lower()} a weight"
            )
        # Processes wait for the gradient of every weight: that of those not used yet is zero.
        idle = torch.stack([weights.sum() for weights in self.estimator.parameters()]).sum()
        name = next(iter(found))
        return {**found, name: found[name] + 0.0 * idle}

    def pictures(self, batch: Batch, moment: TrainingStep) -> Picture:
        few = {name: value[:2] for name, value in batch.items()}
        if holds_pairs(few):
            pair = LabelledPair.of(few)
            first, last = pair.first, pair.last
            known, seen = pair.flows[_FINEST], pair.visible[_FINEST]
        else:
            clip = ClipBatch.of(few)
            first, last = clip.first, clip.last
            known, seen = _ends(clip)
            known = FLOW_STRIDE * known
        flow = self.estimator.both_ways(first, last)[0]
        return draw_flows(first, last, flow, known[: len(first)], seen[: len(first)])

    def _estimates(self, first: Tensor, last: Tensor, moment: TrainingStep) -> tuple[list[Tensor], MatchedFlows | None]:
        """Every estimate on the way to the flow, each in pixels of its own grid, and the matches."""
        estimator = self.estimator
        if isinstance(estimator, ShowsEstimates):
            return estimator.estimates(first, last, fine=moment.progress >= self.fine_from)
        # The estimator's own: what a generator fills in would hide its mistakes from the loss.
        return [torch.cat(estimator.both_ways(first, last))], None

    def _of_pairs(self, pair: LabelledPair, moment: TrainingStep) -> Evidence:
        """Every estimate beside the flow on its own grid."""
        size = (pair.first.shape[-2], pair.first.shape[-1])
        flows, matched = self._estimates(pair.first, pair.last, moment)
        known = [pair.known(flow, size) for flow in flows]
        estimates, matches = Estimates(known, pair.exact, matched=matched is not None), None
        if matched is not None:
            stride = size[0] // flows[0].shape[-2]
            matches = Matches(matched.logits, pair.flows[stride] / stride, pair.visible[stride])
        return Evidence(moment.progress, estimates=estimates, matches=matches)

    def _of_clips(self, clip: ClipBatch, moment: TrainingStep) -> Evidence:
        """Every estimate on the one grid on which clips have exact flow."""
        exact, seen = _ends(clip)
        size = (exact.shape[-2], exact.shape[-1])
        flows, matched = self._estimates(clip.first, clip.last, moment)
        made = torch.stack([resize_flow(flow.float(), size) for flow in flows])
        count, matches = len(flows), None
        if matched is not None and flows[0].shape[-2:] == size:
            matches = Matches(matched.logits, exact, seen)
        pair = FlowPair(made, exact.expand(count, -1, -1, -1, -1), seen.expand(count, -1, -1, -1))
        return Evidence(moment.progress, flow=pair, matches=matches)


def _ends(clip: ClipBatch) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n h w"]]:
    """Exact flow from the first frames to the last and then back, in cells, and where it is seen.

    Raises:
        ValueError: If the clips have none.
    """
    if clip.flows is None or clip.visible is None:
        raise ValueError("the coarse flow learns from exact flow, which these clips lack")
    exact = torch.cat((clip.flows[:, 0, 1], clip.flows[:, KNOTS - 1, 0]))
    return exact, torch.cat((clip.visible[:, 0, 1], clip.visible[:, KNOTS - 1, 0]))
