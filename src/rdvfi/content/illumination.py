r"""Illumination changes between two frames: fades, exposure, lamps.

The brightness of one surface differs in the two frames. Warping and blending handle that correctly: if a surface S is
shown under illumination ``L0`` and ``L1``, the blend ``(1 - t) L0 S + t L1 S`` is S under the interpolated
illumination. But a network that compares the warped frames takes the brightness difference for an error of the motion,
and where the blend weight prefers one frame (at occlusions), the brightness of that frame is copied with it.

So the networks compare the frames after exposure normalisation, and the brightness is corrected where the blend is
one-sided. Let ``m0`` and ``m1`` be local means of both frames at mid-time, warped along the motion and weighted by its
confidence, and ``g = log(m1 / m0)`` the local log gain. The normalised frames are ``exp(g/2) img0`` and ``exp(-g/2)
img1``, and relative to them the illumination of time t is ``L_t = (1 - t) exp(-g/2) + t exp(g/2)``. Small gains cannot
be distinguished from errors of the motion and are set to zero.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.windows import ramp, window_mean
from rdvfi.ops.inference import inference_operator
from rdvfi.types import Times

_WINDOWS_PER_WIDTH = 6
"""Local means are taken over one sixth of the width: wider than moving objects, narrower than the light of a lamp."""
_NEGLIGIBLE, _CERTAIN = 0.015, 0.04
"""Absolute log gains below which the gain of a pixel is set to zero, and above which it is used fully."""
_MEAN_GAIN = (0.005, 0.02)
"""Mean absolute log gains of the picture below which no gain is used, and above which all are used fully."""
_FLOOR = 0.01
"""Added to both means: the gain of black is 1."""
_PRIOR = 0.15
"""Weight of the prior "no change", relative to the confidence of the motion."""

Small = Float[Tensor, "b 3 h w"]


@dataclass(frozen=True, eq=False)
class IlluminationChange:
    """Local illumination change of a pair, on the trajectory's grid at mid-time."""

    gain: Float[Tensor, "b 1 h w"]
    """Log gain: logarithm of the brightness ratio of the last to the first frame; 0 where it does not change."""

    def any(self) -> Tensor:
        """Whether the illumination changes anywhere, as a boolean tensor with one element."""
        return (self.gain != 0.0).any()

    def end_illumination(self) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
        """Illumination of the first and of the last frame, relative to that of the normalised frames."""
        return torch.exp(-0.5 * self.gain), torch.exp(0.5 * self.gain)

    def normalise(self, small0: Small, small1: Small) -> tuple[Small, Small]:
        """Both frames, on the grid of the gain, after exposure normalisation."""
        first, last = self.end_illumination()
        return small0 / first, small1 / last

    def at(self, timesteps: Times) -> Float[Tensor, "b t 1 h w"]:
        """Illumination at each time, relative to that of the normalised frames."""
        first, last = self.end_illumination()
        t = timesteps.to(first)[None, :, None, None, None]
        return first[:, None] + t * (last - first)[:, None]


def find_illumination_change(
    warped0: Small, warped1: Small, confidence: Float[Tensor, "b 1 h w"]
) -> IlluminationChange:
    """The illumination change between two frames.

    Args:
        warped0: The first frame, warped to mid-time.
        warped1: The last frame, warped to mid-time.
        confidence: Confidence of the motion at mid-time, (0, 1].
    """
    side = warped0.shape[-1] // _WINDOWS_PER_WIDTH | 1
    side = min(side, 2 * min(warped0.shape[-2:]) - 1)
    return IlluminationChange(_light_gain(warped0, warped1, confidence, side))


def _reference(warped0: Tensor, warped1: Tensor, trust: Tensor, side: int) -> Tensor:
    gray0, gray1 = (image.float().mean(1, keepdim=True) for image in (warped0, warped1))
    m0, m1, share = window_mean(torch.cat((trust * gray0, trust * gray1, trust), dim=1), side).split(1, dim=1)
    gain = torch.log((m1 + _FLOOR * share) / (m0 + _FLOOR * share).clamp(min=1e-6))
    gain = gain * (1.0 + _PRIOR) * share / (share + _PRIOR)
    certain = ramp(gain.abs(), _NEGLIGIBLE, _CERTAIN)
    gain = gain * certain * certain * (3.0 - 2.0 * certain)
    return gain * ramp(gain.abs().mean((1, 2, 3), keepdim=True), *_MEAN_GAIN)


_light_gain = inference_operator(
    "light_gain",
    _reference,
    lambda warped0, warped1, trust, side: trust.new_empty(trust.shape),
    "light",
    launches=4,
    settings={"floor": _FLOOR, "prior": _PRIOR, "certain": (_NEGLIGIBLE, _CERTAIN), "seen": _MEAN_GAIN},
)
