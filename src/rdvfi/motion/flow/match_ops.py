"""Operations of learned matching without weights: expected flow, correlation look-up, convex upsampling."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import flow_length, pixel_grid
from rdvfi.ops import backward_warp
from rdvfi.ops.inference import inference_operator


def standardise(descriptors: Float[Tensor, "n c m"]) -> Float[Tensor, "n c m"]:
    """Descriptors with mean 0 and variance 1 per channel over both images of a pair.

    Components that all pixels share do not help to tell matches apart.
    """
    pairs = torch.stack(descriptors.chunk(2))
    apart = pairs - pairs.mean((0, 3), keepdim=True)
    scale = (apart.square().mean((0, 3), keepdim=True) + 1e-6).rsqrt()
    return (apart * scale).flatten(0, 1)


def both_directions(scores: Float[Tensor, "b m m"]) -> Float[Tensor, "n m m"]:
    """Scores of the forward direction, then of the backward direction."""
    return torch.cat((scores, scores.transpose(1, 2)))


def expected_flow(
    scores: Float[Tensor, "b m m"], size: tuple[int, int]
) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 1 h w"]]:
    """The expectation over all matches as a flow in cells, and the logarithm of their spread.

    The weight of a match is ``e_ij^2 / sum_i' e_i'j`` with ``e = exp(score)``, the dual softmax. One
    matrix of scores serves both directions.

    Args:
        scores: Cells of the first images by cells of the second ones; absolute values up to 20.
        size: Height and width in cells.

    Returns:
        Both for the forward direction, then for the backward direction.
    """
    found = _expected_flow(scores, *size)
    return found[:, :2], found[:, 2:]


def _expected_reference(scores: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    grid = pixel_grid(*size, device=scores.device)
    centre = grid[:, -1:, -1:] / 2.0
    places = (grid - centre).flatten(1)
    moments = torch.stack((*places, places.square().sum(0), torch.ones_like(places[0])), dim=1)
    # Scores are bounded, so there is no overflow without subtracting the maximum of each row.
    weight = (scores - scores.detach().amax((1, 2), keepdim=True)).exp()
    totals = torch.stack((weight.sum(1), weight.sum(2)))[..., None].clamp(min=1e-30)
    weight = weight.square()
    onward, back = moments / totals
    sums = torch.cat((weight @ onward, weight.transpose(1, 2) @ back))
    mean = (sums / sums[..., 3:].clamp(min=1e-36)).transpose(1, 2).unflatten(2, size)
    place, square = mean[:, :3].split((2, 1), dim=1)
    spread = (square - place.square().sum(1, keepdim=True)).clamp(min=0.0)
    return torch.cat((place + centre - grid, torch.log1p(spread)), dim=1)


def sample_scores(
    scores: Float[Tensor, "n m m"], flow: Float[Tensor, "n 2 h w"], radius: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n k h w"]:
    """Correlation look-up: scores around the end point of the flow, sampled bilinearly; (2 radius + 1)^2 channels."""
    return _sample_scores(scores, flow, radius, dtype)


def _sample_scores_reference(scores: Tensor, flow: Tensor, radius: int, dtype: torch.dtype) -> Tensor:
    n, _, h, w = flow.shape
    side = torch.arange(-radius, radius + 1, dtype=torch.float32, device=flow.device)
    x, y = (pixel_grid(h, w, device=flow.device) + flow).unbind(1)
    across = (2.0 * (x[..., None] + side) + 1.0) / w - 1.0
    down = (2.0 * (y[..., None] + side) + 1.0) / h - 1.0
    k = len(side)
    where = torch.stack((across[..., None, :].expand(n, h, w, k, k), down[..., :, None].expand(n, h, w, k, k)), dim=-1)
    samples = F.grid_sample(
        scores.reshape(n * h * w, 1, h, w),
        where.reshape(n * h * w, k, k, 2),
        padding_mode="border",
        align_corners=False,
    )
    return samples.reshape(n, h * w, k * k).transpose(1, 2).unflatten(2, (h, w)).to(dtype).contiguous()


def motion_features(
    flow: Float[Tensor, "n 2 h w"], uncertainty: Float[Tensor, "n 1 h w"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n 4 h w"]:
    """Inputs of a refinement: the flow, its forward-backward error, and its uncertainty."""
    return _motion_features(flow, uncertainty, dtype)


def _motion_reference(flow: Tensor, uncertainty: Tensor, dtype: torch.dtype) -> Tensor:
    missed = flow_length(flow + backward_warp(flow.roll(flow.shape[0] // 2, dims=0), flow))
    return torch.cat((0.1 * flow, torch.log1p(missed), uncertainty), dim=1).to(dtype)


def upsample_convex(
    flow: Float[Tensor, "n 2 h w"], logits: Float[Tensor, "n k h w"], factor: int
) -> Float[Tensor, "n 2 hf wf"]:
    """Convex upsampling: each fine flow is a weighted mean of 3x3 coarse ones, in fine pixels.

    Args:
        flow: Coarse flow.
        logits: Weights of the 9 neighbours, before the softmax, for ``factor`` by ``factor`` fine pixels.
        factor: Scale factor.
    """
    return _upsample_convex(flow, logits, factor)


def _convex_reference(flow: Tensor, logits: Tensor, factor: int) -> Tensor:
    h, w = flow.shape[-2:]
    shares = logits.unflatten(1, (9, factor**2)).softmax(1)[:, None].unbind(2)
    wide = F.pad(float(factor) * flow, (1, 1, 1, 1), mode="replicate")
    upsampled = flow.new_zeros(flow.shape[0], 2, factor**2, h, w)
    for k, share in enumerate(shares):
        y, x = divmod(k, 3)
        upsampled = upsampled + share * wide[:, :, None, y : y + h, x : x + w]
    return F.pixel_shuffle(upsampled.flatten(1, 2), factor)


_expected_flow = inference_operator(
    "expected_flow",
    _expected_reference,
    lambda scores, height, width: scores.new_empty((2 * scores.shape[0], 3, height, width)),
    "matching",
    launches=3,
)
_sample_scores = inference_operator(
    "looked_up",
    _sample_scores_reference,
    lambda scores, flow, radius, dtype: scores.new_empty(
        (flow.shape[0], (2 * radius + 1) ** 2, *flow.shape[2:]), dtype=dtype
    ),
    "matching",
)
_motion_features = inference_operator(
    "motion_features",
    _motion_reference,
    lambda flow, uncertainty, dtype: flow.new_empty((flow.shape[0], 4, *flow.shape[2:]), dtype=dtype),
    "matching",
)
_upsample_convex = inference_operator(
    "convex_upsampled",
    _convex_reference,
    lambda flow, logits, factor: flow.new_empty((*flow.shape[:2], factor * flow.shape[2], factor * flow.shape[3])),
    "matching",
)
