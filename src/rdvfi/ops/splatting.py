"""Forward warping (splatting): every pixel is moved along its flow and distributed to four pixels.

Pixel ``p`` with weight ``w(p)`` lands at ``p + F(p)``. A pixel ``d = (dx, dy)`` away gets
the share ``b(d) = max(0, 1 - |dx|) max(0, 1 - |dy|)`` of it. The sums over all source pixels are

    sum(q)   = sum_p b(q - p - F(p)) w(p) v(p)
    total(q) = sum_p b(q - p - F(p)) w(p).

Values that leave the image are lost; where none arrives the total is zero: a hole. `splat_sum` is that, and the
transpose of a bilinear look-up. `splat` puts the four modes of softmax splatting on top (Niklaus and Liu, 2020,
https://arxiv.org/abs/2003.05534): where several pixels meet, they are added, averaged, averaged by given weights, or
by ``exp`` of given weights, so that in the last one the larger weight, say of what is in front, wins.

Addition in floating point depends on its order, which on a GPU changes from run to run. The
deterministic form adds 64-bit integers instead: every contribution is rounded to a multiple of a
power of two, which is chosen for each image and channel so that no sum can overflow: about 2^-37
of the largest product of value and weight for a frame of 8 megapixels.

The operator is ``rdvfi::splat_sum``. Its implementation here, by `scatter_add_`, defines the
results and runs on every device; on CUDA the kernels of `rdvfi.ops.kernels.splat_kernels` take its place.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import pixel_grid
from rdvfi.ops.inference import KernelSpec, custom_operator
from rdvfi.ops.warp import check_same_grid, working_type

MODES = ("sum", "average", "linear", "softmax")


def splat(
    values: Float[Tensor, "n c h w"],
    flow: Float[Tensor, "n 2 h w"],
    weights: Float[Tensor, "n 1 h w"] | None = None,
    *,
    mode: str = "softmax",
    deterministic: bool = False,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 1 h w"]]:
    """Push ``values`` along ``flow``; differentiable in all three.

    Args:
        values: Values to move, on the source grid.
        flow: ``(dx, dy)`` in pixels: pixel x moves to ``x + flow(x)``.
        weights: Importance of every pixel. ``"sum"`` and ``"linear"`` take it as a factor,
            ``"softmax"`` as an exponent: of two pixels that meet, one with ``log(2)`` more counts
            twice. ``"average"`` takes none, and ``"sum"`` may do without.
        mode: ``"sum"`` adds. The others divide by the total weight, and are zero in holes.
        deterministic: Add in an order-independent way; see the module. On CUDA also under
            `torch.use_deterministic_algorithms`.

    Returns:
        The values as they arrive, in their type, and the total weight, float32, which is 0 in
        holes. With ``"softmax"`` the weights are relative to the largest one of each image.

    Raises:
        ValueError: If the mode is unknown, needs weights, or takes none; if flow or weights are
            not of the values' grid.
    """
    if mode not in MODES:
        raise ValueError(f"no way of splatting named {mode!r}; expected one of {MODES}")
    if weights is None and mode in ("linear", "softmax"):
        raise ValueError(f"mode {mode!r} needs weights, and got none")
    if weights is not None and mode == "average":
        raise ValueError("mode 'average' takes no weights; use 'linear' for a weighted average")
    if weights is None:
        weights = torch.ones_like(values[:, :1], dtype=torch.float32)
    elif mode == "softmax":
        weights = _relative_exp(weights.to(working_type(weights)))
    moved, total = splat_sum(values, flow, weights, deterministic=deterministic)
    if mode != "sum":
        hit = total > torch.finfo(total.dtype).tiny
        moved = torch.where(hit, moved / torch.where(hit, total, 1.0), 0.0)
    return moved.to(values.dtype), total


def splat_sum(
    values: Float[Tensor, "n c h w"],
    flow: Float[Tensor, "n 2 h w"],
    weights: Float[Tensor, "n 1 h w"],
    *,
    deterministic: bool = False,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 1 h w"]]:
    """Weighted sum of the values that land on each pixel, and their total weight.

    Args:
        values: Values to move, on the source grid.
        flow: ``(dx, dy)`` in pixels: pixel x moves to ``x + flow(x)``.
        weights: Factor of every pixel.
        deterministic: Add in an order-independent way; see the module.

    Returns:
        Both sums, float32 (float64 if an argument is).

    Raises:
        ValueError: If flow or weights are not of the values' grid.
    """
    check_same_grid(values, flow=flow, weights=weights)
    sums = torch.ops.rdvfi.splat_sum.default(values, flow, weights, deterministic)
    return sums[:, :-1], sums[:, -1:]


def _relative_exp(weights: Tensor) -> Tensor:
    """``exp`` of the weights below the largest one of each image: never more than 1."""
    if weights.numel() == 0:
        return weights
    largest = weights.amax((1, 2, 3), keepdim=True)
    # The finite floor lets -inf mean "not at all", even for all pixels of an image.
    return torch.exp(weights - largest.clamp(min=torch.finfo(weights.dtype).min))


def _corners(flow: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The four pixels around every arrival.

    For each its number in the plane, its share, and the derivatives of the share by x and by y:
    (n, 1, h * w). Beyond the picture the number is 0, and so is the rest.
    """
    h, w = flow.shape[-2:]
    arrival = (pixel_grid(h, w, device=flow.device) + flow).flatten(2)
    first = arrival.floor()
    x0, y0 = first.split(1, dim=1)
    fx, fy = (arrival - first).split(1, dim=1)
    for y, share_y, slope_y in ((y0, 1.0 - fy, -1.0), (y0 + 1.0, fy, 1.0)):
        for x, share_x, slope_x in ((x0, 1.0 - fx, -1.0), (x0 + 1.0, fx, 1.0)):
            inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
            # Whole numbers before they are multiplied: a frame may have more than 2^24 pixels.
            column, row = (torch.where(inside, part, 0.0).long() for part in (x, y))
            yield (
                row * w + column,
                torch.where(inside, share_x * share_y, 0.0),
                torch.where(inside, slope_x * share_y, 0.0),
                torch.where(inside, slope_y * share_x, 0.0),
            )


def weighted_values(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted values and weight of every pixel, (n, c + 1, h * w)."""
    return torch.cat((values * weights, weights), dim=1).flatten(2)


def integer_units(masses: Tensor) -> Tensor:
    """How many integer units make one, per image and channel, so that no sum overflows.

    All ``masses`` may meet in one pixel. With ``|mass| < 2^e`` and at most ``2^k`` pixels, their
    sum stays below 2^61 units of ``2^(k + e - 61)``; the bits above are for the rounding of `log2`.
    A channel that holds anything infinite or undefined has no unit, and becomes undefined.
    """
    largest = masses.abs().amax(2, keepdim=True)
    bits = 61 - math.ceil(math.log2(masses.shape[2])) - (largest.log2().floor() + 1.0)
    return torch.where(largest.isfinite(), torch.exp2(bits.clamp(-100.0, 100.0)), torch.nan)


def _reference(values: Tensor, flow: Tensor, weights: Tensor, deterministic: bool) -> Tensor:
    """Both sums in one tensor: the total weight is its last channel."""
    dtype = working_type(values, flow, weights)
    source = weighted_values(values.to(dtype), weights.to(dtype))
    if deterministic and source.numel():
        units = integer_units(source)
        sums = torch.zeros_like(source, dtype=torch.int64)
        for pixel, share, _, _ in _corners(flow.to(dtype)):
            units_added = (source * share * units + 0.5).floor().long()
            sums.scatter_add_(2, pixel.expand_as(source), units_added)
        sums = sums.to(dtype) / units
    else:
        sums = torch.zeros_like(source)
        for pixel, share, _, _ in _corners(flow.to(dtype)):
            sums.scatter_add_(2, pixel.expand_as(source), source * share)
    return sums.unflatten(2, flow.shape[-2:])


def _empty(values: Tensor, flow: Tensor, weights: Tensor, deterministic: bool) -> Tensor:
    n, c, h, w = values.shape
    return values.new_empty((n, c + 1, h, w), dtype=working_type(values, flow, weights))


_splat_sum = custom_operator("splat_sum", _reference, _empty, KernelSpec("splat", launches=2))


def _reference_backward(grad: Tensor, values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by values, flow and weights, sampled where each pixel was added."""
    dtype, size = grad.dtype, flow.shape[-2:]
    grad, moved, factor = (x.to(dtype).flatten(2) for x in (grad, values, weights))
    grad_values = torch.zeros_like(moved)
    grad_weights, grad_x, grad_y = (torch.zeros_like(factor) for _ in range(3))
    for pixel, share, slope_x, slope_y in _corners(flow.to(dtype)):
        value_grad = grad.gather(2, pixel.expand_as(grad))
        weight_grad = (moved * value_grad[:, :-1]).sum(1, keepdim=True) + value_grad[:, -1:]
        grad_values += share * value_grad[:, :-1]
        grad_weights += share * weight_grad
        grad_x += slope_x * weight_grad
        grad_y += slope_y * weight_grad
    grad_flow = torch.cat((grad_x, grad_y), dim=1) * factor
    return (
        (grad_values * factor).unflatten(2, size).to(values.dtype),
        grad_flow.unflatten(2, size).to(flow.dtype),
        grad_weights.unflatten(2, size).to(weights.dtype),
    )


custom_operator(
    "splat_sum_backward",
    _reference_backward,
    lambda grad, *inputs: tuple(x.new_empty(x.shape) for x in inputs),
    KernelSpec("splat"),
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.rdvfi.splat_sum_backward.default(grad, *ctx.saved_tensors), None


_splat_sum.register_autograd(_gradients, setup_context=_save)
