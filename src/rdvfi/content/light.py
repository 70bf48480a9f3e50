r"""Light that changes between two frames: fades, exposure, lamps.

The same surface is brighter in one frame than in the other. Warping and blending carry that over
correctly: with a picture ``S`` in light ``L0`` and ``L1`` the blend ``(1 - t) L0 S + t L1 S`` is the
picture in the light between. A network that compares the warped frames, however, takes the difference
for an error of the motion and smears it, and where the blend leans to one frame its light comes along.

So the networks see both frames in one light, and the blend is set right where it leans. With ``m0``
and ``m1`` the local means of both frames at mid-time, warped there along the motion and weighted by
its confidence, ``g = log(m1 / m0)`` is the local gain; the frames in mid light are ``exp(g/2) img0``
and ``exp(-g/2) img1``, and the light of time ``t`` is ``L_t = (1 - t) exp(-g/2) + t exp(g/2)``
relative to it. Small gains are not told from motion and taken for none.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.content.windows import ramp, window_mean
from rdvfi.ops.inference import inference_operator
from rdvfi.types import Times

_WINDOWS_PER_WIDTH = 6
"""Means are taken over a sixth of the width: wider than what moves, narrower than a lamp's light."""
_NONE, _CERTAIN = 0.015, 0.04
"""Log gains up to which there is no change of light, and from which on all of it counts."""
_SEEN = (0.005, 0.02)
"""Mean log gain of a picture up to which it is an error of the motion, and from which on it is light."""
_FLOOR = 0.01
"""Added to both means, so that the dark has no gain."""
_PRIOR = 0.15
"""Weight of no change, against the confidence of the motion."""

Small = Float[Tensor, "b 3 h w"]


@dataclass(frozen=True, eq=False)
class Light:
    """The local change of light of a pair, on the trajectory's grid at mid-time."""

    gain: Float[Tensor, "b 1 h w"]
    """Logarithm of how many times brighter the last frame is; 0 where the light stays."""

    def any(self) -> Tensor:
        """Whether it changes anywhere: a tensor with one truth value."""
        return (self.gain != 0.0).any()

    def ends(self) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
        """The light of the first and of the last frame, relative to the light between."""
        return torch.exp(-0.5 * self.gain), torch.exp(0.5 * self.gain)

    def between(self, small0: Small, small1: Small) -> tuple[Small, Small]:
        """Both frames, on this grid, in the light between them."""
        first, last = self.ends()
        return small0 / first, small1 / last

    def at(self, timesteps: Times) -> Float[Tensor, "b t 1 h w"]:
        """The light of each time, relative to the light between."""
        first, last = self.ends()
        t = timesteps.to(first)[None, :, None, None, None]
        return first[:, None] + t * (last - first)[:, None]


def find_light(warped0: Small, warped1: Small, trust: Float[Tensor, "b 1 h w"]) -> Light:
    """The change of light between two frames.

    Args:
        warped0: The first frame, warped to mid-time.
        warped1: The last one.
        trust: Confidence of the motion there, (0, 1].
    """
    side = warped0.shape[-1] // _WINDOWS_PER_WIDTH | 1
    side = min(side, 2 * min(warped0.shape[-2:]) - 1)
    return Light(_light_gain(warped0, warped1, trust, side))


def _reference(warped0: Tensor, warped1: Tensor, trust: Tensor, side: int) -> Tensor:
    gray0, gray1 = (image.float().mean(1, keepdim=True) for image in (warped0, warped1))
    m0, m1, share = window_mean(torch.cat((trust * gray0, trust * gray1, trust), dim=1), side).split(1, dim=1)
    gain = torch.log((m1 + _FLOOR * share) / (m0 + _FLOOR * share).clamp(min=1e-6))
    gain = gain * (1.0 + _PRIOR) * share / (share + _PRIOR)
    certain = ramp(gain.abs(), _NONE, _CERTAIN)
    gain = gain * certain * certain * (3.0 - 2.0 * certain)
    return gain * ramp(gain.abs().mean((1, 2, 3), keepdim=True), *_SEEN)


_light_gain = inference_operator(
    "light_gain",
    _reference,
    lambda warped0, warped1, trust, side: trust.new_empty(trust.shape),
    "light",
    launches=4,
    settings={"floor": _FLOOR, "prior": _PRIOR, "certain": (_NONE, _CERTAIN), "seen": _SEEN},
)
