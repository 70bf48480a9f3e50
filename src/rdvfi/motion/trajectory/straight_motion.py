"""Straight motion at constant velocity: the initial estimate of every trajectory model, and a trajectory of its own.

With ``F_{0->1}`` and ``F_{1->0}`` the generator's coarse flow between the ends (`rdvfi.interfaces.MotionPrior`),
uniform straight motion gives the flows of every knot time tau to both ends (`rdvfi.ops.straight_flows`). For a
generator without coarse flow, the adjacent motions are composed instead. The generator's residual motion is added.

There are two scales. Models work on the latent grid, where flows are smooth. Where the motion is
straight, the straight flow on a grid of half the motion size is more accurate: it has sharp motion boundaries. This
detail is added to the latent-grid flows with a weight that decreases with the length of the residual motion,
since boundaries are displaced by it (`StraightMotion.flow_fields`).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length, resize_flow
from rdvfi.interfaces import Basis, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.motion.trajectory.knots import KNOTS_BEFORE, Knots, basis_reach, trajectory_over
from rdvfi.ops.flow_algebra import chain, straight_flows
from rdvfi.registry import trajectories
from rdvfi.types import Times

FIELD_STRIDE = 2
"""Motion-size pixels per pixel of the flow fields of a trajectory."""
_FADE = 0.15
"""Length of the residual motion, in latent pixels, at which the weight of the detail is 1/e."""
_NOISE = 0.02
"""Length of a deviation, in latent pixels, that is reduced by half as noise."""
_RESIDUAL_NOISE = 0.2
"""The same for residual motion that is used directly, without a trajectory network."""

Fields = Float[Tensor, "b2 k 2 hz wz"]


@dataclass(frozen=True, eq=False)
class StraightMotion:
    """Flows to the end at every knot, for both directions in one batch.

    Rows ``[:b]`` hold the flows to the first frame; rows ``[b:]`` those to the last frame
    in the order of the keyframes played backwards, so both halves start at zero.
    """

    straight: Fields
    """Straight motion on the latent grid."""
    detailed: Float[Tensor, "b2 k 2 h w"]
    """Straight motion on the fields' grid."""
    residual: Fields
    """The generator's residual motion, latent grid."""

    @property
    def flows(self) -> Fields:
        """Flows on the latent grid."""
        return self.straight + self.residual

    def flow_fields(self, residual: Fields | None = None) -> tuple[Tensor, Tensor]:
        """Flows to the first and to the last frame, (b, k, 2, h, w); ``residual`` is added to the residual motion."""
        b2, k = self.straight.shape[:2]
        size = (self.detailed.shape[-2], self.detailed.shape[-1])
        departure = _significant(self.residual if residual is None else self.residual + residual)
        fields = torch.cat((self.straight + departure, self.straight, departure)).flatten(0, 1)
        moved, plain, away = resize_flow(fields, size).unflatten(0, (-1, k)).chunk(3)
        scale = self.straight.shape[-1] / size[1]
        length = scale * flow_length(away)
        fields = moved + torch.exp(-length / _FADE) * (self.detailed - plain)
        return fields[: b2 // 2], fields[b2 // 2 :].flip(1)


def _significant(departure: Fields, noise: float = _NOISE) -> Fields:
    """Deviations, attenuated where they are tiny: the noise of networks in static regions."""
    square = departure.square().sum(2, keepdim=True)
    return departure * (square / (square + noise**2))


def straight_motion_of(
    keyframes: Keyframes, adjacent: Fields | None = None, *, with_residual: bool = True
) -> StraightMotion:
    """Straight motion at every knot, with the generator's own residual motion.

    Args:
        keyframes: The ``end_flows`` of their prior define the straight motion, if they have a prior.
        adjacent: Motion from each knot to the previous one, both directions in one batch; used if there is no prior.
        with_residual: Whether the residual motion of the prior is added.

    Raises:
        ValueError: If there is neither.
    """
    size = (keyframes.latents.shape[-2], keyframes.latents.shape[-1])
    prior = keyframes.prior
    if prior is not None:
        h, w = prior.end_flows.shape[-2:]
        ends, fine = prior.end_flows.float(), (h // FIELD_STRIDE, w // FIELD_STRIDE)
    elif adjacent is not None:
        whole = adjacent[:, 0]
        for i in range(1, adjacent.shape[1]):
            whole = chain(adjacent[:, i], whole)
        ends, fine = torch.stack(whole.chunk(2)[::-1], dim=1), size
    else:
        raise ValueError(
            "these keyframes carry no coarse motion (Keyframes.prior), which straight motion needs; "
            "use a backbone with a coarse flow, or the trajectory 'iterative'"
        )
    straight, detailed = (_lines(ends, keyframes.times, s) for s in (size, fine))
    residual_motion = torch.zeros_like(straight)
    if with_residual and prior is not None and prior.residual_motion is not None:
        to_first, to_last = prior.residual_motion.float().unbind(2)
        residual_motion = _both_ways((to_first, to_last))
    return StraightMotion(straight, detailed, residual_motion)


def _lines(ends: Float[Tensor, "b 2 2 h w"], times: Times, size: tuple[int, int]) -> Fields:
    """Uniform straight motion at every knot, on a grid of that size."""
    onward, back = resize_flow(ends.flatten(0, 1), size).unflatten(0, (-1, 2)).unbind(1)
    return _both_ways(straight_flows(onward, back, times))


def _both_ways(flows: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat((flows[0], flows[1].flip(1)))


class StraightTrajectory(TrajectoryModel):
    """Uniform straight motion along the generator's coarse flow; no networks.

    Args:
        basis: Interpolation in time.
        knots: Along which paths the basis interpolates; see `rdvfi.motion.trajectory.knots`.
        residual_motion: Whether the generator's residual motion is added.
    """

    needs_prior = True

    def __init__(self, basis: Basis, knots: Knots, *, residual_motion: bool = False) -> None:
        super().__init__()
        self.basis, self.knots, self.residual_motion = basis, knots, residual_motion
        self.basis_reach = basis_reach(knots)

    @property
    def reads(self) -> Reads:
        """Latents only."""
        return Reads.LATENTS

    def forward(self, keyframes: Keyframes) -> Trajectory:
        """The straight trajectory of the keyframes' prior."""
        motion = straight_motion_of(keyframes, with_residual=self.residual_motion)
        if self.residual_motion:  # no later network corrects the noise of the denoiser in static regions
            motion = replace(motion, residual=_significant(motion.residual, _RESIDUAL_NOISE))
        return trajectory_over(self.knots, motion.flow_fields(), keyframes.times, self.basis)


@trajectories.register("straight", renamed=KNOTS_BEFORE)
def straight(*, basis: Basis, knots: Knots = Knots.MOVED) -> TrajectoryModel:
    """Uniform straight motion along the coarse flow; needs no training.

    Args:
        basis: Interpolation in time.
        knots: `FIXED`, `MOVED` or `SOURCE`: along which paths the basis interpolates between the knots.
    """
    return StraightTrajectory(basis, knots)


@trajectories.register("prior")
def prior(*, basis: Basis, knots: Knots = Knots.MOVED) -> TrajectoryModel:
    """The generator's motion prior: straight motion and residual motion; no networks.

    Args:
        basis: Interpolation in time.
        knots: `FIXED`, `MOVED` or `SOURCE`: along which paths the basis interpolates between the knots.
    """
    return StraightTrajectory(basis, knots, residual_motion=True)
