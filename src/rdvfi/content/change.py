"""Cuts beside something still: a presenter and slides, the instruments of a game.

Most of the picture is equal in both frames there, the motion of that part is certain, and the mean
confidence of the pair is high although the rest is of two scenes. So what counts is what changed: if
it is a good part of the picture, the motion explains next to nothing of the change, and contradicts
itself there, then the pair is of two scenes.
"""

from jaxtyping import Float
from torch import Tensor

from rdvfi.content.light import Light
from rdvfi.content.windows import ramp, window_mean
from rdvfi.ops.inference import inference_operator

_CHANGED = (4 / 255, 12 / 255)
"""Local mean difference of the frames at which a pixel begins to count as changed, and does wholly."""
_SHARE = (0.12, 0.18)
"""Share of the picture that changed, below and above which it matters."""
_UNEXPLAINED = (0.82, 0.88)
"""Share of the change that is left after warping. Cuts leave 0.84 to 1, ordinary pairs up to 0.8."""
_TRUST = (0.87, 0.93)
"""Mean confidence where it changed. Cuts have 0.1 to 0.86; noise, which no motion explains, 0.95."""

_SIDE = 5
"""Of the windows over which differences are averaged."""

Pair = tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]


def explained_change(frames: Pair, warped: Pair, light: Light, trust: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Whether the motion explains what changed between two frames: 1 yes, 0 no, values between.

    Args:
        frames: Both.
        warped: Both at mid-time.
        light: Its change between them, which is no change of the picture.
        trust: Confidence of the motion there.
    """
    return _explained(*frames, *warped, light.gain, trust)


def _reference(small0: Tensor, small1: Tensor, warped0: Tensor, warped1: Tensor, gain: Tensor, trust: Tensor) -> Tensor:
    pairs = (Light(gain).between(*pair) for pair in ((small0, small1), (warped0, warped1)))
    before, after = (window_mean((x - y).abs().mean(1, keepdim=True), _SIDE) for x, y in pairs)
    changed = ramp(before, *_CHANGED)
    total = changed.sum((1, 2, 3)).clamp(min=1.0)
    left = (after * changed).sum((1, 2, 3)) / (before * changed).sum((1, 2, 3)).clamp(min=1e-6)
    certain = (trust * changed).sum((1, 2, 3)) / total
    doubtful = ramp(left, *_UNEXPLAINED) * (1.0 - ramp(certain, *_TRUST))
    return 1.0 - doubtful * ramp(changed.mean((1, 2, 3)), *_SHARE)


_explained = inference_operator(
    "explained",
    _reference,
    lambda small0, small1, warped0, warped1, gain, trust: gain.new_empty(gain.shape[0]),
    "light",
    launches=4,
    settings={
        "changed": _CHANGED,
        "share": _SHARE,
        "unexplained": _UNEXPLAINED,
        "certain": _TRUST,
        "side": _SIDE,
    },
)
