"""What RDVFI-S's denoiser reads and answers on CUDA: the kernels of `rdvfi.backbones.compact.denoiser`.

One launch makes the input of the first convolution, one turns the last one's output into latents and flows,
one tells how well the candidates of a path agree; together they were 75 launches an iteration. Per pixel of
a keyframe's grid of 56x32 the first loads 8 values of each latent channel and about 60 of flows and
candidates, and writes 3 c + 34 values; the second loads 8 per channel and writes c + 4. With c = 16 and
7 keyframes that is 12,544 pixels, 4 MB in half precision.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, store_pair, tile, zeros


@triton.jit
@no_type_check
def _store(out, value, mask):
    tl.store(out, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def _slopes(flows, to_x, to_y, here, area, mask):
    """Central difference of the displacement between both ends: of its x and its y."""
    x = tl.load(flows + 2 * area + to_y, mask=mask, other=0.0) - tl.load(flows + to_y, mask=mask, other=0.0)
    x -= tl.load(flows + 2 * area + to_x, mask=mask, other=0.0) - tl.load(flows + to_x, mask=mask, other=0.0)
    y = tl.load(flows + 3 * area + to_y, mask=mask, other=0.0) - tl.load(flows + area + to_y, mask=mask, other=0.0)
    y -= tl.load(flows + 3 * area + to_x, mask=mask, other=0.0) - tl.load(flows + area + to_x, mask=mask, other=0.0)
    return x, y


@triton.jit
@no_type_check
def _inputs(
    noisy, latent0, latent1, flows, candidates, mismatches, arrived, times, sigma, out, instants, height, width,
    CHANNELS: tl.constexpr, CANDIDATES: tl.constexpr,
):  # fmt: skip
    """Noisy latents, both ends warped, and features, as channels."""
    m, y, x, mask = tile(height, width)
    b, area = m // instants, height * width
    here = y * width + x
    flows += m * 4 * area
    features: tl.constexpr = 12 + 5 * CANDIDATES
    out += m * (3 * CHANNELS + features) * area + here
    u0, v0 = tl.load(flows + here, mask=mask, other=0.0), tl.load(flows + area + here, mask=mask, other=0.0)
    u1 = tl.load(flows + 2 * area + here, mask=mask, other=0.0)
    v1 = tl.load(flows + 3 * area + here, mask=mask, other=0.0)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    apart = zeros()
    for c in range(CHANNELS):
        own = tl.load(noisy + (m * CHANNELS + c) * area + here, mask=mask, other=0.0)
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        apart += tl.abs(first - last)
        _store(out + c * area, own, mask)
        _store(out + (CHANNELS + c) * area, first, mask)
        _store(out + (2 * CHANNELS + c) * area, last, mask)
    out += 3 * CHANNELS * area
    _store(out, 0.1 * (u1 - u0), mask)
    _store(out + area, 0.1 * (v1 - v0), mask)
    left, right = tl.maximum(x - 1, 0), tl.minimum(x + 1, width - 1)
    slope_x, slope_y = _slopes(flows, y * width + left, y * width + right, here, area, mask)
    run = tl.maximum(right - left, 1)
    _store(out + 2 * area, slope_x / run, mask)
    _store(out + 3 * area, slope_y / run, mask)
    above, below = tl.maximum(y - 1, 0), tl.minimum(y + 1, height - 1)
    slope_x, slope_y = _slopes(flows, above * width + x, below * width + x, here, area, mask)
    run = tl.maximum(below - above, 1)
    _store(out + 4 * area, slope_x / run, mask)
    _store(out + 5 * area, slope_y / run, mask)
    _store(out + 6 * area, apart / CHANNELS, mask)
    out += 7 * area
    for c in range(4 * CANDIDATES):
        way = tl.load(candidates + (m * 4 * CANDIDATES + c) * area + here, mask=mask, other=0.0)
        way -= tl.load(flows + (c % 4) * area + here, mask=mask, other=0.0)
        _store(out + c * area, 0.5 * tl.minimum(tl.maximum(way, -8.0), 8.0), mask)
    out += 4 * CANDIDATES * area
    for c in range(CANDIDATES):
        _store(out + c * area, tl.load(mismatches + (m * CANDIDATES + c) * area + here, mask=mask, other=0.0), mask)
    out += CANDIDATES * area
    for c in range(2):
        _store(out + c * area, tl.load(arrived + (m * 2 + c) * area + here, mask=mask, other=0.0), mask)
    nothing = 0.0 * apart
    t = tl.load(times + m % instants)
    _store(out + 2 * area, nothing + t, mask)
    _store(out + 3 * area, nothing + t * (1.0 - t), mask)
    _store(out + 4 * area, nothing + tl.load(sigma + b), mask)


def denoiser_inputs(
    noisy: Tensor,
    latent0: Tensor,
    latent1: Tensor,
    flows: Tensor,
    candidates: Tensor,
    mismatches: Tensor,
    arrived: Tensor,
    times: Tensor,
    sigma: Tensor,
) -> Tensor:
    """See `rdvfi.backbones.compact.denoiser._inputs`."""
    b, n, c, h, w = noisy.shape
    count = candidates.shape[2]
    out = noisy.new_empty((b * n, 3 * c + 12 + 5 * count, h, w))
    given = [x.contiguous() for x in (noisy, latent0, latent1)]
    given += [x.float().contiguous() for x in (flows, candidates, mismatches, arrived, times, sigma)]
    arguments = [*given, out, n, h, w]
    _inputs[launch_grid(b * n, h, w)](*arguments, CHANNELS=c, CANDIDATES=count)
    return out


@triton.jit
@no_type_check
def _outputs(
    answer, latent0, latent1, flows, candidates, times, latents, moved, instants, height, width, answer_stride_n,
    answer_stride_c, answer_stride_h, answer_stride_w, CHANNELS: tl.constexpr, CANDIDATES: tl.constexpr,
):  # fmt: skip
    """Flows with residual motion, and the latents blended along them."""
    m, y, x, mask = tile(height, width)
    b, area = m // instants, height * width
    here = y * width + x
    answer += m * answer_stride_n
    candidates += m * 4 * CANDIDATES * area + here
    flows += m * 4 * area + here
    t = tl.load(times + m % instants)
    envelope = 4.0 * t * (1.0 - t)
    u0, v0 = tl.load(flows, mask=mask, other=0.0), tl.load(flows + area, mask=mask, other=0.0)
    u1 = tl.load(flows + 2 * area, mask=mask, other=0.0)
    v1 = tl.load(flows + 3 * area, mask=mask, other=0.0)
    total = zeros()
    du0, dv0, du1, dv1 = total, total, total, total
    for k in range(CANDIDATES):
        gate = load(answer + k * answer_stride_c, y, x, answer_stride_h, answer_stride_w, mask)
        total += tl.abs(gate)
        own = candidates + 4 * k * area
        du0 += gate * (tl.load(own, mask=mask, other=0.0) - u0)
        dv0 += gate * (tl.load(own + area, mask=mask, other=0.0) - v0)
        du1 += gate * (tl.load(own + 2 * area, mask=mask, other=0.0) - u1)
        dv1 += gate * (tl.load(own + 3 * area, mask=mask, other=0.0) - v1)
    scale = 1.0 / tl.maximum(total, 1.0)
    answer += CANDIDATES * answer_stride_c
    u0 += scale * du0 + envelope * load(answer, y, x, answer_stride_h, answer_stride_w, mask)
    v0 += scale * dv0 + envelope * load(answer + answer_stride_c, y, x, answer_stride_h, answer_stride_w, mask)
    u1 += scale * du1 + envelope * load(answer + 2 * answer_stride_c, y, x, answer_stride_h, answer_stride_w, mask)
    v1 += scale * dv1 + envelope * load(answer + 3 * answer_stride_c, y, x, answer_stride_h, answer_stride_w, mask)
    moved += m * 4 * area + here
    store_pair(moved, area, u0, v0, mask)
    store_pair(moved + 2 * area, area, u1, v1, mask)
    answer += 4 * answer_stride_c
    lean = tl.exp(envelope * load(answer, y, x, answer_stride_h, answer_stride_w, mask))
    share = (1.0 - t) * lean / ((1.0 - t) * lean + t / lean)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    for c in range(CHANNELS):
        answer += answer_stride_c
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        made = last + share * (first - last) + envelope * load(answer, y, x, answer_stride_h, answer_stride_w, mask)
        _store(latents + (m * CHANNELS + c) * area + here, made, mask)


def denoiser_outputs(
    answer: Tensor, latent0: Tensor, latent1: Tensor, flows: Tensor, candidates: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.backbones.compact.denoiser._outputs`."""
    (b, c, h, w), n, count = latent0.shape, flows.shape[1], candidates.shape[2]
    latents, moved = latent0.new_empty((b, n, c, h, w)), torch.empty_like(flows, memory_format=torch.contiguous_format)
    given = [x.contiguous() for x in (latent0, latent1)]
    given += [x.float().contiguous() for x in (flows, candidates, times)]
    arguments = (answer, *given, latents, moved, n, h, w, *answer.stride())
    _outputs[launch_grid(b * n, h, w)](*arguments, CHANNELS=c, CANDIDATES=count)
    return latents, moved


@triton.jit
@no_type_check
def _mismatch(latent0, latent1, candidates, out, each, height, width, CHANNELS: tl.constexpr):
    """How far the two end latents are apart along one candidate."""
    m, y, x, mask = tile(height, width)
    b, area = m // each, height * width
    here = y * width + x
    candidates += m * 4 * area + here
    u0, v0 = tl.load(candidates, mask=mask, other=0.0), tl.load(candidates + area, mask=mask, other=0.0)
    u1 = tl.load(candidates + 2 * area, mask=mask, other=0.0)
    v1 = tl.load(candidates + 3 * area, mask=mask, other=0.0)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    apart = zeros()
    for c in range(CHANNELS):
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        apart += tl.abs(first - last)
    tl.store(out + m * area + here, apart / CHANNELS, mask=mask)


def mismatches(latent0: Tensor, latent1: Tensor, candidates: Tensor) -> Tensor:
    """See `rdvfi.backbones.compact.denoiser._mismatches`."""
    (b, n, count, _, h, w), c = candidates.shape, latent0.shape[1]
    out = candidates.new_empty((b, n, count, h, w), dtype=torch.float32)
    given = [latent0.contiguous(), latent1.contiguous(), candidates.float().contiguous()]
    arguments = [*given, out, n * count, h, w]
    _mismatch[launch_grid(b * n * count, h, w)](*arguments, CHANNELS=c)
    return out
