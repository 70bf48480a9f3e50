"""Weights of cubic convolution on CUDA: the kernel of `rdvfi.motion.basis.Cubic`.

One program instance makes the matrix, of a few dozen numbers: 71 launches of small steps before.
"""

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit


@jit
def _tangent(knots, knot, column, count):
    """Weight of knot ``column`` in the slope at knot ``knot`` of the parabola through its neighbours."""
    start = tl.minimum(tl.maximum(knot - 1, 0), count - 3)
    a, b, c, x = tl.load(knots + start), tl.load(knots + start + 1), tl.load(knots + start + 2), tl.load(knots + knot)
    first = (2.0 * x - b - c) / ((a - b) * (a - c))
    second = (2.0 * x - a - c) / ((b - a) * (b - c))
    third = (2.0 * x - a - b) / ((c - a) * (c - b))
    return (
        tl.where(column == start, first, 0.0)
        + tl.where(column == start + 1, second, 0.0)
        + tl.where(column == start + 2, third, 0.0)
    )


@jit
def _cubic(knots, times, out, count, num_times, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    t = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T))[:, None]
    k = tl.arange(0, BLOCK_K)[None, :]
    time = tl.load(times + t, mask=t < num_times, other=0.0)
    knot = t * 0
    for j in range(1, count - 1):
        knot += (tl.load(knots + j) <= time).to(tl.int32)
    before = tl.load(knots + knot)
    width = tl.load(knots + knot + 1) - before
    s = (time - before) / width
    rest = 1.0 - s
    weight = tl.where(k == knot, (1.0 + 2.0 * s) * rest * rest, 0.0) + tl.where(
        k == knot + 1, s * s * (3.0 - 2.0 * s), 0.0
    )
    weight += width * s * rest * (rest * _tangent(knots, knot, k, count) - s * _tangent(knots, knot + 1, k, count))
    tl.store(out + t * count + k, weight, mask=(t < num_times) & (k < count))


def cubic_weights(knots: Tensor, times: Tensor) -> Tensor:
    """See `rdvfi.motion.basis.Cubic`."""
    knots, times = knots.float().contiguous(), times.float().contiguous()
    out = knots.new_empty((len(times), len(knots)))
    block_sizes = {"BLOCK_T": 32, "BLOCK_K": triton.next_power_of_2(len(knots))}
    _cubic[-(-len(times) // 32),](knots, times, out, len(knots), len(times), **block_sizes)
    return out
