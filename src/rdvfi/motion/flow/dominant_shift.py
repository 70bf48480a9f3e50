"""The shift that explains a pair of pictures best as a whole: a start for a search that is near-sighted.

Where a texture repeats itself, a wrong copy explains a patch as well as the right one; only what is
unique in the whole picture tells them apart.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.motion.flow.gauss_newton import window_mean
from rdvfi.ops.inference import inference_operator

ZERO_PENALTY = 1.0
"""Grey levels by which no motion must be better than the guess."""
_BONUS = 8.0
"""Grey levels by which the dominant shift is preferred where the picture repeats itself."""
_NOISE = 4.0
"""Local deviation, in grey levels, that is taken for noise."""
_OVERLAP = 0.5
"""Share of the picture that must stay in view."""
_APART = 4
"""Cells of the coarsest scale beyond which another shift is another copy."""
_WINDOW = 9
"""Side of the windows of mean and deviation, in pixels."""


def dominant_shift(luma: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3"]:
    """The shift that explains each picture best as a whole, (dx, dy), and a penalty for taking it.

    It is the peak of the normalised cross-correlation of both pictures, whose local mean is removed and
    whose local deviation is evened out, over all shifts that leave enough in view. The penalty is a grey
    level, as that of no motion; it falls below zero where there is a second peak almost as high elsewhere:
    the texture repeats.

    Args:
        luma: Sources; the target of each is its partner in the other half of the batch.
    """
    return _dominant_shift(luma)


def _reference(luma: Tensor) -> Tensor:
    apart = luma - window_mean(luma, _WINDOW)
    # Divided by its deviation, or the edges of a frame within the frame would speak loudest.
    first, second = (apart * (window_mean(apart.square(), _WINDOW) + _NOISE**2).rsqrt()).chunk(2)
    h, w = luma.shape[-2:]
    size = (2 * h, 2 * w)
    ones = torch.ones_like(first)
    spectra = [torch.fft.rfft2(x, s=size) for x in (first, second, first.square(), second.square(), ones)]
    pairs = ((spectra[0], spectra[1]), (spectra[2], spectra[4]), (spectra[4], spectra[3]), (spectra[4], spectra[4]))
    # Not `conj`, which waits to be done: within an operator that is watched (`rdvfi.graphs`) nobody does it.
    products, left, entered, shared = (torch.fft.irfft2(a.conj_physical() * b, s=size) for a, b in pairs)
    scores = products / (left.clamp(min=1e-3) * entered.clamp(min=1e-3)).sqrt()
    share = shared / (h * w)
    # What leaves the picture cannot contradict: shifts that keep more of it in view are likelier.
    scores = torch.where(share > _OVERLAP, scores * (0.9 + 0.1 * share), -1.0)[:, 0]
    best, place = scores.flatten(1).max(1, keepdim=True)
    y, x = place // size[1], place % size[1]
    shift = torch.cat(((x + w) % size[1] - w, (y + h) % size[0] - h), dim=1) + _peak_offset(scores, x, y)
    rows = torch.arange(size[0], device=luma.device)[:, None] - y[:, :, None]
    columns = torch.arange(size[1], device=luma.device) - x[:, :, None]
    # Shifts wrap round.
    near = ((rows + h) % size[0] - h).abs().maximum(((columns + w) % size[1] - w).abs()) <= _APART
    other = torch.where(near, -1.0, scores).flatten(1).amax(1, keepdim=True)
    repeats = ((other / best.clamp(min=1e-3) - 0.5) / 0.2).clamp(0.0, 1.0) * ((best - 0.5) / 0.2).clamp(0.0, 1.0)
    penalty = ZERO_PENALTY - (ZERO_PENALTY + _BONUS) * repeats
    return torch.cat((torch.cat((shift, -shift)), penalty.repeat(2, 1)), dim=1)


def _peak_offset(scores: Float[Tensor, "b h w"], x: Int[Tensor, "b 1"], y: Int[Tensor, "b 1"]) -> Float[Tensor, "b 2"]:
    """Where the peak lies between cells, by parabolas through its neighbours; shifts wrap round."""
    h, w = scores.shape[-2:]

    def at(dx: int, dy: int) -> Tensor:
        return scores.flatten(1).gather(1, (y + dy) % h * w + (x + dx) % w)

    middle, found = at(0, 0), []
    for dx, dy in ((1, 0), (0, 1)):
        before, after = at(-dx, -dy), at(dx, dy)
        curvature = (2.0 * middle - before - after).clamp(min=1e-4)
        found.append((0.5 * (after - before) / curvature).clamp(-0.5, 0.5))
    return torch.cat(found, dim=1)


_dominant_shift = inference_operator(
    "dominant_shift",
    _reference,
    lambda luma: luma.new_empty((luma.shape[0], 3)),
    "dominant_shift",
    launches=10,
    settings={
        "side": _WINDOW,
        "noise": _NOISE,
        "overlap": _OVERLAP,
        "apart": _APART,
        "zero_penalty": ZERO_PENALTY,
        "bonus": _BONUS,
    },
)
