"""RDVFI-S's coarse flow: global matching, local refinement, and a patch search, on tensors alone.

Global matching compares all pixels with all, so it finds large displacements, but on a coarse grid: its flow is
accurate to about a pixel, which is enough to blur a static background. Patch search is accurate to a small fraction of
a pixel, but finds only small displacements. `GlobalLocal` therefore combines them, from coarse to fine:

1. `rdvfi.motion.flow.matching` estimates flow on images of half the size.
2. At strides 4 and 2 a small network refines it. Its weights are shared by all iterations (as in RAFT; Teed and Deng,
   2020, https://arxiv.org/abs/2003.12039). It reads a local cost volume of learned features, the residual of the warped
   images, the forward-backward error, and Gauss-Newton steps (`rdvfi.motion.flow.gauss_newton`). It predicts weights of
   four candidate updates, and a free update. The candidates are the Gauss-Newton steps of two window sizes, the mean
   flow of consistent neighbours, and zero flow, which is correct for subtitles, bars and fixed cameras.
3. From stride 4 to 2 the flow is upsampled by learned convex combinations, which keep motion boundaries sharp; from
   stride 2 to full size bilinearly.
4. A patch search (`rdvfi.motion.flow.patch_search`) makes it accurate; it also finds large rotations.

All weights and updates are zero-initialised, so before training the result is the flow of the matching. There is no
hard selection in the networks, so small changes of the images change the flow little. Shapes depend on the image size
alone, and no value is copied to the host. Forward and backward flow are estimated together with the same weights.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S
from rdvfi.geometry import replicate_pad, resize_flow, resize_image
from rdvfi.interfaces import Count, FlowEstimator, Reads, Repeats
from rdvfi.layers import Chain, ResidualBlock, conv
from rdvfi.motion.flow.gauss_newton import NormalisedImages, swap_halves
from rdvfi.motion.flow.local_refinement import (
    INPUT_CHANNELS,
    Features,
    RefinementInputs,
    RefinementStep,
    TwoScaleBlock,
    bilinear_conv,
)
from rdvfi.motion.flow.match_ops import upsample_convex
from rdvfi.motion.flow.matching import MatchedFlows, Matching
from rdvfi.motion.flow.patch_search import search_patches
from rdvfi.ops import backward_warp, correlation
from rdvfi.ops.inference import inference_operator
from rdvfi.registry import flows

MULTIPLE = 32
"""Both image sides are padded to a multiple of this, so that half of it suits the matching."""
_SHRINK = 2
_COST_CHANNELS = 24
"""Channels of the features in the local cost volume."""
_RADIUS = 3
"""Radius of the local cost volume, in cells of stride 4."""
_EXPOSURE_RAMP = (0.3, 0.7)
"""Log ratios of the mean brightness of the images at which its compensation begins, and is complete."""
_BLACK = 1.0 / 255.0
"""Added to the mean brightness, so that the ratio of black images is 1."""
_BAR_NOISE = 4.0 / 255.0
"""Largest difference of colour within a letterbox bar (coding noise)."""


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined flow and the estimates that led to it.

    Attributes:
        matched: Result of the matching, at half size.
        flows: Estimates at strides 4 and 2, each in pixels of its own grid; forward flows of all pairs, then
            backward flows. The last estimate is the finest.
    """

    matched: MatchedFlows
    flows: list[Float[Tensor, "n 2 _ _"]]


class GlobalLocal(FlowEstimator):
    """Matching, refinement, then patch search.

    Args:
        matching: Estimates flow at half the image size.
        width: Channels at stride 4.
        fine_width: Channels at stride 2.
        steps: Refinement iterations at stride 4, with shared weights.
        fine_steps: Refinement iterations at stride 2, with shared weights.
        patch_rounds: Rounds of the patch search at each of its scales; 0 omits it.
    """

    reads = Reads.PIXELS

    def __init__(
        self, matching: Matching, *, width: int, fine_width: int, steps: int, fine_steps: int, patch_rounds: int
    ) -> None:
        super().__init__()
        if steps < 1 or fine_steps < 0 or patch_rounds < 0:
            raise ValueError(
                "steps must be at least 1, fine_steps and patch_rounds at least 0; "
                f"got {steps}, {fine_steps} and {patch_rounds}"
            )
        self.matching, self.steps, self.fine_steps = matching, steps, fine_steps
        self.patch_rounds = patch_rounds
        self.features = Features(fine_width, width)
        self.descriptor = nn.Conv2d(width, _COST_CHANNELS, 1)
        scores = (2 * _RADIUS + 1) ** 2
        self.step = RefinementStep(scores + 16 + INPUT_CHANNELS, width, TwoScaleBlock(width))
        self.upsample = bilinear_conv(width)
        self.enter = nn.Conv2d(width, fine_width, 1)
        body = Chain(nn.SiLU(), conv(fine_width, fine_width), ResidualBlock(fine_width))
        self.fine_step = RefinementStep(4 + INPUT_CHANNELS, fine_width, body)

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return self.both_ways(source, target)[0]

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        """See `rdvfi.interfaces.FlowEstimator.both_ways`. No gradient passes through a patch search."""
        h, w = first.shape[-2:]
        images = match_brightness(_pad_pair(first, second))
        flow = self._refine(images).flows[-1]
        if self.patch_rounds:
            flow = search_patches(images, flow, rounds=self.patch_rounds)
        still = F.avg_pool2d(static_bars(images), 2) > 0.99
        flow = flow.unflatten(0, (2, -1)).masked_fill(still, 0.0).flatten(0, 1)
        onward, back = resize_flow(flow, (images.shape[-2], images.shape[-1]))[..., :h, :w].chunk(2)
        return onward, back

    def find(self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]) -> Refined:
        """All estimates of the networks, without the patch search: for training."""
        return self._refine(_pad_pair(first, second))

    def estimates(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> tuple[list[Tensor], MatchedFlows | None]:
        """All estimates, those of the matching first, and the matches; ``fine`` has no effect here."""
        refined = self.find(first, second)
        return [*refined.matched.flows, *refined.flows], refined.matched

    def _refine(self, images: Float[Tensor, "n 3 h w"]) -> Refined:
        size = (images.shape[-2], images.shape[-1])
        small = resize_image(images, (size[0] // _SHRINK, size[1] // _SHRINK))
        matched = self.matching.find(*small.chunk(2))
        uncertainty = F.interpolate(
            matched.uncertainty, (size[0] // 4, size[1] // 4), mode="bilinear", align_corners=False
        )
        flow = 0.5 * F.avg_pool2d(matched.flows[-1].float(), 2)
        fine, state = self.features(images)
        with torch.no_grad():
            normalised = NormalisedImages.of(images)
        flow, state, estimates = self._coarse(normalised, state, flow, uncertainty)
        if self.fine_steps:
            estimates += self._fine(normalised, fine, state, flow, uncertainty)
        return Refined(matched, estimates)

    def _coarse(
        self, normalised: NormalisedImages, state: Tensor, flow: Tensor, uncertainty: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Refinement at stride 4, and its result, upsampled to stride 2."""
        descriptors = _normalise(self.descriptor(state))
        reading = RefinementInputs.of(normalised, 4, uncertainty, state.dtype)
        estimates = []
        for _ in range(self.steps):
            here = flow.detach()
            inputs, alternatives = reading.at(here, state.dtype)
            scores = correlation(descriptors, backward_warp(swap_halves(descriptors), here), _RADIUS)
            added, state = self.step(state, [scores, *inputs], alternatives)
            flow = flow + added
            estimates.append(flow)
        flow = upsample_convex(flow, self.upsample(state).float(), 2)
        return flow, state, [*estimates, flow]

    def _fine(
        self, normalised: NormalisedImages, fine: Tensor, state: Tensor, flow: Tensor, uncertainty: Tensor
    ) -> list[Tensor]:
        """Refinement at stride 2."""
        size = (flow.shape[-2], flow.shape[-1])
        wide = F.interpolate(self.enter(state), size, mode="bilinear", align_corners=False)
        state = fine + wide.to(fine)
        uncertainty = F.interpolate(uncertainty, size, mode="bilinear", align_corners=False)
        reading = RefinementInputs.of(normalised, 2, uncertainty, state.dtype)
        estimates = []
        for _ in range(self.fine_steps):
            added, state = self.fine_step(state, *reading.at(flow.detach(), state.dtype))
            flow = flow + added
            estimates.append(flow)
        return estimates


def match_brightness(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Exposure normalisation: the darker image of a pair at the mean brightness of the other, for fades to black.

    Means that differ by less than a third are left as they are, since objects that enter or leave change them too.
    """
    mean = images.mean((1, 2, 3), keepdim=True) + _BLACK
    gain = (swap_halves(mean) / mean).log().clamp(min=0.0)
    return (
        images * (gain * ((gain - _EXPOSURE_RAMP[0]) / (_EXPOSURE_RAMP[1] - _EXPOSURE_RAMP[0])).clamp(0.0, 1.0)).exp()
    )


def static_bars(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """1 within the bars of a letterboxed image, where the flow is zero; 0 elsewhere.

    A bar has one colour, the same in both frames, and extends along the whole border.
    """
    return _static_bars(images)


def _bars_reference(images: Tensor) -> Tensor:
    first, second = images.chunk(2)

    def lines(dim: int) -> Tensor:
        low = torch.minimum(first.amin(dim), second.amin(dim))
        high = torch.maximum(first.amax(dim), second.amax(dim))
        flat, colour = (high - low).amax(1) < _BAR_NOISE, 0.5 * (high + low)
        bars = []
        for reversed_order in (False, True):
            orient = (lambda x: x.flip(-1)) if reversed_order else (lambda x: x)
            has_edge_colour = (orient(colour) - orient(colour)[..., :1]).abs().amax(1) < _BAR_NOISE
            bars.append(orient((orient(flat) & has_edge_colour).float().cumprod(-1)))
        return torch.maximum(*bars)

    rows, columns = lines(-1), lines(-2)
    return torch.maximum(rows[:, None, :, None], columns[:, None, None, :])


_static_bars = inference_operator(
    "static_bars",
    _bars_reference,
    lambda images: images.new_empty((images.shape[0] // 2, 1, *images.shape[2:])),
    "bars",
    launches=3,
    settings={"noise": _BAR_NOISE},
)


def _pad_pair(first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m 3 hp wp"]:
    """Both images, concatenated along the batch, with replicate padding to a multiple of `MULTIPLE`."""
    h, w = first.shape[-2:]
    return replicate_pad(
        torch.cat((first, second)).float(), (-(-h // MULTIPLE) * MULTIPLE, -(-w // MULTIPLE) * MULTIPLE)
    )


def _normalise(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Features scaled such that their correlation (`rdvfi.ops.correlation`) is the cosine; float32."""
    vectors = features.float()
    scale = vectors.shape[1] ** 0.25
    return (vectors * (scale * (vectors.square().sum(1, keepdim=True) + 1e-6).rsqrt())).contiguous()


@flows.register("global-local", about=RDVFI_S)
def global_local(
    *,
    width: int = 32,
    fine_width: int = 16,
    steps: Repeats = 2,
    fine_steps: Repeats = 1,
    patch_rounds: Repeats = 2,
    matching_width: int = 96,
    heads: Count = 2,
    blocks: Count = 2,
    matching_steps: Repeats = 3,
    matching_fine_steps: Repeats = 2,
) -> FlowEstimator:
    """RDVFI-S's coarse flow: global matching, local refinement, then a patch search; reads pixels.

    Args:
        width: Channels of the refinement at stride 4.
        fine_width: Channels of the refinement at stride 2.
        steps: Refinement iterations at stride 4.
        fine_steps: Refinement iterations at stride 2.
        patch_rounds: Rounds of the patch search at each of its scales; 0 omits it.
        matching_width: Channels of `matching` at stride 8 of the half-size images.
        heads: Attention heads of the matching.
        blocks: Attention blocks of the matching.
        matching_steps: Refinement iterations of the matching at stride 8.
        matching_fine_steps: Refinement iterations of the matching at stride 4.
    """
    matching = Matching(
        matching_width, heads=heads, blocks=blocks, steps=matching_steps, fine_steps=matching_fine_steps
    )
    return GlobalLocal(
        matching, width=width, fine_width=fine_width, steps=steps, fine_steps=fine_steps, patch_rounds=patch_rounds
    )
