"""Scale-invariant keypoints in tensors of fixed shapes, to match objects that rotate or change size between two images.

This is SIFT (D. Lowe, IJCV 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94) with a fixed number of points per
scale instead of thresholds, and one orientation per point. Points are maxima of a difference of Gaussians; the
orientation is the dominant direction of the gradient around the point; the descriptor holds histograms of the gradient
direction in 4x4 cells, relative to that orientation. A gradient ``g`` contributes ``|g| max(0, cos(g, d))^p`` to
direction ``d``, so that no angles have to be computed. Shapes depend on the image size alone, and no value is copied to
the host. Points are found in uniform regions too; the ratio test of the matching rejects them.
"""

from dataclasses import dataclass
from math import ceil, exp, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.inference import inference_operator

_SCALES = ((1, 1.6, 256), (2, 1.3, 128), (2, 2.1, 64))
"""Factor by which the image is reduced, blur in pixels at that scale, and number of points."""
_INPUT_BLUR = 0.5
"""Blur of the input images, in pixels."""
_GAUSSIAN_RATIO = 0.77
"""Ratio of the widths of the two Gaussians."""
_MAXIMUM_WINDOW = 5
"""Side of the window in which a point is the maximum, in pixels."""
_SAMPLES = {"orientation": 10, "descriptor": 16}
"""Samples along each side of the window around a point."""
_DIRECTIONS, _SHARPNESS = 36, 3
"""Bins of the orientation histogram, whose peak is interpolated; ``p`` is 2 to the second number."""
_CELLS, _BINS, _BIN_SHARPNESS = 4, 8, 2
"""Cells per side of a descriptor, directions per cell, and the exponent ``p`` as above."""
_MAX_ELEMENT = 0.2
"""Elements of the normalised descriptor are clipped at this value, as in SIFT."""
MAX_RATIO = 0.85
"""A match is kept if its distance is below this share of the second best's (Lowe's ratio test)."""


@dataclass(frozen=True, eq=False)
class KeypointSet:
    """Keypoints of a batch of images, the same number in each.

    Attributes:
        places: (x, y) in pixels.
        descriptors: Descriptors of unit length.
    """

    places: Float[Tensor, "n k 2"]
    descriptors: Float[Tensor, "n k 128"]


def find_keypoints(luma: Float[Tensor, "n 1 h w"]) -> KeypointSet:
    """Keypoints of images in grey levels."""
    return KeypointSet(*_keypoints(luma))


def _reference(luma: Tensor) -> tuple[Tensor, Tensor]:
    places, descriptors = [], []
    for shrink, sigma, count in _SCALES:
        soft = _blur(F.avg_pool2d(luma, shrink) if shrink > 1 else luma, (sigma**2 - _INPUT_BLUR**2) ** 0.5)
        points = _find_blobs((_blur(soft, _GAUSSIAN_RATIO * sigma) - soft).abs(), count, margin=ceil(2.0 * sigma))
        gradient = _gradient(soft)
        ahead = _orientation(gradient, points, sigma)
        places.append(shrink * (points + 0.5) - 0.5)
        descriptors.append(_describe(gradient, points, ahead, sigma))
    return torch.cat(places, dim=1), torch.cat(descriptors, dim=1)


def _empty(luma: Tensor) -> tuple[Tensor, Tensor]:
    n, _, h, w = luma.shape
    points = sum(min(count, (h // shrink) * (w // shrink) // 16) for shrink, _, count in _SCALES)
    return luma.new_empty((n, points, 2)), luma.new_empty((n, points, _BINS * _CELLS**2))


_keypoints = inference_operator(
    "keypoints",
    _reference,
    _empty,
    "keypoints",
    launches=16,
    settings={
        "scales": _SCALES,
        "input_blur": _INPUT_BLUR,
        "gaussian_ratio": _GAUSSIAN_RATIO,
        "maximum_window": _MAXIMUM_WINDOW,
        "samples": _SAMPLES,
        "orientation": (_DIRECTIONS, _SHARPNESS),
        "descriptor": (_CELLS, _BINS, _BIN_SHARPNESS),
        "max_value": _MAX_ELEMENT,
    },
)


def match_keypoints(first: KeypointSet, second: KeypointSet) -> tuple[Float[Tensor, "n k 2"], Float[Tensor, "n k"]]:
    """Position of each point of ``first`` in the second pictures, and its certainty.

    Points match if each is the other's nearest, and the second nearest is much farther: 0 says that
    they do not, 1 that no other point is like it.
    """
    distance = 2.0 - 2.0 * first.descriptors @ second.descriptors.mT
    nearest, index = distance.topk(2, dim=2, largest=False)
    back = distance.argmin(1).gather(1, index[..., 0])
    mutual = back == torch.arange(back.shape[1], device=back.device)
    places = second.places.gather(1, index[..., :1].expand(-1, -1, 2))
    best, second_best = (nearest.clamp(min=0.0) + 1e-6).unbind(2)
    ratio = (best / second_best).sqrt()
    return places, torch.where(mutual & (ratio < MAX_RATIO), 1.0 - ratio, 0.0)


def _blur(maps: Float[Tensor, "n 1 h w"], sigma: float) -> Float[Tensor, "n 1 h w"]:
    radius, (h, w) = ceil(3.0 * sigma), maps.shape[-2:]
    line = [exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    wide = F.pad(maps, (radius,) * 4, mode="replicate")
    # Sums of shifted views are several times as fast as a convolution of one channel on a CPU.
    rows = wide[..., :w] * (line[0] / sum(line))
    for k, weight in enumerate(line[1:], 1):
        rows.add_(wide[..., k : k + w], alpha=weight / sum(line))
    total = rows[..., :h, :] * (line[0] / sum(line))
    for k, weight in enumerate(line[1:], 1):
        total.add_(rows[..., k : k + h, :], alpha=weight / sum(line))
    return total


def _find_blobs(response: Float[Tensor, "n 1 h w"], count: int, margin: int) -> Float[Tensor, "n k 2"]:
    """The largest local maxima, placed between pixels by parabolas; (x, y)."""
    h, w = response.shape[-2:]
    highest = _row_maximum(_row_maximum(response).mT).mT
    inner = F.pad(torch.ones_like(response[..., margin : h - margin, margin : w - margin]), (margin,) * 4)
    score = torch.where(response == highest, response, 1e-3 * response) * inner
    at = score.flatten(1).topk(min(count, h * w // 16)).indices
    flat = response.flatten(1)

    def offset(step: int) -> Tensor:
        before, here, after = (flat.gather(1, (at + k * step).clamp(0, h * w - 1)) for k in (-1, 0, 1))
        return (0.5 * (after - before) / (2.0 * here - before - after).clamp(min=1e-3)).clamp(-0.5, 0.5)

    return torch.stack(((at % w) + offset(1), (at // w) + offset(w)), dim=2)


def _gradient(maps: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 2 h w"]:
    wide = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    return 0.5 * torch.cat((wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]), 1)


def _row_maximum(maps: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """The largest value of each row's neighbourhood; `max_pool2d` takes ten times as long on a CPU."""
    w, reach = maps.shape[-1], _MAXIMUM_WINDOW // 2
    wide = F.pad(maps, (reach, reach, 0, 0), mode="replicate")
    largest = maps
    for k in (*range(reach), *range(reach + 1, _MAXIMUM_WINDOW)):
        largest = torch.maximum(largest, wide[..., k : k + w])
    return largest


def _orientation(
    gradient: Float[Tensor, "n 2 h w"], points: Float[Tensor, "n k 2"], sigma: float
) -> Float[Tensor, "n k 2"]:
    """The strongest direction of the gradient around each point, as a unit vector."""
    offsets = _sample_offsets("orientation", points)
    around = sample_at_points(gradient, points[:, :, None] + 0.96 * sigma * offsets)
    weight = torch.exp(-offsets.square().sum(-1) / 12.5)
    bins = torch.arange(_DIRECTIONS, device=points.device) * (2.0 * pi / _DIRECTIONS)
    histogram = _angular_weights(around, torch.stack((bins.cos(), bins.sin())), _SHARPNESS)
    histogram = torch.einsum("nksd,s->nkd", histogram, weight)
    best = histogram.argmax(-1, keepdim=True)
    before, here, after = (histogram.gather(-1, (best + i) % _DIRECTIONS) for i in (-1, 0, 1))
    between = 0.5 * (before - after) / (before - 2.0 * here + after).clamp(max=-1e-3)
    angle = (best + between) * (2.0 * pi / _DIRECTIONS)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


def _describe(
    gradient: Float[Tensor, "n 2 h w"], points: Float[Tensor, "n k 2"], ahead: Float[Tensor, "n k 2"], sigma: float
) -> Float[Tensor, "n k 128"]:
    side = _SAMPLES["descriptor"]
    offsets = _sample_offsets("descriptor", points)
    aside = torch.stack((-ahead[..., 1], ahead[..., 0]), dim=-1)
    axes = torch.stack((ahead, aside), dim=-2)  # a row each
    around = sample_at_points(gradient, points[:, :, None] + 0.9 * sigma * (offsets @ axes))
    bins = torch.arange(_BINS, device=points.device) * (2.0 * pi / _BINS)
    directions = axes.mT @ torch.stack((bins.cos(), bins.sin()))
    centres = (torch.arange(_CELLS, device=points.device) + 0.5) * (side / _CELLS) - side / 2
    near = [(1.0 - (z[:, None] - centres).abs() * (_CELLS / side)).clamp(min=0.0) for z in offsets.unbind(-1)]
    cells = (near[1][:, :, None] * near[0][:, None]).flatten(1)
    cells = cells * torch.exp(-offsets.square().sum(-1, keepdim=True) / (side**2 / 2.0))
    histograms = _angular_weights(around, directions, _BIN_SHARPNESS).mT @ cells
    descriptor = F.normalize(histograms.flatten(2), dim=-1).clamp(max=_MAX_ELEMENT)
    return F.normalize(descriptor, dim=-1)


def _angular_weights(
    gradients: Float[Tensor, "n k s 2"], directions: Float[Tensor, "*m 2 d"], sharpness: int
) -> Float[Tensor, "n k s d"]:
    """Weight of each gradient for each direction."""
    x, y = gradients.split(1, dim=-1)
    length = (x * x + y * y).clamp(min=1e-12).sqrt()
    share = ((gradients / length) @ directions).clamp_(min=0.0)
    for _ in range(sharpness):  # `pow` takes several times as long
        share.mul_(share)
    return share.mul_(length)


def _sample_offsets(use: str, points: Tensor) -> Float[Tensor, "s 2"]:
    """Offsets of samples from a point: a square grid of unit spacing."""
    side = _SAMPLES[use]
    line = torch.arange(side, dtype=torch.float32, device=points.device) - (side - 1) / 2
    return torch.stack((line.repeat(side), line.repeat_interleave(side)), dim=-1)


def sample_at_points(maps: Float[Tensor, "n 2 h w"], at: Float[Tensor, "n k s 2"]) -> Float[Tensor, "n k s 2"]:
    """Maps of two channels at some points, (x, y) in pixels: bilinear, borders replicated."""
    h, w = maps.shape[-2:]
    x, y = (2.0 * at[..., 0] + 1.0) / w - 1.0, (2.0 * at[..., 1] + 1.0) / h - 1.0
    seen = F.grid_sample(maps, torch.stack((x, y), dim=-1), padding_mode="border", align_corners=False)
    return seen.permute(0, 2, 3, 1)
