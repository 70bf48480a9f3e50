"""The dominant shift of an image: the translation that aligns two images best, by normalised cross-correlation.

Where a texture repeats, a shifted copy matches a patch as well as the correct one does; only unique structure elsewhere
in the image resolves the ambiguity. So the dominant shift is a candidate of the patch search.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.motion.flow.gauss_newton import window_mean
from rdvfi.ops.inference import inference_operator

ZERO_PENALTY = 1.0
"""Penalty of zero motion, in grey levels."""
_REPETITION_BONUS = 8.0
"""Preference for the dominant shift in repetitive images, in grey levels."""
_NOISE = 4.0
"""Local standard deviation of the noise, in grey levels."""
_MIN_OVERLAP = 0.5
"""Least fraction of the image that must remain visible."""
_MIN_PEAK_DISTANCE = 4
"""Distance of a second peak from the first, in cells of the coarsest scale."""
_WINDOW = 9
"""Side of the windows for local mean and deviation, in pixels."""


def dominant_shift(luma: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3"]:
    """The dominant shift (dx, dy) of each image, and its penalty in grey levels, (n, 3).

    It is the peak of the normalised cross-correlation of both images, after normalisation by local mean and
    standard deviation, over all shifts with enough overlap. The penalty equals that of zero motion; it is
    negative (a preference) if a second peak is almost as high, which means that the texture repeats.

    Args:
        luma: Source images; the target of each is in the other half of the batch.
    """
    return _dominant_shift(luma)


def _reference(luma: Tensor) -> Tensor:
    difference = luma - window_mean(luma, _WINDOW)
    # Normalised by the local deviation: otherwise strong edges of a static border would dominate.
    first, second = (difference * (window_mean(difference.square(), _WINDOW) + _NOISE**2).rsqrt()).chunk(2)
    h, w = luma.shape[-2:]
    size = (2 * h, 2 * w)
    ones = torch.ones_like(first)
    spectra = [torch.fft.rfft2(x, s=size) for x in (first, second, first.square(), second.square(), ones)]
    pairs = ((spectra[0], spectra[1]), (spectra[2], spectra[4]), (spectra[4], spectra[3]), (spectra[4], spectra[4]))
    # `conj_physical`, since the lazy `conj` is not resolved within an operator under `rdvfi.graph_watch.Watch`.
    products, energy0, energy1, overlap = (torch.fft.irfft2(a.conj_physical() * b, s=size) for a, b in pairs)
    scores = products / (energy0.clamp(min=1e-3) * energy1.clamp(min=1e-3)).sqrt()
    share = overlap / (h * w)
    # Pixels that leave the image cannot contradict a shift, so shifts with more overlap are preferred.
    scores = torch.where(share > _MIN_OVERLAP, scores * (0.9 + 0.1 * share), -1.0)[:, 0]
    best, cell = scores.flatten(1).max(1, keepdim=True)
    y, x = cell // size[1], cell % size[1]
    shift = torch.cat(((x + w) % size[1] - w, (y + h) % size[0] - h), dim=1) + _peak_offset(scores, x, y)
    rows = torch.arange(size[0], device=luma.device)[:, None] - y[:, :, None]
    columns = torch.arange(size[1], device=luma.device) - x[:, :, None]
    # Shifts wrap round.
    is_near = ((rows + h) % size[0] - h).abs().maximum(((columns + w) % size[1] - w).abs()) <= _MIN_PEAK_DISTANCE
    second_best = torch.where(is_near, -1.0, scores).flatten(1).amax(1, keepdim=True)
    repetition = ((second_best / best.clamp(min=1e-3) - 0.5) / 0.2).clamp(0.0, 1.0) * ((best - 0.5) / 0.2).clamp(
        0.0, 1.0
    )
    penalty = ZERO_PENALTY - (ZERO_PENALTY + _REPETITION_BONUS) * repetition
    return torch.cat((torch.cat((shift, -shift)), penalty.repeat(2, 1)), dim=1)


def _peak_offset(scores: Float[Tensor, "b h w"], x: Int[Tensor, "b 1"], y: Int[Tensor, "b 1"]) -> Float[Tensor, "b 2"]:
    """Sub-cell position of the peak by parabolas through its neighbours; shifts wrap around."""
    h, w = scores.shape[-2:]

    def at(dx: int, dy: int) -> Tensor:
        return scores.flatten(1).gather(1, (y + dy) % h * w + (x + dx) % w)

    middle, offsets = at(0, 0), []
    for dx, dy in ((1, 0), (0, 1)):
        before, after = at(-dx, -dy), at(dx, dy)
        curvature = (2.0 * middle - before - after).clamp(min=1e-4)
        offsets.append((0.5 * (after - before) / curvature).clamp(-0.5, 0.5))
    return torch.cat(offsets, dim=1)


_dominant_shift = inference_operator(
    "dominant_shift",
    _reference,
    lambda luma: luma.new_empty((luma.shape[0], 3)),
    "dominant_shift",
    launches=10,
    settings={
        "window": _WINDOW,
        "noise": _NOISE,
        "min_overlap": _MIN_OVERLAP,
        "min_distance": _MIN_PEAK_DISTANCE,
        "zero_penalty": ZERO_PENALTY,
        "bonus": _REPETITION_BONUS,
    },
)
