"""Learned flow by global matching: every feature is compared with all features of the other image.

A variant of GMFlow (Xu et al., 2022, https://arxiv.org/abs/2111.13680):

1. A small network computes features at stride 8; self- and cross-attention give them the context of both images.
2. All pairs of features are compared. With scores s, the logits of a match are ``2 s_ij - log sum_i' exp s_i'j``, a
   *dual softmax* (LoFTR; Sun et al., 2021, https://arxiv.org/abs/2104.00680), so that a pixel that several others match
   is assigned to the best one. The flow is the expectation over all matches, and their spread is its uncertainty.
3. Flow propagation: occluded pixels, which have no match, take the flow of similar pixels of the same image with low
   uncertainty, by attention over the flow (self-similarity).
4. Local cost volumes around the current flow refine it at strides 8 and 4; the forward-backward error is an input.
   Learned convex upsampling (RAFT; Teed and Deng, 2020, https://arxiv.org/abs/2003.12039) gives the flow at full size.

Both directions are always estimated together, with the same weights, so swapping the images swaps the flows.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import About
from rdvfi.geometry import replicate_pad, resize_flow
from rdvfi.interfaces import Count, FlowEstimator, Reads, Repeats
from rdvfi.layers import Chain, ResidualBlock, conv, zero_conv
from rdvfi.motion.flow.attention import MutualBlock, Norm
from rdvfi.motion.flow.gauss_newton import swap_halves
from rdvfi.motion.flow.match_ops import (
    both_directions,
    expected_flow,
    motion_features,
    sample_scores,
    standardise,
    upsample_convex,
)
from rdvfi.ops import backward_warp, correlation
from rdvfi.registry import flows

_MULTIPLE = 16
"""Image sides are padded to a multiple of this: features at stride 8 are pooled once more."""
_SHARPEST = 3.0
"""Logarithm of the largest score, which keeps the squared exponential of any score in the range of float32."""
_FINE = 40
"""Channels at stride 4."""
_COMPARED = 20
"""Channels at stride 4 in the cost volume."""
_HEAD = 64
"""Channels of the refinement at stride 8."""
_RADIUS, _FINE_RADIUS = 4, 2
"""Radii of the local cost volumes, in cells."""


@dataclass(frozen=True, eq=False)
class MatchedFlows:
    """Flow of a batch of pairs, from coarse to fine.

    Attributes:
        scores: Score of every match at stride 8; rows are cells of the first images.
        flows: All estimates, each in pixels of its own grid: forward flows, then backward flows,
            (2 b, 2, ...). The last one is at full size, where fine ones were requested.
        uncertainty: Log spread of the matches of each cell at stride 8, for both directions.
    """

    scores: Float[Tensor, "b m m"]
    flows: list[Tensor]
    uncertainty: Float[Tensor, "n 1 h w"]

    @property
    def logits(self) -> Float[Tensor, "n m m"]:
        """Logits of every match, forward, then backward; rows are source cells."""
        scores = both_directions(self.scores)
        return 2.0 * scores - scores.logsumexp(1, keepdim=True)


class Encoder(nn.Module):
    """Features at strides 4 and 8; colours in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = Chain(conv(12, 32), nn.SiLU(), conv(32, _FINE, stride=2), ResidualBlock(_FINE))
        self.coarse = Chain(nn.SiLU(), conv(_FINE, width, stride=2), ResidualBlock(width), ResidualBlock(width))

    def forward(
        self, images: Float[Tensor, "n 3 h w"]
    ) -> tuple[Float[Tensor, "n f hf wf"], Float[Tensor, "n c hc wc"]]:
        """Fine features, and coarse ones."""
        fine = self.fine(F.pixel_unshuffle(2.0 * images - 1.0, 2))
        return fine, self.coarse(fine)


class Update(nn.Module):
    """One refinement iteration: reads a local cost volume and updates the flow."""

    def __init__(self, features: int, width: int, radius: int) -> None:
        super().__init__()
        inputs = (2 * radius + 1) ** 2 + features + 4
        self.body = Chain(nn.Conv2d(inputs, width, 1), ResidualBlock(width), nn.SiLU(), conv(width, width))
        self.last = zero_conv(width, 2)

    def forward(
        self,
        scores: Float[Tensor, "n k h w"],
        near: Float[Tensor, "n c h w"],
        flow: Float[Tensor, "n 2 h w"],
        uncertainty: Float[Tensor, "n 1 h w"],
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n d h w"]]:
        """The update of the flow, and the features that it is computed from."""
        inputs = (scores.to(near), near, motion_features(flow, uncertainty, near.dtype))
        state = self.body(torch.cat(inputs, dim=1))
        return self.last(state).float(), state


class Matching(FlowEstimator):
    """Global matching, propagation and local refinement.

    Args:
        width: Channels at stride 8.
        heads: Heads of attention.
        blocks: Blocks of attention.
        steps: Refinement iterations at stride 8, with shared weights.
        fine_steps: Refinement iterations at stride 4, with shared weights.
    """

    reads = Reads.PIXELS

    def __init__(self, width: int, *, heads: int, blocks: int, steps: int, fine_steps: int) -> None:
        super().__init__()
        self.steps, self.fine_steps = steps, fine_steps
        self.encoder = Encoder(width)
        self.attention = nn.Sequential(*(MutualBlock(width, heads) for _ in range(blocks)))
        self.descriptor = nn.Sequential(Norm(width), nn.Conv2d(width, width, 1))
        self.sharpness = nn.Parameter(torch.tensor(2.3))
        self.kin = nn.Sequential(Norm(width), nn.Conv2d(width, 2 * width, 1))
        self.caution = nn.Parameter(torch.tensor(1.0))
        self.near = nn.Conv2d(2 * width, _HEAD, 1)
        self.update = Update(_HEAD, _HEAD, _RADIUS)
        self.fine = nn.Conv2d(_FINE + _HEAD, _FINE, 1)
        self.fine_update = Update(_FINE, _FINE, _FINE_RADIUS)
        self.weights = nn.Conv2d(_FINE, 9 * 16, 1)

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return self.both_ways(source, target)[0]

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        onward, back = self.find(first, second).flows[-1].chunk(2)
        return onward, back

    def estimates(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> tuple[list[Tensor], MatchedFlows | None]:
        """All estimates, and the matches: for training."""
        matched = self.find(first, second, fine=fine)
        return matched.flows, matched

    def find(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> MatchedFlows:
        """All estimates of both flows.

        Args:
            first: First images, in [0, 1].
            second: Second images.
            fine: False stops after one refinement at stride 8, at 3/5 of the cost.
        """
        h, w = first.shape[-2:]
        padded = (-(-h // _MULTIPLE) * _MULTIPLE, -(-w // _MULTIPLE) * _MULTIPLE)
        images = replicate_pad(torch.cat((first, second)).float(), padded)
        detail, plain = self.encoder(images.to(self.sharpness.dtype))
        coarse = self.attention(plain)
        scores = self._scores(coarse)
        with torch.autocast(coarse.device.type, enabled=False):  # coordinates need all their digits
            flow, uncertainty = expected_flow(scores, (coarse.shape[-2], coarse.shape[-1]))
        estimates = [flow]
        flow = self._propagate(coarse, flow, uncertainty)
        estimates.append(flow)
        near = self.near(torch.cat((plain, coarse), dim=1))
        # As in RAFT, no gradient passes through look-up positions, only through the updates.
        fixed_scores, uncertainty = both_directions(scores.detach()), uncertainty.detach()
        for _ in range(self.steps if fine else 1):
            costs = sample_scores(fixed_scores, flow.detach(), _RADIUS, near.dtype)
            added, _ = self.update(costs, near, flow.detach(), uncertainty)
            flow = flow + added
            estimates.append(flow)
        if not fine:
            return MatchedFlows(scores, estimates, uncertainty)
        size = (detail.shape[-2], detail.shape[-1])
        flow, rough = resize_flow(flow, size), F.interpolate(near, size, mode="bilinear")
        detail = self.fine(torch.cat((detail, rough), dim=1))
        spread = F.interpolate(uncertainty, size, mode="bilinear")
        compared = detail[:, :_COMPARED].float().contiguous()
        far, state = swap_halves(compared), detail
        for _ in range(self.fine_steps):
            costs = correlation(compared, backward_warp(far, flow.detach()), _FINE_RADIUS)
            added, state = self.fine_update(costs, detail, flow.detach(), spread)
            flow = flow + added
            estimates.append(flow)
        full = upsample_convex(flow, self.weights(state).float(), 4)
        estimates.append(full[..., :h, :w])
        return MatchedFlows(scores, estimates, uncertainty)

    def _scores(self, coarse: Float[Tensor, "n c h w"]) -> Float[Tensor, "b m m"]:
        descriptors = F.normalize(standardise(self.descriptor(coarse).float().flatten(2)), dim=1)
        descriptors = descriptors * (0.5 * self.sharpness.clamp(max=_SHARPEST)).exp()
        with torch.autocast(coarse.device.type, enabled=False):
            first, second = descriptors.chunk(2)
            return torch.bmm(first.transpose(1, 2), second)

    def _propagate(
        self, coarse: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 h w"], uncertainty: Float[Tensor, "n 1 h w"]
    ) -> Float[Tensor, "n 2 h w"]:
        """Flow propagation: attention over the flow, with a penalty on uncertain features."""
        query, key = self.kin(coarse).float().flatten(2).transpose(1, 2).chunk(2, dim=2)
        penalty = (self.caution.abs() * uncertainty).flatten(2)
        # Padded to the channels of the keys, as memory-efficient attention requires.
        value = F.pad(flow.flatten(2).transpose(1, 2), (0, key.shape[2] - 2))
        with torch.autocast(coarse.device.type, enabled=False):
            moved = F.scaled_dot_product_attention(
                query[:, None].contiguous(), key[:, None].contiguous(), value[:, None], attn_mask=-penalty[:, None]
            )
        return moved[:, 0, :, :2].transpose(1, 2).unflatten(2, (flow.shape[-2], flow.shape[-1]))


@flows.register(
    "matching",
    about=About(
        citation="after H. Xu et al.: GMFlow: Learning Optical Flow via Global Matching. CVPR 2022",
        url="https://arxiv.org/abs/2111.13680",
    ),
)
def matching(
    *, width: int = 96, heads: Count = 2, blocks: Count = 2, steps: Repeats = 3, fine_steps: Repeats = 2
) -> FlowEstimator:
    """Learned flow by global matching; reads pixels, and needs training.

    Args:
        width: Channels at stride 8.
        heads: Heads of attention; ``width`` is a multiple of four times as many.
        blocks: Blocks of attention.
        steps: Refinement iterations at stride 8.
        fine_steps: Refinement iterations at stride 4.
    """
    return Matching(width, heads=heads, blocks=blocks, steps=steps, fine_steps=fine_steps)
