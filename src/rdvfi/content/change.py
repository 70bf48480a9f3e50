"""Cuts beside something still: a presenter and slides, the instruments of a game.

Most of the picture is equal in both frames there, the motion of that part is certain, and the mean
confidence of the pair is high although the rest is of two scenes. So what counts is what changed: if
it is a good part of the picture, the motion explains next to nothing of the change, and contradicts
itself there, then the pair is of two scenes.
"""

from jaxtyping import Float
from torch import Tensor

from rdvfi.content.windows import ramp, window_mean

_CHANGED = (4 / 255, 12 / 255)
"""Local mean difference of the frames at which a pixel begins to count as changed, and does wholly."""
_SHARE = (0.12, 0.18)
"""Share of the picture that changed, below and above which it matters."""
_UNEXPLAINED = (0.82, 0.88)
"""Share of the change that is left after warping. Cuts leave 0.84 to 1, ordinary pairs up to 0.8."""
_TRUST = (0.87, 0.93)
"""Mean confidence where it changed. Cuts have 0.1 to 0.86; noise, which no motion explains, 0.95."""

Pair = tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]


def explained_change(frames: Pair, warped: Pair, trust: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Whether the motion explains what changed between two frames: 1 yes, 0 no, values between.

    Args:
        frames: Both, in one light.
        warped: Both at mid-time, in one light.
        trust: Confidence of the motion there.
    """
    before, after = (window_mean((x - y).abs().mean(1, keepdim=True), 5) for x, y in (frames, warped))
    changed = ramp(before, *_CHANGED)
    total = changed.sum((1, 2, 3)).clamp(min=1.0)
    left = (after * changed).sum((1, 2, 3)) / (before * changed).sum((1, 2, 3)).clamp(min=1e-6)
    certain = (trust * changed).sum((1, 2, 3)) / total
    doubtful = ramp(left, *_UNEXPLAINED) * (1.0 - ramp(certain, *_TRUST))
    return 1.0 - doubtful * ramp(changed.mean((1, 2, 3)), *_SHARE)
