"""phi_2: iterative fusion of small motions into the flow to each end frame.

From knot to knot the flow to the end frame grows by one small motion. With ``l`` the motion from
knot k+1 back to knot k, ``S`` the flow that the generator's own motion gives (straight motion and its
residual motion) and ``D`` the departure from it so far,

    F_k     = S_k + D_k,               D_0 = 0,
    carried = D_k moved along l,       composed = l + F_k(y + l) - S_{k+1},
    D_{k+1} = carried + g (composed - carried) + correction,

where a small network predicts the gate g and the correction. It reads the residual between knot k+1 and the end
frame's latent warped by each candidate, and a cost volume around the carried flow, which prevents drift over
eight steps. Its last layer is zero-initialised, so before training the trajectory is ``S``.

Both directions share the weights and run in one batch; the flow to the last frame is the same recursion on the flipped
keyframes, hence exactly time-symmetric. The method is that of RDVFI (ICLR 2026, section on trajectory estimation); the
recursion with a correction by warping error is related to AccFlow (Wu et al., ICCV 2023).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S1
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import Basis, FlowEstimator, Keyframes, Reads, Trajectory, TrajectoryModel
from rdvfi.layers import Chain, ResidualBlock, conv, zero_conv
from rdvfi.motion.flow.local import MATCHED
from rdvfi.motion.trajectory.knots import KNOTS_BEFORE, Knots, basis_reach, trajectory_over
from rdvfi.motion.trajectory.straight_motion import StraightMotion, straight_motion_of
from rdvfi.ops import backward_warp, chain, correlation
from rdvfi.ops.inference import operator
from rdvfi.registry import trajectories

_RADIUS = 2


class IterativeFusion(TrajectoryModel):
    """Recursive fusion of adjacent motions.

    Args:
        flow: Motion between neighbouring keyframes.
        basis: Interpolation in time.
        latent_channels: Channels of the latents.
        width: Channels of the network.
        knots: Along which paths the basis interpolates; see `rdvfi.motion.trajectory.knots`.
    """

    def __init__(self, flow: FlowEstimator, basis: Basis, latent_channels: int, width: int, knots: Knots) -> None:
        super().__init__()
        self.flow, self.basis, self.knots = flow, basis, knots
        self.basis_reach = basis_reach(knots)
        self.latent_channels = latent_channels
        self.compose_only = False
        """For ablation: skip the network and chain the adjacent motions as they are."""
        self.features = nn.Sequential(conv(latent_channels, width), ResidualBlock(width), nn.Conv2d(width, MATCHED, 1))
        inputs = MATCHED + (2 * _RADIUS + 1) ** 2 + 3 + 6
        self.fuse = Chain(nn.Conv2d(inputs, width, 1), ResidualBlock(width), ResidualBlock(width), zero_conv(width, 3))

    @property
    def reads(self) -> Reads:
        return self.flow.reads

    def forward(self, keyframes: Keyframes) -> Trajectory:
        adjacent = self.adjacent_flows(keyframes)
        motion = straight_motion_of(keyframes, adjacent)
        residual = self.residual_motion(keyframes, motion, adjacent)
        return trajectory_over(self.knots, motion.flow_fields(residual), keyframes.times, self.basis)

    def adjacent_flows(self, keyframes: Keyframes) -> Float[Tensor, "b2 k 2 hz wz"]:
        """Motion from each knot back to the one before, in latent pixels.

        The second half of the batch is the same for the keyframes played backwards.
        """
        size = keyframes.latents.shape[-2:]
        values = keyframes.images if self.reads is Reads.PIXELS else keyframes.latents
        if values is None:
            raise ValueError("the flow estimator reads pixels, but the keyframes have no images")
        both = torch.cat((values, values.flip(1)))
        b2, steps = both.shape[0], both.shape[1] - 1
        flow = self.flow(both[:, 1:].flatten(0, 1), both[:, :-1].flatten(0, 1))
        return resize_flow(flow, (size[0], size[1])).unflatten(0, (b2, steps))

    def residual_motion(
        self, keyframes: Keyframes, motion: StraightMotion, adjacent: Float[Tensor, "b2 s 2 hz wz"]
    ) -> Float[Tensor, "b2 k 2 hz wz"]:
        """Deviation D_k of the flows to the end from the generator's motion S_k, at every knot.

        Latent pixels; the second half of the batch is the backward direction.
        """
        b, k = keyframes.latents.shape[:2]
        straight = motion.flows
        features = self.features(keyframes.latents.flatten(0, 1)).unflatten(0, (b, k))
        features = torch.cat((features, features.flip(1)))
        residual = torch.zeros_like(straight[:, 0])
        residuals = [residual]
        for i in range(1, k):
            flows = carried_flows(adjacent[:, i - 1], straight[:, i - 1], straight[:, i], residual)
            if self.compose_only:
                residual = flows[:, 2:]
            else:
                residual = self._fuse(features[:, i], features[:, 0], straight[:, i], flows)
            residuals.append(residual)
        return torch.stack(residuals, dim=1)

    def _fuse(
        self,
        here: Float[Tensor, "n c h w"],
        end: Float[Tensor, "n c h w"],
        straight: Float[Tensor, "n 2 h w"],
        flows: Float[Tensor, "n 4 h w"],
    ) -> Float[Tensor, "n 2 h w"]:
        guess, beside = fusion_candidates(here, end, straight, flows)
        inputs = torch.cat((here, correlation(here, guess, _RADIUS), beside), dim=1)
        return fused_flow(flows, self.fuse(inputs))


@operator("iterative")
def carried_flows(step: Tensor, straight_before: Tensor, straight: Tensor, residual: Tensor) -> Tensor:
    """The deviation of the previous knot, carried along the step, and that of the composed flow: (n, 4, h, w)."""
    composed = chain(step, straight_before + residual) - straight
    return torch.cat((backward_warp(residual, step), composed), dim=1)


@operator("iterative")
def fusion_candidates(here: Tensor, end: Tensor, straight: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """The end frame's features, warped by the carried flow, and the other inputs of phi_2: residuals and flows."""
    carried, composed = flows.split(2, dim=1)
    guess = backward_warp(end, straight + carried)
    candidates = (guess, backward_warp(end, straight + composed), backward_warp(end, straight))
    errors = [(here - seen).abs().mean(1, keepdim=True) for seen in candidates]
    beside = (*errors, *(flow.to(here) for flow in (composed - carried, carried, 0.1 * straight)))
    return guess, torch.cat(beside, dim=1)


@operator("iterative")
def fused_flow(flows: Tensor, answer: Tensor) -> Tensor:
    """The gated mean of both candidates, plus the predicted correction."""
    carried, composed = flows.split(2, dim=1)
    return carried + answer[:, :1].float() * (composed - carried) + answer[:, 1:].float()


@trajectories.register("iterative", about=RDVFI_S1, renamed=KNOTS_BEFORE)
def iterative(
    *, flow: FlowEstimator, basis: Basis, latent_channels: int = 16, width: int = 48, knots: Knots = Knots.MOVED
) -> TrajectoryModel:
    """Iterative fusion of small motions (the paper's phi_1 and phi_2).

    Args:
        flow: Motion between neighbouring keyframes (phi_1).
        basis: Interpolation in time.
        latent_channels: Channels of the backbone's latents.
        width: Channels of the network.
        knots: `FIXED`, `MOVED` or `SOURCE`: along which paths the basis interpolates between the knots.
    """
    return IterativeFusion(flow, basis, latent_channels, width, knots)
