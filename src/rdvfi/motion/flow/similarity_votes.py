"""Similarity transforms that keypoint matches agree on where a flow is wrong; tensors of fixed shapes.

An object that turns or grows takes its points along one similarity transform (a turn, a scale and a
shift). With points as complex numbers it is ``z -> a z + b``, and two matches determine it. A flow
that was found by comparing pictures upright is lost there; keypoints are not
(`rdvfi.motion.flow.keypoints`).

Every match proposes the transforms through itself and its nearest neighbours; a proposal counts the
matches that agree with it; the one with most is kept and fitted to those by iteratively reweighted
least squares, they are taken out, and the next is looked for. That is sequential RANSAC (Fischler and
Bolles, CACM 1981) with every match in the place of random draws: nothing is random, and no shape
depends on values.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float
from torch import Tensor

from rdvfi.motion.flow.keypoints import UNIQUE, KeypointSet, find_keypoints, matched, sampled
from rdvfi.ops.inference import inference_operator

_MATCHES = 192
"""Matches that are looked at, the surest ones."""
TRANSFORMS = 3
"""Transforms that are looked for."""
_WRONG = 3.0
"""A flow that misses a match by more pixels is wrong there."""
_PARTNERS = 6
"""Neighbours of a match that propose a transform together with it."""
_APART = 12.0
"""Pixels between both matches of a proposal, at least: nearer ones say little about turn and scale."""
_AGREES = 4.0
"""A match agrees the less, the more pixels a transform misses it by, up to this many."""
_SCALES = (0.4, 2.5)
"""Changes of size that are believed."""
_ENOUGH = 8.0
"""Matches that must agree."""
_FITS = 4
"""Rounds of reweighted least squares."""


@dataclass(frozen=True, eq=False)
class Transforms:
    """Similarity transforms ``z -> a z + b`` of pixels from the upper left one, and who agrees."""

    numbers: Float[Tensor, "n t 5"]
    """Real and imaginary part of a and of b, and 1 where enough matches agree, else 0."""

    @classmethod
    def of(cls, a: Complex64[Tensor, "n t"], b: Complex64[Tensor, "n t"], held: Float[Tensor, "n t"]) -> "Transforms":
        """Of complex numbers."""
        return cls(torch.stack((a.real, a.imag, b.real, b.imag, held), dim=2))

    @property
    def a(self) -> Complex64[Tensor, "n t"]:
        """Turn and scale."""
        return torch.complex(self.numbers[..., 0], self.numbers[..., 1])

    @property
    def b(self) -> Complex64[Tensor, "n t"]:
        """Shift, in pixels."""
        return torch.complex(self.numbers[..., 2], self.numbers[..., 3])

    @property
    def held(self) -> Float[Tensor, "n t"]:
        """1 where enough matches agree, else 0."""
        return self.numbers[..., 4]

    def inverse(self) -> "Transforms":
        """From the second pictures to the first."""
        a = torch.where(self.a.abs() > 0.5 * _SCALES[0], self.a, torch.ones_like(self.a))
        return Transforms.of(1.0 / a, -self.b / a, self.held)


def voted_transforms(luma: Float[Tensor, "n 1 h w"], flow: Float[Tensor, "n 2 h w"]) -> Transforms:
    """Transforms of the pictures' parts that a flow misses, from those with most matches on.

    Args:
        luma: Pictures in grey levels; the first half of the batch is matched with the second.
        flow: Of each, to its partner in the other half, in pixels.

    Returns:
        Of the first half, then of the second.
    """
    points = find_keypoints(luma)
    return Transforms(_votes(points.places, points.descriptors, flow))


def _reference(places: Tensor, descriptors: Tensor, flow: Tensor) -> Tensor:
    first, second = (KeypointSet(*halves) for halves in zip(places.chunk(2), descriptors.chunk(2), strict=True))
    ends, sure = matched(first, second)
    missed = first.places + sampled(flow.chunk(2)[0], first.places[:, :, None])[:, :, 0] - ends
    sure = torch.where(missed.square().sum(-1) > _WRONG**2, sure, 0.0)
    sure, chosen = sure.topk(min(_MATCHES, sure.shape[1]), dim=1)
    votes = (sure > 0.0).float()
    z, w = (torch.view_as_complex(x.contiguous()).gather(1, chosen) for x in (first.places, ends))
    onward = _agreed(z, w, votes)
    return torch.cat((onward.numbers, onward.inverse().numbers))


def _agreed(z: Complex64[Tensor, "n k"], w: Complex64[Tensor, "n k"], votes: Float[Tensor, "n k"]) -> Transforms:
    """Take the transform with most votes, strike those, and again."""
    apart = (z[:, :, None] - z[:, None]).abs()
    a, b, held = [], [], []
    for _ in range(TRANSFORMS):
        turn, shift = _fitted(*_most_agreed(z, w, votes, apart), z, w, votes)
        agree = votes * ((turn * z + shift - w).abs() < _AGREES)
        size = turn.abs()[:, 0]
        held.append((agree.sum(1) >= _ENOUGH) & (size > _SCALES[0]) & (size < _SCALES[1]))
        a.append(turn)
        b.append(shift)
        votes = votes - agree
    return Transforms.of(torch.cat(a, dim=1), torch.cat(b, dim=1), torch.stack(held, dim=1).float())


def _most_agreed(z: Tensor, w: Tensor, votes: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Of the transforms through two matches, the one that most others agree with, (n, 1) each."""
    usable = (votes[:, None] > 0.0) & (apart > _APART)
    partner = apart.masked_fill(~usable, 1e6).topk(_PARTNERS, dim=2, largest=False).indices
    here, there = z[:, :, None], z.gather(1, partner.flatten(1)).view(partner.shape)
    seen = w.gather(1, partner.flatten(1)).view(partner.shape)
    a = ((seen - w[:, :, None]) / (there - here + 1e-6)).flatten(1)
    b = (w[:, :, None] - a.view(partner.shape) * here).flatten(1)
    # |a z + b - w|^2 of all with all, as two products of matrices.
    proposal = torch.stack((a.real, a.imag, b.real, b.imag, torch.ones_like(a.real)), dim=2)
    zero, one = torch.zeros_like(z.real), torch.ones_like(z.real)
    across = proposal @ torch.stack((z.real, -z.imag, one, zero, -w.real), dim=1)
    down = proposal @ torch.stack((z.imag, z.real, zero, one, -w.imag), dim=1)
    near = (1.0 - (across * across + down * down) / _AGREES**2).clamp(min=0.0)
    score = (near @ votes[..., None])[..., 0]
    believed = (a.abs() > _SCALES[0]) & (a.abs() < _SCALES[1])
    best = (score * believed * votes.repeat_interleave(_PARTNERS, dim=1)).argmax(1, keepdim=True)
    return a.gather(1, best), b.gather(1, best)


def _fitted(a: Tensor, b: Tensor, z: Tensor, w: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
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
        "unique": UNIQUE,
        "wrong": _WRONG,
        "apart": _APART,
        "agrees": _AGREES,
        "scales": _SCALES,
        "enough": _ENOUGH,
    },
)
