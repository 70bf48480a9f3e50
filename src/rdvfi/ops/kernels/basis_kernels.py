"""Weights of cubic convolution on CUDA: the kernel of `rdvfi.motion.basis.Cubic`.

One program instance makes the matrix, of a few dozen numbers: 71 launches of small steps before.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
@no_type_check
def _tangent(knots, j, k, count):
    """Weight of knot ``k`` in the slope, at knot ``j``, of the parabola around it."""
    start = tl.minimum(tl.maximum(j - 1, 0), count - 3)
    a, b, c, x = tl.load(knots + start), tl.load(knots + start + 1), tl.load(knots + start + 2), tl.load(knots + j)
    first = (2.0 * x - b - c) / ((a - b) * (a - c))
    second = (2.0 * x - a - c) / ((b - a) * (b - c))
    third = (2.0 * x - a - b) / ((c - a) * (c - b))
    return (
        tl.where(k == start, first, 0.0) + tl.where(k == start + 1, second, 0.0) + tl.where(k == start + 2, third, 0.0)
    )


@triton.jit
@no_type_check
def _cubic(knots, times, out, count, moments, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    t = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T))[:, None]
    k = tl.arange(0, BLOCK_K)[None, :]
    moment = tl.load(times + t, mask=t < moments, other=0.0)
    i = t * 0
    for j in range(1, count - 1):
        i += (tl.load(knots + j) <= moment).to(tl.int32)
    before = tl.load(knots + i)
    width = tl.load(knots + i + 1) - before
    s = (moment - before) / width
    rest = 1.0 - s
    weight = tl.where(k == i, (1.0 + 2.0 * s) * rest * rest, 0.0) + tl.where(k == i + 1, s * s * (3.0 - 2.0 * s), 0.0)
    weight += width * s * rest * (rest * _tangent(knots, i, k, count) - s * _tangent(knots, i + 1, k, count))
    tl.store(out + t * count + k, weight, mask=(t < moments) & (k < count))


def cubic_weights(knots: Tensor, times: Tensor) -> Tensor:
    """See `rdvfi.motion.basis.Cubic`."""
    knots, times = knots.float().contiguous(), times.float().contiguous()
    out = knots.new_empty((len(times), len(knots)))
    block = {"BLOCK_T": 32, "BLOCK_K": triton.next_power_of_2(len(knots))}
    _cubic[-(-len(times) // 32),](knots, times, out, len(knots), len(times), **block)
    return out
