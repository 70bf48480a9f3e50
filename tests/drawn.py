"""What the tests of drawing share: noise to draw, its definition in float64, and what rounds.

Positions are float32. With ``S`` the longest side of a frame and ``M`` the largest flow, a position
is worked out from a dozen numbers that are at most ``S + M``, so it is off by some units of
``2^-24 (S + M)``; what is drawn is off by that times the steps between neighbouring pixels, along
both axes.
"""

import torch
from torch import Tensor

from rdvfi.ops.drawing.reference import composition

_STEP = 0.5
"""Largest step between two pixels of noise."""
_UNITS = 32.0
"""By how many units a position may be off: 19 were the most in 3,000 draws of all sizes."""


def noise(seed: int, b: int, t: int, size: tuple[int, int], small: tuple[int, int], reach: float) -> tuple[Tensor, ...]:
    """Arguments of `rdvfi.ops.render`: two images, two flows, blend and colours, all of noise.

    Args:
        seed: Of the noise.
        b: Samples.
        t: Frames of each.
        size: Of a frame.
        small: Of the motion.
        reach: Deviation of the flow, in shorter sides of ``small``.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(c: int, *, normal: bool = False) -> Tensor:
        draw = torch.randn if normal else torch.rand
        return draw(b, t, c, *small, generator=generator)

    images = [_STEP * torch.rand(b, 3, *size, generator=generator) for _ in range(2)]
    flows = [reach * min(small) * some(2, normal=True) for _ in range(2)]
    return (*images, *flows, some(1), 0.5 * some(3, normal=True))


def exact(*arguments: Tensor) -> Tensor:
    """The definition in float64."""
    return composition(*(x.double() for x in arguments)).clamp(0, 1).float()


def rounding(*arguments: Tensor) -> float:
    """By how much float32 may change what is drawn of `noise`."""
    (h, w), (hs, ws) = (x.shape[-2:] for x in (arguments[0], arguments[2]))
    flows = torch.cat([x.flatten() for x in arguments[2:4]]).abs()
    most = float(flows.max()) * max(h / hs, w / ws) if flows.numel() else 0.0
    return 2.0 * _STEP * _UNITS * 2.0**-24 * (max(h, w) + most) + 1e-6
