"""Cuts that replace only part of the picture, such as new slides beside a presenter, or a game under fixed instruments.

In such a pair most pixels are equal in both frames, their zero motion is certain, and the mean confidence of the pair
stays high although the changed part shows two scenes. The decision is therefore made on the changed part alone: if it
covers a considerable fraction of the picture, if warping along the estimated motion hardly reduces its difference, and
if the motion is inconsistent there (forward-backward error), then the pair counts as two scenes.
"""

from jaxtyping import Float
from torch import Tensor

from rdvfi.content.illumination import IlluminationChange
from rdvfi.content.windows import ramp, window_mean
from rdvfi.ops.inference import inference_operator

_CHANGED = (4 / 255, 12 / 255)
"""Local mean difference of the frames between which a pixel counts as changed to a degree from 0 to 1."""
_SHARE = (0.12, 0.18)
"""Changed fraction of the picture above which the rule applies, and applies fully."""
_UNEXPLAINED = (0.82, 0.88)
"""Difference after warping over difference before. Measured: 0.84 to 1 at cuts, up to 0.8 in ordinary pairs."""
_CONFIDENCE = (0.87, 0.93)
"""Mean confidence of the changed part. Measured: 0.1 to 0.86 at cuts; 0.95 for noise, whose difference remains too."""

_SIDE = 5
"""Side of the windows over which differences are averaged, in pixels."""

Pair = tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]


def explained_change(
    frames: Pair, warped: Pair, illumination: IlluminationChange, confidence: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """The degree to which motion explains the difference of two frames, from 0 (not at all) to 1 (fully); (b,).

    Args:
        frames: Both frames.
        warped: Both frames, warped to mid-time.
        illumination: The illumination change, which is removed before frames are compared.
        confidence: Confidence of the motion at mid-time.
    """
    return _explained(*frames, *warped, illumination.gain, confidence)


def _reference(small0: Tensor, small1: Tensor, warped0: Tensor, warped1: Tensor, gain: Tensor, trust: Tensor) -> Tensor:
    pairs = (IlluminationChange(gain).normalise(*pair) for pair in ((small0, small1), (warped0, warped1)))
    before, after = (window_mean((x - y).abs().mean(1, keepdim=True), _SIDE) for x, y in pairs)
    changed = ramp(before, *_CHANGED)
    total = changed.sum((1, 2, 3)).clamp(min=1.0)
    remaining = (after * changed).sum((1, 2, 3)) / (before * changed).sum((1, 2, 3)).clamp(min=1e-6)
    confidence = (trust * changed).sum((1, 2, 3)) / total
    unexplained = ramp(remaining, *_UNEXPLAINED) * (1.0 - ramp(confidence, *_CONFIDENCE))
    return 1.0 - unexplained * ramp(changed.mean((1, 2, 3)), *_SHARE)


_explained = inference_operator(
    "explained",
    _reference,
    lambda small0, small1, warped0, warped1, gain, trust: gain.new_empty(gain.shape[0]),
    "light",
    launches=4,
    settings={"changed": _CHANGED, "share": _SHARE, "unexplained": _UNEXPLAINED, "certain": _CONFIDENCE, "side": _SIDE},
)
