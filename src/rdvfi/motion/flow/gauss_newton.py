"""Sub-pixel steps of a flow, by least squares on the pictures themselves; nothing here is learned.

Let ``p`` be the source and ``q`` the target, both with their local mean removed and divided by
their local deviation, so that neither light nor contrast counts. Where a flow ``F`` is nearly right,
``q(x + F + d)`` is about ``q(x + F) + g . d`` with ``g`` the gradient of ``p``, and the step

    d = -(sum g g^T + damping)^-1 sum g r,    r = q(x + F) - p(x),

over a window is that of Gauss and Newton: Lucas and Kanade (IJCAI 1981), in the inverse
compositional form of Baker and Matthews (IJCV 2004, https://doi.org/10.1023/B:VISI.0000011205.11775.fd),
whose matrix does not depend on the flow. It is what makes the patches of DIS (Kroeger et al., 2016,
https://arxiv.org/abs/1603.03590) exact to a few hundredths of a pixel. Here a window is centred at
every cell of a coarser grid, and a network decides how far each step is taken
(`rdvfi.motion.flow.global_local`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.warp import backward_warp

_LUMA = (0.299, 0.587, 0.114)
"""BT.601."""
_FLOOR = 0.04
"""Local deviation of brightness, in [0, 1], that is taken for noise."""
_CELL = 4
"""Side of the cells whose moments are the local ones, in pixels."""
DAMPING = 4e-3
"""Added to the mean squared gradients of a window."""
LONGEST = 2.0
"""No step is longer than this many cells."""


@dataclass(frozen=True, eq=False)
class NormalisedImages:
    """The pictures that are compared, once per batch.

    Attributes:
        maps: Their `values`, then their `gradient`.
    """

    maps: Float[Tensor, "n 4 h w"]

    @classmethod
    def of(cls, images: Float[Tensor, "n 3 h w"]) -> "NormalisedImages":
        """Read pictures in [0, 1] whose sides are multiples of four."""
        return cls(_surface(images.float()))

    @property
    def values(self) -> Float[Tensor, "n 2 h w"]:
        """Normalised brightness, and brightness as it is."""
        return self.maps[:, :2]

    @property
    def gradient(self) -> Float[Tensor, "n 2 h w"]:
        """Of the normalised brightness, per pixel."""
        return self.maps[:, 2:]


def _surface_reference(images: Tensor) -> Tensor:
    r, g, b = images.split(1, dim=1)
    light = _LUMA[0] * r + _LUMA[1] * g + _LUMA[2] * b
    moments = window_mean(F.avg_pool2d(torch.cat((light, light * light), dim=1), _CELL), 3)
    wide = F.interpolate(moments, scale_factor=float(_CELL), mode="bilinear", align_corners=False)
    mean, square = wide.split(1, dim=1)
    values = (light - mean) * ((square - mean * mean).clamp(min=0.0) + _FLOOR**2).rsqrt()
    wide = F.pad(values, (1, 1, 1, 1), mode="replicate")
    across = 0.5 * (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2])
    down = 0.5 * (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])
    return torch.cat((values, light, across, down), dim=1)


_surface = inference_operator(
    "surface",
    _surface_reference,
    lambda images: images.new_empty((images.shape[0], 4, *images.shape[2:])),
    "surface",
    launches=3,
    settings={"cell": _CELL, "luma": _LUMA, "floor": _FLOOR},
)


@dataclass(frozen=True, eq=False)
class Window:
    """The matrices of all cells of a grid, for two sizes of windows."""

    stride: int
    matrices: tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]
    """Mean products of the gradient, xx, xy and yy, per size."""
    sides: tuple[int, int]
    """Of the windows, in cells."""

    @classmethod
    def of(cls, surface: NormalisedImages, stride: int, sides: tuple[int, int]) -> "Window":
        """Gather the gradients of every cell's surroundings."""
        x, y = surface.gradient.split(1, dim=1)
        products = F.avg_pool2d(torch.cat((x * x, x * y, y * y), dim=1), stride)
        return cls(stride, (window_mean(products, sides[0]), window_mean(products, sides[1])), sides)

    def texture(self) -> Float[Tensor, "n 2 h w"]:
        """Logarithm of the smaller eigenvalue of each matrix: how well a step is determined."""
        return torch.cat([_smaller_eigenvalue(m) for m in self.matrices], dim=1)


@dataclass(frozen=True, eq=False)
class GaussNewtonFit:
    """How well a flow explains the source, and the steps that would explain it better.

    Attributes:
        steps: Of the smaller and of the larger window, in cells.
        residual: Differences of normalised brightness, those of a cell's pixels as channels.
        misfit: Root mean square difference of normalised brightness, and mean absolute difference
            of brightness, over the smaller window.
    """

    steps: tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]
    residual: Float[Tensor, "n k h w"]
    misfit: Float[Tensor, "n 2 h w"]


def fit(surface: NormalisedImages, window: Window, flow: Float[Tensor, "n 2 h w"]) -> GaussNewtonFit:
    """Compare every source with its target along a flow.

    Args:
        surface: Sources; the target of each is its partner in the other half of the batch.
        window: Of the grid of the flow.
        flow: In cells.
    """
    size = (surface.values.shape[-2], surface.values.shape[-1])
    seen = backward_warp(swap_halves(surface.values), resize_flow(flow.float(), size).contiguous())
    return _fitted(surface, window, seen)


def fit_without_motion(surface: NormalisedImages, window: Window) -> Float[Tensor, "n 2 hs ws"]:
    """The misfit of a flow that is zero."""
    return _misfit(swap_halves(surface.values) - surface.values, window)


def swap_halves(both: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The second half of the batch before the first."""
    first, second = both.chunk(2)
    return torch.cat((second, first))


def _fitted(surface: NormalisedImages, window: Window, seen: Float[Tensor, "n 2 h w"]) -> GaussNewtonFit:
    apart = seen - surface.values
    error = apart[:, :1]
    products = F.avg_pool2d(surface.gradient * error, window.stride)
    small, large = (
        _solved(matrix, window_mean(products, side), window.stride)
        for matrix, side in zip(window.matrices, window.sides, strict=True)
    )
    return GaussNewtonFit((small, large), F.pixel_unshuffle(error, window.stride), _misfit(apart, window))


def _misfit(apart: Float[Tensor, "n 2 h w"], window: Window) -> Float[Tensor, "n 2 hs ws"]:
    normalised, light = apart.split(1, dim=1)
    means = F.avg_pool2d(torch.cat((normalised * normalised, light.abs()), dim=1), window.stride)
    square, absolute = window_mean(means, window.sides[0]).split(1, dim=1)
    return torch.cat(((square + 1e-6).sqrt(), 10.0 * absolute), dim=1)


def _solved(matrix: Float[Tensor, "n 3 h w"], right: Float[Tensor, "n 2 h w"], stride: int) -> Tensor:
    """The damped step, in cells; long ones are shortened smoothly."""
    xx, xy, yy = matrix.split(1, dim=1)
    xx, yy = xx + DAMPING, yy + DAMPING
    x, y = right.split(1, dim=1)
    step = torch.cat((xy * y - yy * x, xy * x - xx * y), dim=1) / ((xx * yy - xy * xy) * stride)
    return step * (1.0 + step.square().sum(1, keepdim=True) / LONGEST**2).rsqrt()


def _smaller_eigenvalue(matrix: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    xx, xy, yy = matrix.split(1, dim=1)
    half = 0.5 * (xx + yy)
    root = (0.25 * (xx - yy).square() + xy * xy + 1e-12).sqrt()
    return 0.25 * ((half - root).clamp(min=0.0) + 1e-4).log() + 1.0


def window_mean(maps: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c h w"]:
    """Mean over ``side`` by ``side`` cells, an odd number; borders are replicated."""
    h, w = maps.shape[-2:]
    wide = F.pad(maps, (side // 2,) * 4, mode="replicate")
    # Sums of shifted views are several times as fast as `avg_pool2d` on a CPU.
    rows = wide[..., :w].clone()
    for k in range(1, side):
        rows += wide[..., k : k + w]
    total = rows[..., :h, :].clone()
    for k in range(1, side):
        total += rows[..., k : k + h, :]
    return total / side**2
