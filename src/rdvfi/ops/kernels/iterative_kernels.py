"""A step of phi_2 beside its convolutions, on CUDA: the kernels of `rdvfi.motion.trajectory.iterative`.

Grids are those of latents, 56x32, so all that counts is the number of launches.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, tile, zeros


@triton.jit
@no_type_check
def _carried(step, before, now, residual, out, height, width, step_stride_n, before_stride_n, now_stride_n):
    """Samples of ``residual`` and ``out`` are dense; planes of a sample are, too."""
    n, y, x, mask = tile(height, width)
    area, here = height * width, y * width + x
    step += n * step_stride_n
    before += n * before_stride_n
    now += n * now_stride_n
    residual += n * 2 * area
    out += n * 4 * area + here
    dx = tl.load(step + here, mask=mask, other=0.0)
    dy = tl.load(step + area + here, mask=mask, other=0.0)
    point = corners(x + dx, y + dy, height, width)
    for c in tl.static_range(2):
        left = bilinear(residual + c * area, point, width, 1, mask)
        straight = bilinear(before + c * area, point, width, 1, mask)
        own = dx if c == 0 else dy
        composed = own + (straight + left) - tl.load(now + c * area + here, mask=mask, other=0.0)
        tl.store(out + c * area, left, mask=mask)
        tl.store(out + (2 + c) * area, composed, mask=mask)


@triton.jit
@no_type_check
def _candidates(
    here_map, end, now, flows, guess, beside, channels, height, width, here_n, here_c, here_y, here_x, end_stride_n,
    end_stride_c, end_stride_h, end_stride_w, now_stride_n,
):  # fmt: skip
    """Three look-ups of the end's features, and how far each is from the features here."""
    n, y, x, mask = tile(height, width)
    area, here = height * width, y * width + x
    now += n * now_stride_n + here
    flows += n * 4 * area + here
    sx, sy = tl.load(now, mask=mask, other=0.0), tl.load(now + area, mask=mask, other=0.0)
    rx, ry = tl.load(flows, mask=mask, other=0.0), tl.load(flows + area, mask=mask, other=0.0)
    cx, cy = tl.load(flows + 2 * area, mask=mask, other=0.0), tl.load(flows + 3 * area, mask=mask, other=0.0)
    point0 = corners(x + sx + rx, y + sy + ry, height, width)
    point1 = corners(x + sx + cx, y + sy + cy, height, width)
    point2 = corners(x + sx, y + sy, height, width)
    first = zeros()
    second, third = first, first
    for c in range(channels):
        plane = end + n * end_stride_n + c * end_stride_c
        own = load(here_map + n * here_n + c * here_c, y, x, here_y, here_x, mask)
        seen = bilinear(plane, point0, end_stride_h, end_stride_w, mask).to(guess.dtype.element_ty)
        tl.store(guess + (n * channels + c) * area + here, seen, mask=mask)
        first += tl.abs(own - seen.to(tl.float32))
        second += tl.abs(own - bilinear(plane, point1, end_stride_h, end_stride_w, mask))
        third += tl.abs(own - bilinear(plane, point2, end_stride_h, end_stride_w, mask))
    beside += n * 9 * area + here
    kind = beside.dtype.element_ty
    tl.store(beside, (first / channels).to(kind), mask=mask)
    tl.store(beside + area, (second / channels).to(kind), mask=mask)
    tl.store(beside + 2 * area, (third / channels).to(kind), mask=mask)
    tl.store(beside + 3 * area, (cx - rx).to(kind), mask=mask)
    tl.store(beside + 4 * area, (cy - ry).to(kind), mask=mask)
    tl.store(beside + 5 * area, rx.to(kind), mask=mask)
    tl.store(beside + 6 * area, ry.to(kind), mask=mask)
    tl.store(beside + 7 * area, (0.1 * sx).to(kind), mask=mask)
    tl.store(beside + 8 * area, (0.1 * sy).to(kind), mask=mask)


@triton.jit
@no_type_check
def _fused(flows, answer, out, height, width, answer_stride_n, answer_stride_c, answer_stride_h, answer_stride_w):
    n, y, x, mask = tile(height, width)
    area, here = height * width, y * width + x
    flows += n * 4 * area + here
    answer += n * answer_stride_n
    share = load(answer, y, x, answer_stride_h, answer_stride_w, mask)
    for c in tl.static_range(2):
        carried = tl.load(flows + c * area, mask=mask, other=0.0)
        composed = tl.load(flows + (2 + c) * area, mask=mask, other=0.0)
        rest = load(answer + (1 + c) * answer_stride_c, y, x, answer_stride_h, answer_stride_w, mask)
        tl.store(out + (n * 2 + c) * area + here, carried + share * (composed - carried) + rest, mask=mask)


def _planes(flow: Tensor) -> Tensor:
    """Float32, with the planes of a sample one behind the other."""
    flow = flow.float()
    h, w = flow.shape[-2:]
    return flow if flow.stride()[1:] == (h * w, w, 1) else flow.contiguous()


def carried_flows(step: Tensor, straight_before: Tensor, straight: Tensor, residual: Tensor) -> Tensor:
    """See `rdvfi.motion.trajectory.iterative.carried_flows`."""
    (n, _, h, w), residual = step.shape, residual.float().contiguous()
    flows = [_planes(x) for x in (step, straight_before, straight)]
    out = residual.new_empty((n, 4, h, w))
    arguments = [*flows, residual, out, h, w, *(x.stride(0) for x in flows)]
    _carried[launch_grid(n, h, w)](*arguments)
    return out


def fusion_candidates(here: Tensor, end: Tensor, straight: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.trajectory.iterative.fusion_candidates`."""
    (n, c, h, w), straight = here.shape, _planes(straight)
    guess, beside = end.new_empty((n, c, h, w)), here.new_empty((n, 9, h, w))
    arguments = [here, end, straight, flows.float().contiguous(), guess, beside, c, h, w]
    strides = [*here.stride(), *end.stride(), straight.stride(0)]
    _candidates[launch_grid(n, h, w)](*arguments, *strides)
    return guess, beside


def fused_flow(flows: Tensor, answer: Tensor) -> Tensor:
    """See `rdvfi.motion.trajectory.iterative.fused_flow`."""
    (n, _, h, w), flows = flows.shape, flows.float().contiguous()
    out = flows.new_empty((n, 2, h, w))
    _fused[launch_grid(n, h, w)](flows, answer, out, h, w, *answer.stride())
    return out
