"""Coarse flow on tensors alone: global matching of small pictures, local refinement of large ones.

Comparing all with all finds what moves far, but on a coarse grid: its flow is off by a pixel, and a
pixel is what a still ground blurs by. Patches are exact, but near-sighted. `GlobalLocal` takes one
after the other, and a patch search last (`rdvfi.motion.flow.patch_search`), which also knows large turns:

1. `rdvfi.motion.flow.matching` sees the pictures at half their size.
2. At strides 4 and 2 of the pictures a small network, the same in each iteration (RAFT; Teed and
   Deng, 2020, https://arxiv.org/abs/2003.12039), reads what is left to be explained: a local cost
   volume of learned features, the difference of the warped pictures pixel by pixel, the error of the
   way there and back, and the steps that least squares propose (`rdvfi.motion.flow.gauss_newton`).
   It answers with shares of four alternatives, and a free step: both least-squares steps, the mean
   flow of the consistent surroundings, and **no motion**, which is true for subtitles, bars and
   fixed cameras and can be told from the pictures exactly.
3. From stride 4 to 2 every flow is a learned convex combination of its neighbours, so that motion
   edges stay sharp; from there to full size it is bilinear, for whoever draws with it does so at
   stride 2.

All shares and steps start at zero, so that before training the result is the matched flow. Nothing
is chosen by the largest score: a small change of the pictures changes the flow a little. Shapes
depend on the size of the pictures alone, and no value leaves the device. Both directions are found
together by the same weights.
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
from rdvfi.motion.flow.match_ops import convex_upsampled
from rdvfi.motion.flow.matching import MatchedFlows, Matching
from rdvfi.motion.flow.patch_search import searched
from rdvfi.ops import backward_warp, correlation
from rdvfi.ops.inference import inference_operator
from rdvfi.registry import flows

MULTIPLE = 32
"""Sides of what is compared: half of it is a multiple of what matching works on."""
_SHRINK = 2
_COMPARED = 24
"""Channels of the local cost volume's features."""
_RADIUS = 3
"""Its reach, in cells of stride 4."""
_EXPOSURE_RAMP = (0.3, 0.7)
"""Logarithms of how many times brighter the other picture is, from which on it counts, and counts in full."""
_BLACK = 1.0 / 255.0
"""Brightness that is added before two are compared."""
_BAR_NOISE = 4.0 / 255.0
"""Differences of colour within a bar around the picture, at most."""


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined flow and the estimates that led to it.

    Attributes:
        matched: What matching found, at half size.
        flows: Estimates at strides 4 and 2, each in pixels of its own grid, of the pairs one way and
            then the other; the last is the finest.
    """

    matched: MatchedFlows
    flows: list[Float[Tensor, "n 2 _ _"]]


class GlobalLocal(FlowEstimator):
    """Matching, then refinement.

    Args:
        matching: Sees the pictures at half their size.
        width: Channels at stride 4.
        fine_width: Channels at stride 2.
        steps: Refinements at stride 4, with the same weights.
        fine_steps: Refinements at stride 2, with the same weights.
        patch_rounds: Rounds of the patch search at each of its scales; 0 leaves it out.
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
        self.descriptor = nn.Conv2d(width, _COMPARED, 1)
        scores = (2 * _RADIUS + 1) ** 2
        self.step = RefinementStep(scores + 16 + INPUT_CHANNELS, width, TwoScaleBlock(width))
        self.upsample = bilinear_conv(width)
        self.enter = nn.Conv2d(width, fine_width, 1)
        body = Chain(nn.SiLU(), conv(fine_width, fine_width), ResidualBlock(fine_width))
        self.fine_step = RefinementStep(4 + INPUT_CHANNELS, fine_width, body)

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """See `rdvfi.interfaces.FlowEstimator.forward`."""
        return self.both_ways(source, target)[0]

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        """See `rdvfi.interfaces.FlowEstimator.both_ways`. No gradient passes through a patch search."""
        h, w = first.shape[-2:]
        images = match_brightness(_padded(first, second))
        flow = self._refined(images).flows[-1]
        if self.patch_rounds:
            flow = searched(images, flow, rounds=self.patch_rounds)
        still = F.avg_pool2d(static_bars(images), 2) > 0.99
        flow = flow.unflatten(0, (2, -1)).masked_fill(still, 0.0).flatten(0, 1)
        onward, back = resize_flow(flow, (images.shape[-2], images.shape[-1]))[..., :h, :w].chunk(2)
        return onward, back

    def find(self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]) -> Refined:
        """What the network finds before patches are searched, with all that leads to it: for training."""
        return self._refined(_padded(first, second))

    def estimates(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"], *, fine: bool = True
    ) -> tuple[list[Tensor], MatchedFlows | None]:
        """Every estimate on the way, those of matching first, and the matches; ``fine`` changes nothing here."""
        refined = self.find(first, second)
        return [*refined.matched.flows, *refined.flows], refined.matched

    def _refined(self, images: Float[Tensor, "n 3 h w"]) -> Refined:
        size = (images.shape[-2], images.shape[-1])
        small = resize_image(images, (size[0] // _SHRINK, size[1] // _SHRINK))
        matched = self.matching.find(*small.chunk(2))
        uncertainty = F.interpolate(
            matched.uncertainty, (size[0] // 4, size[1] // 4), mode="bilinear", align_corners=False
        )
        flow = 0.5 * F.avg_pool2d(matched.flows[-1].float(), 2)
        fine, state = self.features(images)
        with torch.no_grad():
            surface = NormalisedImages.of(images)
        flow, state, estimates = self._coarse(surface, state, flow, uncertainty)
        if self.fine_steps:
            estimates += self._fine(surface, fine, state, flow, uncertainty)
        return Refined(matched, estimates)

    def _coarse(
        self, surface: NormalisedImages, state: Tensor, flow: Tensor, uncertainty: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Refinement at stride 4, and the flow at stride 2 that it leads to."""
        descriptors = _normalised(self.descriptor(state))
        reading = RefinementInputs.of(surface, 4, uncertainty, state.dtype)
        estimates = []
        for _ in range(self.steps):
            here = flow.detach()
            inputs, alternatives = reading.at(here, state.dtype)
            scores = correlation(descriptors, backward_warp(swap_halves(descriptors), here), _RADIUS)
            added, state = self.step(state, [scores, *inputs], alternatives)
            flow = flow + added
            estimates.append(flow)
        flow = convex_upsampled(flow, self.upsample(state).float(), 2)
        return flow, state, [*estimates, flow]

    def _fine(
        self, surface: NormalisedImages, fine: Tensor, state: Tensor, flow: Tensor, uncertainty: Tensor
    ) -> list[Tensor]:
        """Refinement at stride 2."""
        size = (flow.shape[-2], flow.shape[-1])
        wide = F.interpolate(self.enter(state), size, mode="bilinear", align_corners=False)
        state = fine + wide.to(fine)
        uncertainty = F.interpolate(uncertainty, size, mode="bilinear", align_corners=False)
        reading = RefinementInputs.of(surface, 2, uncertainty, state.dtype)
        estimates = []
        for _ in range(self.fine_steps):
            added, state = self.fine_step(state, *reading.at(flow.detach(), state.dtype))
            flow = flow + added
            estimates.append(flow)
        return estimates


def match_brightness(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures whose partner is much brighter, at its mean brightness: what fades to black is compared as it was.

    Means that differ by less than a third stay, for they differ by what enters and leaves, too.
    """
    mean = images.mean((1, 2, 3), keepdim=True) + _BLACK
    gain = (swap_halves(mean) / mean).log().clamp(min=0.0)
    return (
        images * (gain * ((gain - _EXPOSURE_RAMP[0]) / (_EXPOSURE_RAMP[1] - _EXPOSURE_RAMP[0])).clamp(0.0, 1.0)).exp()
    )


def static_bars(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """1 within the bars around a letterboxed picture, which no motion crosses.

    A bar is of one colour, the same in both frames, and reaches from side to side at a border.
    """
    return _static_bars(images)


def _bars_reference(images: Tensor) -> Tensor:
    first, second = images.chunk(2)

    def lines(dim: int) -> Tensor:
        low = torch.minimum(first.amin(dim), second.amin(dim))
        high = torch.maximum(first.amax(dim), second.amax(dim))
        flat, colour = (high - low).amax(1) < _BAR_NOISE, 0.5 * (high + low)
        ends = []
        for turned in (False, True):
            way = (lambda x: x.flip(-1)) if turned else (lambda x: x)
            like = (way(colour) - way(colour)[..., :1]).abs().amax(1) < _BAR_NOISE
            ends.append(way((way(flat) & like).float().cumprod(-1)))
        return torch.maximum(*ends)

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


def _padded(first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m 3 hp wp"]:
    """Both, one after the other, extended by their borders to what the network takes."""
    h, w = first.shape[-2:]
    return replicate_pad(
        torch.cat((first, second)).float(), (-(-h // MULTIPLE) * MULTIPLE, -(-w // MULTIPLE) * MULTIPLE)
    )


def _normalised(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Vectors whose scaled products (`rdvfi.ops.correlation`) are cosines, in float32."""
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
        steps: Refinements at stride 4.
        fine_steps: Refinements at stride 2.
        patch_rounds: Rounds of the patch search at each of its scales; 0 leaves it out.
        matching_width: Of `matching`: channels at stride 8 of the halved pictures.
        heads: Heads of its attention.
        blocks: Blocks of its attention.
        matching_steps: Its refinements at stride 8.
        matching_fine_steps: Its refinements at stride 4.
    """
    matching = Matching(
        matching_width, heads=heads, blocks=blocks, steps=matching_steps, fine_steps=matching_fine_steps
    )
    return GlobalLocal(
        matching, width=width, fine_width=fine_width, steps=steps, fine_steps=fine_steps, patch_rounds=patch_rounds
    )
