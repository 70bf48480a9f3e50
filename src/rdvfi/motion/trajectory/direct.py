"""Direct regression: the ablation of iterative fusion.

The flow F_k from every keyframe to an end is regressed at once from the keyframe, the end and the
straight motion, with no recursion and no small motions (the paper's "direct warping"). The network has
the size of one fusion step and starts at the straight motion as well.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.interfaces import Basis, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.layers import ResidualBlock, conv, zero_conv
from rdvfi.motion.flow.local import MATCHED
from rdvfi.motion.trajectory.knots import KNOTS_BEFORE, Knots, basis_reach, trajectory_over
from rdvfi.motion.trajectory.straight_motion import StraightMotion, straight_motion_of
from rdvfi.ops import backward_warp, correlation
from rdvfi.registry import trajectories

_RADIUS = 3


class DirectRegression(TrajectoryModel):
    """Flow of each knot to the ends, computed at once.

    Args:
        basis: Interpolation in time.
        latent_channels: Channels of the latents.
        width: Channels of the network.
        knots: Along which paths the basis interpolates; see `rdvfi.motion.trajectory.knots`.
    """

    needs_prior = True

    def __init__(self, basis: Basis, latent_channels: int, width: int, knots: Knots) -> None:
        super().__init__()
        self.basis, self.knots, self.latent_channels = basis, knots, latent_channels
        self.basis_reach = basis_reach(knots)
        self.features = nn.Sequential(conv(latent_channels, width), ResidualBlock(width), nn.Conv2d(width, MATCHED, 1))
        inputs = MATCHED + (2 * _RADIUS + 1) ** 2 + 3
        self.regress = nn.Sequential(
            nn.Conv2d(inputs, width, 1), ResidualBlock(width), ResidualBlock(width), zero_conv(width, 2)
        )

    @property
    def reads(self) -> Reads:
        """Latents only."""
        return Reads.LATENTS

    def forward(self, keyframes: Keyframes) -> Trajectory:
        motion = straight_motion_of(keyframes)
        residual = self.residual_motion(keyframes, motion)
        return trajectory_over(self.knots, motion.flow_fields(residual), keyframes.times, self.basis)

    def residual_motion(self, keyframes: Keyframes, motion: StraightMotion) -> Float[Tensor, "b2 k 2 hz wz"]:
        """Departure of the flows to the end from the straight motion, as `IterativeFusion.residual_motion` gives it."""
        b, k = keyframes.latents.shape[:2]
        straight = motion.flows.flatten(0, 1)
        features = self.features(keyframes.latents.flatten(0, 1)).unflatten(0, (b, k))
        features = torch.cat((features, features.flip(1)))
        end = features[:, :1].expand_as(features).flatten(0, 1)
        here = features.flatten(0, 1)
        guess = backward_warp(end, straight)
        error = (here - guess).abs().mean(1, keepdim=True)
        inputs = (here, correlation(here, guess, _RADIUS), error, (0.1 * straight).to(here))
        residual = self.regress(torch.cat(inputs, dim=1)).float().unflatten(0, (2 * b, k))
        return torch.cat((torch.zeros_like(residual[:, :1]), residual[:, 1:]), dim=1)  # no flow at its end


@trajectories.register("direct", renamed=KNOTS_BEFORE)
def direct(*, basis: Basis, latent_channels: int = 16, width: int = 48, knots: Knots = Knots.MOVED) -> TrajectoryModel:
    """Direct regression of every knot's flow, the ablation of iterative fusion.

    Args:
        basis: Interpolation in time.
        latent_channels: Channels of the backbone's latents.
        width: Channels of the network.
        knots: `FIXED`, `MOVED` or `SOURCE`: along which paths the basis interpolates between the knots.
    """
    return DirectRegression(basis, latent_channels, width, knots)
