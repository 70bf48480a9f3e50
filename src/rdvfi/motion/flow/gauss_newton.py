"""Gauss-Newton (Lucas-Kanade) steps that refine a flow to sub-pixel accuracy; no learned weights.

Let ``p`` be the source and ``q`` the target image, both normalised: the local mean is subtracted and the result divided
by the local standard deviation, for invariance to brightness and contrast. Near the correct flow, the first-order
expansion of brightness constancy is ``q(x + F + d) = q(x + F) + g . d``, with ``g`` the gradient of ``p``, and the
least-squares step over a window is

    d = -(sum g g^T + damping)^-1 sum g r,    r = q(x + F) - p(x).

This is the method of Lucas and Kanade (IJCAI 1981) in the inverse compositional form of Baker and Matthews (IJCV 2004,
https://doi.org/10.1023/B:VISI.0000011205.11775.fd), whose matrix does not depend on the flow. It gives the patches of
DIS (Kroeger et al., 2016, https://arxiv.org/abs/1603.03590) an accuracy of a few hundredths of a pixel. Here there is a
window for every cell of a coarser grid, and a network weights the steps (`rdvfi.motion.flow.global_local`).

Batches hold the first images of all pairs, then the second ones; the target of an image is at the same place in the
other half of the batch.
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
_NOISE_DEVIATION = 0.04
"""Local standard deviation of the noise, with brightness in [0, 1]."""
_CELL = 4
"""Side of the cells for local mean and deviation, in pixels."""
DAMPING = 4e-3
"""Damping: added to the mean squared gradients of a window."""
MAX_STEP = 2.0
"""Largest length of a step, in cells."""


@dataclass(frozen=True, eq=False)
class NormalisedImages:
    """Normalised images and their gradients.

    Attributes:
        maps: The `values`, then the `gradient`.
    """

    maps: Float[Tensor, "n 4 h w"]

    @classmethod
    def of(cls, images: Float[Tensor, "n 3 h w"]) -> "NormalisedImages":
        """Normalise images in [0, 1] whose sides are multiples of four."""
        return cls(_surface(images.float()))

    @property
    def values(self) -> Float[Tensor, "n 2 h w"]:
        """Normalised brightness, and brightness."""
        return self.maps[:, :2]

    @property
    def gradient(self) -> Float[Tensor, "n 2 h w"]:
        """Gradient (x, y) of the normalised brightness, per pixel."""
        return self.maps[:, 2:]


def _surface_reference(images: Tensor) -> Tensor:
    r, g, b = images.split(1, dim=1)
    luma = _LUMA[0] * r + _LUMA[1] * g + _LUMA[2] * b
    moments = window_mean(F.avg_pool2d(torch.cat((luma, luma * luma), dim=1), _CELL), 3)
    wide = F.interpolate(moments, scale_factor=float(_CELL), mode="bilinear", align_corners=False)
    mean, square = wide.split(1, dim=1)
    values = (luma - mean) * ((square - mean * mean).clamp(min=0.0) + _NOISE_DEVIATION**2).rsqrt()
    wide = F.pad(values, (1, 1, 1, 1), mode="replicate")
    across = 0.5 * (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2])
    down = 0.5 * (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])
    return torch.cat((values, luma, across, down), dim=1)


_surface = inference_operator(
    "surface",
    _surface_reference,
    lambda images: images.new_empty((images.shape[0], 4, *images.shape[2:])),
    "surface",
    launches=3,
    settings={"cell": _CELL, "luma": _LUMA, "floor": _NOISE_DEVIATION},
)


@dataclass(frozen=True, eq=False)
class Window:
    """Gauss-Newton matrices of all cells of a grid, for two window sizes."""

    stride: int
    matrices: tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]
    """Mean products of the gradient, xx, xy and yy, for each window size."""
    sides: tuple[int, int]
    """Sides of the windows, in cells."""

    @classmethod
    def of(cls, images: NormalisedImages, stride: int, sides: tuple[int, int]) -> "Window":
        """Compute the matrices."""
        x, y = images.gradient.split(1, dim=1)
        products = F.avg_pool2d(torch.cat((x * x, x * y, y * y), dim=1), stride)
        return cls(stride, (window_mean(products, sides[0]), window_mean(products, sides[1])), sides)

    def texture(self) -> Float[Tensor, "n 2 h w"]:
        """Logarithm of the smaller eigenvalue of each matrix, which measures how well a step is determined."""
        return torch.cat([_smaller_eigenvalue(m) for m in self.matrices], dim=1)


@dataclass(frozen=True, eq=False)
class GaussNewtonFit:
    """Residual of a flow, and the Gauss-Newton steps that reduce it.

    Attributes:
        steps: Steps of the smaller and of the larger window, in cells.
        residual: Differences of normalised brightness; the pixels of a cell are channels.
        misfit: Root mean square difference of normalised brightness, and mean absolute difference
            of brightness, over the smaller window.
    """

    steps: tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]
    residual: Float[Tensor, "n k h w"]
    misfit: Float[Tensor, "n 2 h w"]


def fit(images: NormalisedImages, window: Window, flow: Float[Tensor, "n 2 h w"]) -> GaussNewtonFit:
    """Residual and Gauss-Newton steps at a flow.

    Args:
        images: Source images; the target of each is in the other half of the batch.
        window: Matrices on the grid of the flow.
        flow: Flow, in cells.
    """
    size = (images.values.shape[-2], images.values.shape[-1])
    warped = backward_warp(swap_halves(images.values), resize_flow(flow.float(), size).contiguous())
    return _fit_residual(images, window, warped)


def fit_without_motion(images: NormalisedImages, window: Window) -> Float[Tensor, "n 2 hs ws"]:
    """The misfit of zero flow."""
    return _misfit(swap_halves(images.values) - images.values, window)


def swap_halves(both: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Swap the halves of a batch: for each source image, its target."""
    first, second = both.chunk(2)
    return torch.cat((second, first))


def _fit_residual(images: NormalisedImages, window: Window, warped: Float[Tensor, "n 2 h w"]) -> GaussNewtonFit:
    difference = warped - images.values
    error = difference[:, :1]
    products = F.avg_pool2d(images.gradient * error, window.stride)
    small, large = (
        _damped_step(matrix, window_mean(products, side), window.stride)
        for matrix, side in zip(window.matrices, window.sides, strict=True)
    )
    return GaussNewtonFit((small, large), F.pixel_unshuffle(error, window.stride), _misfit(difference, window))


def _misfit(difference: Float[Tensor, "n 2 h w"], window: Window) -> Float[Tensor, "n 2 hs ws"]:
    normalised, luma = difference.split(1, dim=1)
    means = F.avg_pool2d(torch.cat((normalised * normalised, luma.abs()), dim=1), window.stride)
    square, absolute = window_mean(means, window.sides[0]).split(1, dim=1)
    return torch.cat(((square + 1e-6).sqrt(), 10.0 * absolute), dim=1)


def _damped_step(matrix: Float[Tensor, "n 3 h w"], right: Float[Tensor, "n 2 h w"], stride: int) -> Tensor:
    """The damped step, in cells; its length is limited smoothly to `MAX_STEP`."""
    xx, xy, yy = matrix.split(1, dim=1)
    xx, yy = xx + DAMPING, yy + DAMPING
    x, y = right.split(1, dim=1)
    step = torch.cat((xy * y - yy * x, xy * x - xx * y), dim=1) / ((xx * yy - xy * xy) * stride)
    return step * (1.0 + step.square().sum(1, keepdim=True) / MAX_STEP**2).rsqrt()


def _smaller_eigenvalue(matrix: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    xx, xy, yy = matrix.split(1, dim=1)
    half = 0.5 * (xx + yy)
    root = (0.25 * (xx - yy).square() + xy * xy + 1e-12).sqrt()
    return 0.25 * ((half - root).clamp(min=0.0) + 1e-4).log() + 1.0


def window_mean(maps: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c h w"]:
    """Mean over windows of ``side`` by ``side`` cells (odd); borders are replicated."""
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
