"""The denoiser of RDVFI-S: it predicts residual motion and clean latents, starting from straight motion.

The initial estimate of each keyframe is a blend of both end latents, warped by straight motion along the coarse flow.
The network reads the warped latents, the noisy latent, and four candidate paths: those of rotations and zooms at
constant rate that the coarse flow implies (`rdvfi.ops.similarity_paths`). For each candidate it reads the difference of
the two end latents along the path, and the splatting weight that arrives at each pixel. It predicts

* the residual motion, the deviation from straight motion: a gated sum of the candidates' deviations
  (the gates sum to at most one), plus a free shift;
* a correction of the blending weight of the two warped latents, and a residual of the latent.

Prediction is iterated with shared weights, as in RAFT (Teed and Deng, 2020, https://arxiv.org/abs/2003.12039): each
refinement iteration starts from the motion of the previous one. Noise and
noise level are the same in all iterations, so together they are one diffusion step.

The last layer is zero-initialised: before training the prediction is the initial estimate. The free
shift, the blend and the residual are multiplied by the envelope ``4 t (1 - t)``; the ends themselves are not
predicted. All keyframes share a two-dimensional U-Net; at its coarsest scale they are mixed along time.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.interfaces import Condition
from rdvfi.layers import Chain, ResidualBlock, conv, zero_conv
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.similarity_paths import CANDIDATES, SimilarityPaths
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flows, Times

_FEATURES = 2 + 4 + 1 + 5 * CANDIDATES + 2 + 3
_OUTPUTS = CANDIDATES + 4 + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class CompactCondition(Condition):
    """The initial motion of the denoiser, for the ``n`` keyframes between the ends.

    Flows are on the latent grid, in latent pixels.
    """

    to_first: Flows
    to_last: Flows
    paths: SimilarityPaths
    """Candidates of curved paths."""
    times: Times


@dataclass(frozen=True, eq=False)
class DenoiserOutput:
    """Clean latents, and the flows by which the end latents were warped."""

    latents: Float[Tensor, "b n c h w"]
    to_first: Flows
    to_last: Flows

    @classmethod
    def of(cls, latents: Float[Tensor, "b n c h w"], flows: Float[Tensor, "b n 4 h w"]) -> "DenoiserOutput":
        """Both flows one after the other."""
        return cls(latents, flows[:, :, :2], flows[:, :, 2:])


class Denoiser(nn.Module):
    """U-Net over the keyframes between two ends.

    Args:
        channels: Channels of a latent.
        width: Channels at the latents' own scale; the coarser scale has twice as many.
        iterations: Refinement iterations, with shared weights.
    """

    def __init__(self, channels: int, width: int, iterations: int) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"the denoiser needs at least one iteration; got {iterations}")
        self.iterations = iterations
        self.enter = conv(3 * channels + _FEATURES, width)
        self.fine = ResidualBlock(width)
        self.shrink = conv(width, 2 * width, stride=2)
        self.coarse = nn.ModuleList(ResidualBlock(2 * width) for _ in range(3))
        self.along_time = nn.ModuleList(
            nn.Conv1d(2 * width, 2 * width, 3, padding=1, groups=2 * width) for _ in range(3)
        )
        for layer in self.along_time:
            nn.init.dirac_(layer.weight, groups=2 * width)  # pyright: ignore[reportArgumentType]
        self.grow = nn.Conv2d(2 * width, width, 1)
        self.finish = Chain(ResidualBlock(width), ResidualBlock(width), nn.SiLU())
        self.answer = zero_conv(width, _OUTPUTS + channels)

    def forward(
        self, condition: CompactCondition, noisy: Float[Tensor, "b n c h w"], sigma: Float[Tensor, " b"]
    ) -> DenoiserOutput:
        """Clean keyframes between the ends, from noisy ones at noise levels ``sigma``."""
        agreement = _mismatches(condition.latent0, condition.latent1, condition.paths.flows)
        output = self._iterate(condition, agreement, noisy, sigma)
        for _ in range(self.iterations - 1):
            condition = replace(condition, to_first=output.to_first, to_last=output.to_last)
            output = self._iterate(condition, agreement, noisy, sigma)
        return output

    def _iterate(
        self,
        condition: CompactCondition,
        mismatches: Float[Tensor, "b n k h w"],
        noisy: Float[Tensor, "b n c h w"],
        sigma: Float[Tensor, " b"],
    ) -> DenoiserOutput:
        n, ends, paths = noisy.shape[1], (condition.latent0, condition.latent1), condition.paths
        flows = torch.cat((condition.to_first, condition.to_last), dim=2)
        times = condition.times.to(flows)
        x = self.enter(_inputs(noisy, *ends, flows, paths.flows, mismatches, paths.arrived, times, sigma.to(flows)))
        x = self.fine(x)
        y = self.shrink(x)
        for block, mix in zip(self.coarse, self.along_time, strict=True):
            y = _mix_along_time(mix, block(y), n)
        wide = F.interpolate(self.grow(y), x.shape[-2:], mode="bilinear", align_corners=False)
        return DenoiserOutput.of(*_outputs(self.answer(self.finish(x, wide)), *ends, flows, paths.flows, times))

    def straight(self, condition: CompactCondition) -> DenoiserOutput:
        """The initial estimate: end latents, warped by straight motion and blended."""
        (b, n), (c, h, w) = condition.to_first.shape[:2], condition.latent0.shape[1:]
        nothing = condition.latent0.new_zeros(b * n, _OUTPUTS + c, h, w)
        flows = torch.cat((condition.to_first, condition.to_last), dim=2)
        ends = (condition.latent0, condition.latent1)
        return DenoiserOutput.of(*_outputs(nothing, *ends, flows, condition.paths.flows, condition.times.to(flows)))


def _outputs_reference(
    answer: Tensor, latent0: Tensor, latent1: Tensor, flows: Tensor, candidates: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """Latents, and the flows to the first and to the last end by which they were warped."""
    answer = answer.unflatten(0, flows.shape[:2])
    t = times[None, :, None, None, None]
    envelope = 4.0 * t * (1.0 - t)
    gates, shift = (answer[:, :, :CANDIDATES, None].float(), answer[:, :, CANDIDATES : CANDIDATES + 4].float())
    gates = gates / gates.abs().sum(2, keepdim=True).clamp(min=1.0)
    flows = flows + ((gates * (candidates - flows[:, :, None])).sum(2) + envelope * shift)
    blend, residual = answer[:, :, _OUTPUTS - 1 : _OUTPUTS], answer[:, :, _OUTPUTS:]
    odds_factor = (envelope * blend).exp()
    weight = (1.0 - t) * odds_factor / ((1.0 - t) * odds_factor + t / odds_factor)
    last, first = _warp(latent1, flows[:, :, 2:]), _warp(latent0, flows[:, :, :2])
    blended = torch.lerp(last, first, weight.to(last))
    return blended + envelope.to(residual) * residual, flows


def _warp(latent: Float[Tensor, "b c h w"], flow: Flows) -> Float[Tensor, "b n c h w"]:
    b, n = flow.shape[:2]
    spread = latent[:, None].expand(b, n, *latent.shape[1:]).flatten(0, 1)
    return backward_warp(spread, flow.flatten(0, 1)).unflatten(0, (b, n))


def _inputs_reference(
    noisy: Tensor,
    latent0: Tensor,
    latent1: Tensor,
    flows: Tensor,
    candidates: Tensor,
    mismatches: Tensor,
    arrived: Tensor,
    times: Tensor,
    sigma: Tensor,
) -> Tensor:
    """Noisy latents, both ends warped, motion, candidates and their mismatches, time and noise level."""
    b, n, _, h, w = flows.shape
    warped0, warped1 = _warp(latent0, flows[:, :, :2]), _warp(latent1, flows[:, :, 2:])
    displacement = flows[:, :, 2:] - flows[:, :, :2]
    slopes = torch.cat((_slope(displacement, -1), _slope(displacement, -2)), dim=2)
    t = times[None, :, None, None, None].expand(b, n, 1, h, w)
    level = sigma[:, None, None, None, None].expand(b, n, 1, h, w)
    apart = (warped0 - warped1).abs().mean(2, keepdim=True)
    departure = (candidates - flows[:, :, None]).flatten(2, 3).clamp(-8.0, 8.0)
    parts = (0.1 * displacement, slopes, apart, 0.5 * departure, mismatches, arrived, t, t * (1.0 - t), level)
    features = torch.cat(parts, dim=2).to(noisy)
    return torch.cat((noisy, warped0, warped1, features), dim=2).flatten(0, 1)


def _mismatches_reference(latent0: Tensor, latent1: Tensor, candidates: Tensor) -> Tensor:
    """Difference of the two end latents along each similarity path."""
    errors = []
    for flows in candidates.unbind(2):
        apart = _warp(latent0, flows[:, :, :2]) - _warp(latent1, flows[:, :, 2:])
        errors.append(apart.abs().mean(2))
    return torch.stack(errors, dim=2)


def _slope(flow: Flows, dim: int) -> Flows:
    """Central differences with replicated borders."""
    size = flow.shape[dim]
    index = torch.arange(size, device=flow.device)
    ahead, behind = (index + 1).clamp(max=size - 1), (index - 1).clamp(min=0)
    rise = flow.index_select(dim, ahead) - flow.index_select(dim, behind)
    run = (ahead - behind).to(flow)
    return rise / (run if dim == -1 else run[:, None])


def _mix_along_time(mix: nn.Module, x: Float[Tensor, "bn c h w"], n: int) -> Float[Tensor, "bn c h w"]:
    bn, c, h, w = x.shape
    rows = x.view(bn // n, n, c, h * w).permute(0, 3, 2, 1).reshape(-1, c, n)
    mixed = mix(rows).view(bn // n, h * w, c, n).permute(0, 3, 2, 1)
    return mixed.reshape(bn, c, h, w)


_inputs = inference_operator(
    "denoiser_inputs",
    _inputs_reference,
    lambda noisy, *_: noisy.new_empty(
        (noisy.shape[0] * noisy.shape[1], 3 * noisy.shape[2] + _FEATURES, *noisy.shape[3:])
    ),
    "denoiser",
)
_outputs = inference_operator(
    "denoiser_outputs",
    _outputs_reference,
    lambda answer, latent0, latent1, flows, candidates, times: (
        latent0.new_empty((*flows.shape[:2], *latent0.shape[1:])),
        flows.new_empty(flows.shape),
    ),
    "denoiser",
)
_mismatches = inference_operator(
    "mismatches",
    _mismatches_reference,
    lambda latent0, latent1, candidates: candidates.new_empty((*candidates.shape[:3], *candidates.shape[4:])),
    "denoiser",
)
