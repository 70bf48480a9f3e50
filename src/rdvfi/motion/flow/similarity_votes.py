"""Similarity transforms that keypoint matches vote for where a flow is wrong (RANSAC); tensors of fixed shapes.

The points of an object that rotates and changes size move by one similarity transform. With points as complex numbers
it is ``z -> a z + b``, and two matches determine it. Flow estimated by comparing upright patches fails there; keypoints
do not (`rdvfi.motion.flow.keypoints`).

Every match proposes the transforms through itself and each of its nearest neighbours, and the score of a proposal is
the number of matches that agree with it. The best one is fitted to its inliers by iteratively reweighted least squares,
the inliers are removed, and the search is repeated. This is sequential RANSAC (Fischler and Bolles, CACM 1981) with all
matches instead of random samples, so it is deterministic, and no shape depends on values.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float
from torch import Tensor

from rdvfi.motion.flow.keypoints import MAX_RATIO, KeypointSet, find_keypoints, match_keypoints, sample_at_points
from rdvfi.ops.inference import inference_operator

_MATCHES = 192
"""Number of matches used, those with the best ratio."""
TRANSFORMS = 3
"""Number of transforms."""
_MIN_FLOW_ERROR = 3.0
"""Distance to a match, in pixels, above which a flow counts as wrong."""
_PARTNERS = 6
"""Number of neighbours of a match that propose a transform with it."""
_MIN_DISTANCE = 12.0
"""Least distance of both matches of a proposal, in pixels: closer ones hardly determine rotation and scale."""
_MAX_ERROR = 4.0
"""Inlier distance, in pixels; the score of an inlier decreases with its distance."""
_SCALES = (0.4, 2.5)
"""Range of accepted scale factors."""
_MIN_INLIERS = 8.0
"""Least number of inliers."""
_FITS = 4
"""Iterations of reweighted least squares."""


@dataclass(frozen=True, eq=False)
class Transforms:
    """Similarity transforms ``z -> a z + b`` of pixel positions, and their validity."""

    numbers: Float[Tensor, "n t 5"]
    """Real and imaginary part of a and of b, and validity: 1 with enough inliers, else 0."""

    @classmethod
    def of(cls, a: Complex64[Tensor, "n t"], b: Complex64[Tensor, "n t"], valid: Float[Tensor, "n t"]) -> "Transforms":
        """Transforms from complex numbers."""
        return cls(torch.stack((a.real, a.imag, b.real, b.imag, valid), dim=2))

    @property
    def a(self) -> Complex64[Tensor, "n t"]:
        """Rotation and scale."""
        return torch.complex(self.numbers[..., 0], self.numbers[..., 1])

    @property
    def b(self) -> Complex64[Tensor, "n t"]:
        """Shift, in pixels."""
        return torch.complex(self.numbers[..., 2], self.numbers[..., 3])

    @property
    def valid(self) -> Float[Tensor, "n t"]:
        """Validity: 1 with enough inliers, else 0."""
        return self.numbers[..., 4]

    def inverse(self) -> "Transforms":
        """The inverse transforms."""
        a = torch.where(self.a.abs() > 0.5 * _SCALES[0], self.a, torch.ones_like(self.a))
        return Transforms.of(1.0 / a, -self.b / a, self.valid)


def voted_transforms(luma: Float[Tensor, "n 1 h w"], flow: Float[Tensor, "n 2 h w"]) -> Transforms:
    """Transforms of image parts whose flow is wrong, ordered by their number of inliers.

    Args:
        luma: Images in grey levels; the first half of the batch is matched with the second.
        flow: Flow of each image to its counterpart in the other half, in pixels.

    Returns:
        Transforms of the first half, then of the second.
    """
    points = find_keypoints(luma)
    return Transforms(_votes(points.places, points.descriptors, flow))


def _reference(places: Tensor, descriptors: Tensor, flow: Tensor) -> Tensor:
    first, second = (KeypointSet(*halves) for halves in zip(places.chunk(2), descriptors.chunk(2), strict=True))
    targets, certainty = match_keypoints(first, second)
    flow_error = first.places + sample_at_points(flow.chunk(2)[0], first.places[:, :, None])[:, :, 0] - targets
    certainty = torch.where(flow_error.square().sum(-1) > _MIN_FLOW_ERROR**2, certainty, 0.0)
    certainty, chosen = certainty.topk(min(_MATCHES, certainty.shape[1]), dim=1)
    votes = (certainty > 0.0).float()
    z, w = (torch.view_as_complex(x.contiguous()).gather(1, chosen) for x in (first.places, targets))
    onward = _sequential_ransac(z, w, votes)
    return torch.cat((onward.numbers, onward.inverse().numbers))


def _sequential_ransac(
    z: Complex64[Tensor, "n k"], w: Complex64[Tensor, "n k"], votes: Float[Tensor, "n k"]
) -> Transforms:
    """Sequential RANSAC: fit the best transform, remove its inliers, repeat."""
    distance = (z[:, :, None] - z[:, None]).abs()
    a, b, valid = [], [], []
    for _ in range(TRANSFORMS):
        a_best, shift = _fit_to_inliers(*_best_proposal(z, w, votes, distance), z, w, votes)
        agree = votes * ((a_best * z + shift - w).abs() < _MAX_ERROR)
        scale = a_best.abs()[:, 0]
        valid.append((agree.sum(1) >= _MIN_INLIERS) & (scale > _SCALES[0]) & (scale < _SCALES[1]))
        a.append(a_best)
        b.append(shift)
        votes = votes - agree
    return Transforms.of(torch.cat(a, dim=1), torch.cat(b, dim=1), torch.stack(valid, dim=1).float())


def _best_proposal(z: Tensor, w: Tensor, votes: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """The transform through two matches with the highest score: a and b, (n, 1) each."""
    is_partner = (votes[:, None] > 0.0) & (distance > _MIN_DISTANCE)
    partner = distance.masked_fill(~is_partner, 1e6).topk(_PARTNERS, dim=2, largest=False).indices
    own, other = z[:, :, None], z.gather(1, partner.flatten(1)).view(partner.shape)
    target = w.gather(1, partner.flatten(1)).view(partner.shape)
    a = ((target - w[:, :, None]) / (other - own + 1e-6)).flatten(1)
    b = (w[:, :, None] - a.view(partner.shape) * own).flatten(1)
    # |a z + b - w|^2 of all with all, as two products of matrices.
    proposal = torch.stack((a.real, a.imag, b.real, b.imag, torch.ones_like(a.real)), dim=2)
    zero, one = torch.zeros_like(z.real), torch.ones_like(z.real)
    across = proposal @ torch.stack((z.real, -z.imag, one, zero, -w.real), dim=1)
    down = proposal @ torch.stack((z.imag, z.real, zero, one, -w.imag), dim=1)
    agreement = (1.0 - (across * across + down * down) / _MAX_ERROR**2).clamp(min=0.0)
    score = (agreement @ votes[..., None])[..., 0]
    is_plausible = (a.abs() > _SCALES[0]) & (a.abs() < _SCALES[1])
    best = (score * is_plausible * votes.repeat_interleave(_PARTNERS, dim=1)).argmax(1, keepdim=True)
    return a.gather(1, best), b.gather(1, best)


def _fit_to_inliers(a: Tensor, b: Tensor, z: Tensor, w: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares over the matches that agree, the less the farther they are off."""
    for _ in range(_FITS):
        weight = votes * (1.0 + ((a * z + b - w).abs() / 3.0).square()).pow(-2)
        total = weight.sum(1, keepdim=True).clamp(min=1e-6)
        middle, end = ((weight * x).sum(1, keepdim=True) / total for x in (z, w))
        spread = (weight * (z - middle).abs().square()).sum(1, keepdim=True) + 1e-3
        a = (weight * (w - end) * (z - middle).conj_physical()).sum(1, keepdim=True) / spread
        b = end - a * middle
    return a, b


_votes = inference_operator(
    "similarity_votes",
    _reference,
    lambda places, descriptors, flow: places.new_empty((places.shape[0], TRANSFORMS, 5)),
    "similarity_votes",
    launches=5 + 2 * TRANSFORMS,
    settings={
        "matches": _MATCHES,
        "transforms": TRANSFORMS,
        "partners": _PARTNERS,
        "fits": _FITS,
        "max_ratio": MAX_RATIO,
        "min_flow_error": _MIN_FLOW_ERROR,
        "min_distance": _MIN_DISTANCE,
        "max_error": _MAX_ERROR,
        "scale_range": _SCALES,
        "min_votes": _MIN_INLIERS,
    },
)
