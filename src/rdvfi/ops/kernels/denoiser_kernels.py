# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""What RDVFI-S's denoiser reads and answers on CUDA: the kernels of `rdvfi.backbones.compact.denoiser`.

One launch makes the input of the first convolution, one turns the last one's output into latents and flows,
one tells how well the candidates of a path agree; together they were 75 launches an iteration. Per pixel of
a keyframe's grid of 56x32 the first loads 8 values of each latent channel and about 60 of flows and
candidates, and writes 3 c + 34 values; the second loads 8 per channel and writes c + 4. With c = 16 and
7 keyframes that is 12,544 pixels, 4 MB in half precision.
"""

import torch
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.jit import jit
from rdvfi.ops.kernels.sampling_kernels import bilinear, corners, launch_grid, load, load_four, store_pair, tile, zeros


@jit
def _store(out, value, mask):
    tl.store(out, value.to(out.dtype.element_ty), mask=mask)


@jit
def _slopes(flows, previous, following, area, mask):
    """Difference of the displacement between both ends from one offset to another, (x, y)."""
    u0, v0, u1, v1 = load_four(flows + following, area, mask)
    before_u0, before_v0, before_u1, before_v1 = load_four(flows + previous, area, mask)
    return (u1 - u0) - (before_u1 - before_u0), (v1 - v0) - (before_v1 - before_v0)


@jit
def _store_flow_features(out, flows, ends, y, x, height, width, mask):
    """Displacement between both ends, and its central differences along x and y: six channels."""
    area = height * width
    u0, v0, u1, v1 = ends
    store_pair(out, area, 0.1 * (u1 - u0), 0.1 * (v1 - v0), mask)
    left, right = tl.maximum(x - 1, 0), tl.minimum(x + 1, width - 1)
    du, dv = _slopes(flows, y * width + left, y * width + right, area, mask)
    distance = tl.maximum(right - left, 1)
    store_pair(out + 2 * area, area, du / distance, dv / distance, mask)
    above, below = tl.maximum(y - 1, 0), tl.minimum(y + 1, height - 1)
    du, dv = _slopes(flows, above * width + x, below * width + x, area, mask)
    distance = tl.maximum(below - above, 1)
    store_pair(out + 4 * area, area, du / distance, dv / distance, mask)


@jit
def _denoiser_inputs(
    noisy, latent0, latent1, flows, candidates, mismatches, arrived, times, sigma, out, num_times, height, width,
    CHANNELS: tl.constexpr, CANDIDATES: tl.constexpr,
):  # fmt: skip
    """Noisy latents, both ends warped, and features, as channels."""
    row, y, x, mask = tile(height, width)
    b, area = row // num_times, height * width
    offsets = y * width + x
    flows += row * 4 * area
    features: tl.constexpr = 12 + 5 * CANDIDATES
    out += row * (3 * CHANNELS + features) * area + offsets
    u0, v0, u1, v1 = load_four(flows + offsets, area, mask)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    difference = zeros()
    for c in range(CHANNELS):
        noisy_value = tl.load(noisy + (row * CHANNELS + c) * area + offsets, mask=mask, other=0.0)
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        difference += tl.abs(first - last)
        _store(out + c * area, noisy_value, mask)
        _store(out + (CHANNELS + c) * area, first, mask)
        _store(out + (2 * CHANNELS + c) * area, last, mask)
    out += 3 * CHANNELS * area
    _store_flow_features(out, flows, (u0, v0, u1, v1), y, x, height, width, mask)
    _store(out + 6 * area, difference / CHANNELS, mask)
    out += 7 * area
    for c in range(4 * CANDIDATES):
        deviation = tl.load(candidates + (row * 4 * CANDIDATES + c) * area + offsets, mask=mask, other=0.0)
        deviation -= tl.load(flows + (c % 4) * area + offsets, mask=mask, other=0.0)
        _store(out + c * area, 0.5 * tl.minimum(tl.maximum(deviation, -8.0), 8.0), mask)
    out += 4 * CANDIDATES * area
    mismatches += row * CANDIDATES * area + offsets
    for c in range(CANDIDATES):
        _store(out + c * area, tl.load(mismatches + c * area, mask=mask, other=0.0), mask)
    out += CANDIDATES * area
    for c in range(2):
        _store(out + c * area, tl.load(arrived + (row * 2 + c) * area + offsets, mask=mask, other=0.0), mask)
    t = tl.load(times + row % num_times)
    store_pair(out + 2 * area, area, zeros() + t, zeros() + t * (1.0 - t), mask)
    _store(out + 4 * area, zeros() + tl.load(sigma + b), mask)


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
    tensors = [x.contiguous() for x in (noisy, latent0, latent1)]
    tensors += [x.float().contiguous() for x in (flows, candidates, mismatches, arrived, times, sigma)]
    arguments = [*tensors, out, n, h, w]
    _denoiser_inputs[launch_grid(b * n, h, w)](*arguments, CHANNELS=c, CANDIDATES=count)
    return out


@jit
def _gate_candidates(
    output, candidates, flows, y, x, area, stride_c, stride_h, stride_w, mask, CANDIDATES: tl.constexpr
):
    """The flows to both ends, and their displacements towards the candidates by the gates."""
    u0, v0, u1, v1 = load_four(flows, area, mask)
    gate_sum = zeros()
    du0, dv0, du1, dv1 = gate_sum, gate_sum, gate_sum, gate_sum
    for k in range(CANDIDATES):
        gate = load(output + k * stride_c, y, x, stride_h, stride_w, mask)
        gate_sum += tl.abs(gate)
        candidate_u0, candidate_v0, candidate_u1, candidate_v1 = load_four(candidates + 4 * k * area, area, mask)
        du0 += gate * (candidate_u0 - u0)
        dv0 += gate * (candidate_v0 - v0)
        du1 += gate * (candidate_u1 - u1)
        dv1 += gate * (candidate_v1 - v1)
    scale = 1.0 / tl.maximum(gate_sum, 1.0)
    return (u0, v0, u1, v1), (scale * du0, scale * dv0, scale * du1, scale * dv1)


@jit
def _denoiser_outputs(
    output, latent0, latent1, flows, candidates, times, latents, moved_flows, num_times, height, width, stride_n,
    stride_c, stride_h, stride_w, CHANNELS: tl.constexpr, CANDIDATES: tl.constexpr,
):  # fmt: skip
    """Flows with residual motion, and the latents blended along them; strides are those of ``output``."""
    row, y, x, mask = tile(height, width)
    b, area = row // num_times, height * width
    offsets = y * width + x
    output += row * stride_n
    t = tl.load(times + row % num_times)
    envelope = 4.0 * t * (1.0 - t)
    candidates += row * 4 * CANDIDATES * area + offsets
    flow, displacement = _gate_candidates(
        output, candidates, flows + row * 4 * area + offsets, y, x, area, stride_c, stride_h, stride_w, mask, CANDIDATES
    )
    u0, v0, u1, v1 = flow
    du0, dv0, du1, dv1 = displacement
    output += CANDIDATES * stride_c
    u0 += du0 + envelope * load(output, y, x, stride_h, stride_w, mask)
    v0 += dv0 + envelope * load(output + stride_c, y, x, stride_h, stride_w, mask)
    u1 += du1 + envelope * load(output + 2 * stride_c, y, x, stride_h, stride_w, mask)
    v1 += dv1 + envelope * load(output + 3 * stride_c, y, x, stride_h, stride_w, mask)
    moved_flows += row * 4 * area + offsets
    store_pair(moved_flows, area, u0, v0, mask)
    store_pair(moved_flows + 2 * area, area, u1, v1, mask)
    output += 4 * stride_c
    odds_factor = tl.exp(envelope * load(output, y, x, stride_h, stride_w, mask))
    blend0 = (1.0 - t) * odds_factor / ((1.0 - t) * odds_factor + t / odds_factor)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    for c in range(CHANNELS):
        output += stride_c
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        latent = last + blend0 * (first - last) + envelope * load(output, y, x, stride_h, stride_w, mask)
        _store(latents + (row * CHANNELS + c) * area + offsets, latent, mask)


def denoiser_outputs(
    output: Tensor, latent0: Tensor, latent1: Tensor, flows: Tensor, candidates: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """See `rdvfi.backbones.compact.denoiser._outputs`."""
    (b, c, h, w), n, num_candidates = latent0.shape, flows.shape[1], candidates.shape[2]
    latents = latent0.new_empty((b, n, c, h, w))
    moved_flows = torch.empty_like(flows, memory_format=torch.contiguous_format)
    tensors = [x.contiguous() for x in (latent0, latent1)]
    tensors += [x.float().contiguous() for x in (flows, candidates, times)]
    arguments = (output, *tensors, latents, moved_flows, n, h, w, *output.stride())
    _denoiser_outputs[launch_grid(b * n, h, w)](*arguments, CHANNELS=c, CANDIDATES=num_candidates)
    return latents, moved_flows


@jit
def _candidate_mismatch(
    latent0, latent1, candidates, out, candidates_per_sample, height, width, CHANNELS: tl.constexpr
):
    """Mean absolute difference of the two end latents along one candidate."""
    row, y, x, mask = tile(height, width)
    b, area = row // candidates_per_sample, height * width
    offsets = y * width + x
    candidates += row * 4 * area + offsets
    u0, v0, u1, v1 = load_four(candidates, area, mask)
    point0 = corners(x + u0, y + v0, height, width)
    point1 = corners(x + u1, y + v1, height, width)
    difference = zeros()
    for c in range(CHANNELS):
        first = bilinear(latent0 + (b * CHANNELS + c) * area, point0, width, 1, mask)
        last = bilinear(latent1 + (b * CHANNELS + c) * area, point1, width, 1, mask)
        difference += tl.abs(first - last)
    tl.store(out + row * area + offsets, difference / CHANNELS, mask=mask)


def mismatches(latent0: Tensor, latent1: Tensor, candidates: Tensor) -> Tensor:
    """See `rdvfi.backbones.compact.denoiser._mismatches`."""
    (b, n, num_candidates, _, h, w), c = candidates.shape, latent0.shape[1]
    out = candidates.new_empty((b, n, num_candidates, h, w), dtype=torch.float32)
    tensors = [latent0.contiguous(), latent1.contiguous(), candidates.float().contiguous()]
    arguments = [*tensors, out, n * num_candidates, h, w]
    _candidate_mismatch[launch_grid(b * n * num_candidates, h, w)](*arguments, CHANNELS=c)
    return out
