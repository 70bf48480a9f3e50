# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""A step of phi_2 beside its convolutions, on CUDA: the kernels of `rdvfi.motion.trajectory.iterative`.

Grids are those of latents, 56x32, so all that counts is the number of launches.
"""

import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, load_four, load_pair, tile, zeros


@jit
def _carry_flows(
    step, straight_before, straight, residual, out, height, width, step_stride_n, straight_before_stride_n,
    straight_stride_n,
):  # fmt: skip
    """Samples of ``residual`` and ``out`` are dense, planes of a sample likewise."""
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    step += n * step_stride_n
    straight_before += n * straight_before_stride_n
    straight += n * straight_stride_n
    residual += n * 2 * area
    out += n * 4 * area + offsets
    dx = tl.load(step + offsets, mask=mask, other=0.0)
    dy = tl.load(step + area + offsets, mask=mask, other=0.0)
    point = corners(x + dx, y + dy, height, width)
    for c in tl.static_range(2):
        carried_residual = bilinear(residual + c * area, point, width, 1, mask)
        carried_straight = bilinear(straight_before + c * area, point, width, 1, mask)
        displacement = dx if c == 0 else dy
        composed = (
            displacement
            + (carried_straight + carried_residual)
            - tl.load(straight + c * area + offsets, mask=mask, other=0.0)
        )
        tl.store(out + c * area, carried_residual, mask=mask)
        tl.store(out + (2 + c) * area, composed, mask=mask)


@jit
def _fusion_candidates(
    features, end, straight, flows, guess, extras, channels, height, width, features_stride_n, features_stride_c,
    features_stride_h, features_stride_w, end_stride_n, end_stride_c, end_stride_h, end_stride_w, straight_stride_n,
):  # fmt: skip
    """The end's features, warped by three flows, and their differences to the features of the knot."""
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    straight += n * straight_stride_n + offsets
    flows += n * 4 * area + offsets
    sx, sy = load_pair(straight, area, mask)
    rx, ry, cx, cy = load_four(flows, area, mask)
    point0 = corners(x + sx + rx, y + sy + ry, height, width)
    point1 = corners(x + sx + cx, y + sy + cy, height, width)
    point2 = corners(x + sx, y + sy, height, width)
    mismatch_carried = zeros()
    mismatch_composed, mismatch_straight = mismatch_carried, mismatch_carried
    for c in range(channels):
        plane = end + n * end_stride_n + c * end_stride_c
        feature = load(
            features + n * features_stride_n + c * features_stride_c, y, x, features_stride_h, features_stride_w, mask
        )
        warped = bilinear(plane, point0, end_stride_h, end_stride_w, mask).to(guess.dtype.element_ty)
        tl.store(guess + (n * channels + c) * area + offsets, warped, mask=mask)
        mismatch_carried += tl.abs(feature - warped.to(tl.float32))
        mismatch_composed += tl.abs(feature - bilinear(plane, point1, end_stride_h, end_stride_w, mask))
        mismatch_straight += tl.abs(feature - bilinear(plane, point2, end_stride_h, end_stride_w, mask))
    extras += n * 9 * area + offsets
    dtype = extras.dtype.element_ty
    tl.store(extras, (mismatch_carried / channels).to(dtype), mask=mask)
    tl.store(extras + area, (mismatch_composed / channels).to(dtype), mask=mask)
    tl.store(extras + 2 * area, (mismatch_straight / channels).to(dtype), mask=mask)
    tl.store(extras + 3 * area, (cx - rx).to(dtype), mask=mask)
    tl.store(extras + 4 * area, (cy - ry).to(dtype), mask=mask)
    tl.store(extras + 5 * area, rx.to(dtype), mask=mask)
    tl.store(extras + 6 * area, ry.to(dtype), mask=mask)
    tl.store(extras + 7 * area, (0.1 * sx).to(dtype), mask=mask)
    tl.store(extras + 8 * area, (0.1 * sy).to(dtype), mask=mask)


@jit
def _fuse_flow(flows, answer, out, height, width, stride_n, stride_c, stride_h, stride_w):
    n, y, x, mask = tile(height, width)
    area, offsets = height * width, y * width + x
    flows += n * 4 * area + offsets
    answer += n * stride_n
    weight = load(answer, y, x, stride_h, stride_w, mask)
    for c in tl.static_range(2):
        carried = tl.load(flows + c * area, mask=mask, other=0.0)
        composed = tl.load(flows + (2 + c) * area, mask=mask, other=0.0)
        correction = load(answer + (1 + c) * stride_c, y, x, stride_h, stride_w, mask)
        tl.store(out + (n * 2 + c) * area + offsets, carried + weight * (composed - carried) + correction, mask=mask)


def _planes(flow: Tensor) -> Tensor:
    """The flow in float32 with contiguous planes."""
    flow = flow.float()
    h, w = flow.shape[-2:]
    return flow if flow.stride()[1:] == (h * w, w, 1) else flow.contiguous()


def carried_flows(step: Tensor, straight_before: Tensor, straight: Tensor, residual: Tensor) -> Tensor:
    """See `rdvfi.motion.trajectory.iterative.carried_flows`."""
    (n, _, h, w), residual = step.shape, residual.float().contiguous()
    flows = [_planes(x) for x in (step, straight_before, straight)]
    out = residual.new_empty((n, 4, h, w))
    arguments = [*flows, residual, out, h, w, *(x.stride(0) for x in flows)]
    _carry_flows[launch_grid(n, h, w)](*arguments)
    return out


def fusion_candidates(features: Tensor, end: Tensor, straight: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """See `rdvfi.motion.trajectory.iterative.fusion_candidates`."""
    (n, c, h, w), straight = features.shape, _planes(straight)
    guess, extras = end.new_empty((n, c, h, w)), features.new_empty((n, 9, h, w))
    arguments = [features, end, straight, flows.float().contiguous(), guess, extras, c, h, w]
    strides = [*features.stride(), *end.stride(), straight.stride(0)]
    _fusion_candidates[launch_grid(n, h, w)](*arguments, *strides)
    return guess, extras


def fused_flow(flows: Tensor, answer: Tensor) -> Tensor:
    """See `rdvfi.motion.trajectory.iterative.fused_flow`."""
    (n, _, h, w), flows = flows.shape, flows.float().contiguous()
    out = flows.new_empty((n, 2, h, w))
    _fuse_flow[launch_grid(n, h, w)](flows, answer, out, h, w, *answer.stride())
    return out
