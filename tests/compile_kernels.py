"""Compiles every kernel for NVIDIA GPUs, on a machine that needs to have none; run by a test.

The functions that launch kernels are called with CPU tensors, and every launch compiles instead:
with the types, the constants and the specialisations that it would have on a GPU.
"""

import re
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from rdvfi.graphs import Watch
from rdvfi.ops.inference import LAUNCHES, SETTINGS
from rdvfi.ops.kernels import activation_kernels as activation
from rdvfi.ops.kernels import adaptation_kernels as adaptation
from rdvfi.ops.kernels import bars_kernels as bars
from rdvfi.ops.kernels import basis_kernels as basis
from rdvfi.ops.kernels import compositing_kernels as compositing
from rdvfi.ops.kernels import correlation_kernels as correlation
from rdvfi.ops.kernels import denoiser_kernels as denoiser
from rdvfi.ops.kernels import dominant_shift_kernels as dominant_shift
from rdvfi.ops.kernels import iterative_kernels as iterative
from rdvfi.ops.kernels import keypoints_kernels as keypoints
from rdvfi.ops.kernels import light_kernels as light
from rdvfi.ops.kernels import local_refinement_kernels as local_refinement
from rdvfi.ops.kernels import matching_kernels as matching
from rdvfi.ops.kernels import occlusion_kernels as occlusion
from rdvfi.ops.kernels import overlay_kernels as overlay
from rdvfi.ops.kernels import patch_search_kernels as patch_search
from rdvfi.ops.kernels import patch_states_kernels as patch_states
from rdvfi.ops.kernels import paths_kernels as paths
from rdvfi.ops.kernels import plates_kernels as plates
from rdvfi.ops.kernels import refinement_kernels as refinement
from rdvfi.ops.kernels import render_kernels as render
from rdvfi.ops.kernels import similarity_paths_kernels as similarity_paths
from rdvfi.ops.kernels import similarity_votes_kernels as similarity_votes
from rdvfi.ops.kernels import splat_kernels as splat
from rdvfi.ops.kernels import surface_kernels as surface
from rdvfi.ops.kernels import transformer_kernels as transformer
from rdvfi.ops.kernels import warp_kernels as warp

AMPERE, HOPPER = (GPUTarget("cuda", capability, 32) for capability in (80, 90))
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
ALIGNED = [["tt.divisibility", 16]]
compiled: dict[str, int] = {}
loads: dict[str, set[str]] = {}
"""Kinds of loads from global memory, by kernel."""


def note_loads(name: str, ptx: str) -> None:
    """Remember what the compiled kernel loads at a time."""
    loads.setdefault(name, set()).update(re.findall(r"ld\.global[.\w]*?\.(v\d\.b\d+|b\d+)", ptx))


def _compile(target: GPUTarget, kernel: Any, arguments: dict[str, Any]) -> None:
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[index,] = ALIGNED  # as memory from the device's allocator is
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            signature[parameter.name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[index,] = ALIGNED
    binary = triton.compile(ASTSource(kernel, signature, constants, attributes), target=target)
    assert binary.asm["cubin"]
    note_loads(kernel.fn.__name__, binary.asm["ptx"])
    name = f"{kernel.fn.__module__.rpartition('.')[2].removesuffix('_kernels')}.{kernel.fn.__name__}"
    compiled[name] = compiled.get(name, 0) + 1


def _instead_of_launching(target: GPUTarget) -> None:
    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        names = [parameter.name for parameter in kernel.params]
        _compile(target, kernel, dict(zip(names, args, strict=False)) | kwargs)

    JITFunction.run = run


def _launch_all(dtype: torch.dtype, strides: torch.memory_format) -> None:
    image = torch.zeros(2, 3, 16, 128, dtype=dtype).to(memory_format=strides)
    flow, weights, units = (
        torch.zeros(2, 2, 16, 128),
        torch.zeros(2, 1, 16, 128),
        torch.ones(2, 4, 1),
    )
    warp.backward_warp(image, flow)
    for needs in ((True, True), (False, True), (True, False)):
        warp.backward_warp_backward(image, image, flow, *needs)
    splat.splat_sum(image, flow, weights, None)
    splat.splat_sum(image, flow, weights, units)
    splat.splat_sum_backward(torch.zeros(2, 4, 16, 128), image, flow, weights)
    maps = [torch.zeros(2, 4, c, 8, 64) for c in (2, 2, 1, 3)]
    render.render(image, image, *maps, dtype)
    correlation.correlation(image, image, 2)
    correlation.correlation_backward(torch.zeros(2, 25, 16, 128, dtype=dtype), image, image, 2)


def _launch_paths() -> None:
    """Float32 always, whatever the type of images."""
    two, times = torch.zeros(2, 4, 2, 16, 128), torch.zeros(4)
    paths.follow(two, two, two, two, times, times, 2)
    paths.straight(two[:, 0], two[:, 0], times, 3)
    paths.confidence(two, two, two[:, 0], two[:, 0])
    steps, errors = torch.zeros(2, 8, 2, 16, 128), torch.zeros(2, 8, 1, 16, 128)
    weights = torch.zeros(4, 9)
    paths.flows_at(torch.zeros(2, 9, 4, 16, 128), steps, steps, errors, errors, torch.zeros(9), times, weights)


def _counted(module: ModuleType, name: str, *arguments: Any) -> None:
    """Compile what an operator launches, which must be as much as it says."""
    before = sum(compiled.values())
    with Watch("cpu") as watch:
        getattr(module, name)(*arguments, **SETTINGS[name])
    started = sum(compiled.values()) - before + sum(watch.count.values())
    said = LAUNCHES[f"rdvfi::{name}"]
    assert started == said, f"{name} starts {started} kernels and says {said}: {watch.count}"


def _launch_flow() -> None:
    """What the estimation of motion is made of, float32."""
    luma, flow, pictures = torch.zeros(2, 1, 32, 48), torch.zeros(2, 2, 32, 48), torch.zeros(2, 3, 32, 48)
    latent, path = torch.zeros(1, 16, 16, 24), torch.zeros(1, 7, 4, 4, 16, 24)
    _counted(denoiser, "mismatches", latent, latent, path)
    parts = (path[:, :, 0], path, path[:, :, 0], path[:, :, 0, :2], torch.zeros(7))
    noisy = torch.zeros(1, 7, 16, 16, 24)
    _counted(denoiser, "denoiser_inputs", noisy, latent, latent, *(x.contiguous() for x in parts), torch.ones(1))
    answer = torch.zeros(7, 25, 16, 24)
    _counted(denoiser, "denoiser_outputs", answer, latent, latent, parts[0].contiguous(), path, torch.zeros(7))
    _counted(bars, "bars", pictures, pictures)
    _counted(bars, "fill_bars", pictures, torch.zeros(2, 4, dtype=torch.int64))
    _counted(bars, "static_bars", pictures)
    _counted(overlay, "overlay", pictures, pictures, flow, flow)
    _counted(plates, "plates", pictures, pictures, luma, flow, flow)
    _counted(light, "light_gain", pictures, pictures, luma, 7)
    _counted(light, "explained", pictures, pictures, pictures, pictures, luma, luma)
    _counted(dominant_shift, "dominant_shift", luma)
    _counted(basis, "cubic_weights", torch.zeros(9), torch.zeros(7))
    scores = torch.zeros(1, 448, 448)
    _counted(matching, "rotated_tokens", torch.zeros(2, 2, 48, 16, 28, dtype=torch.float16), 1.0, 2)
    _counted(matching, "expected_flow", scores, 16, 28)
    _counted(matching, "looked_up", torch.zeros(2, 448, 448), torch.zeros(2, 2, 16, 28), 4, torch.float16)
    _counted(matching, "motion_features", flow, luma, torch.float16)
    _counted(matching, "convex_upsampled", flow, torch.zeros(2, 144, 32, 48), 4)
    _counted(occlusion, "fill_occluded", flow, flow)
    _counted(occlusion, "return_error", flow, flow)
    _counted(occlusion, "pull_push", pictures, luma)
    _counted(similarity_paths, "similarity_paths", flow, flow, torch.zeros(7))
    maps, fine = torch.zeros(2, 4, 32, 48), torch.zeros(2, 2, 16, 24)
    _counted(surface, "surface", pictures)
    _counted(surface, "grey_levels", pictures)
    _counted(local_refinement, "refinement_windows", maps, 2)
    _counted(local_refinement, "refinement_inputs", maps, torch.zeros(2, 6, 16, 24), fine, 2, torch.float16)
    _counted(keypoints, "keypoints", luma)
    _counted(similarity_votes, "similarity_votes", torch.zeros(2, 300, 2), torch.zeros(2, 300, 128), flow)
    _counted(patch_states, "common_motions", torch.zeros(2, 3), torch.zeros(2, 3, 5), 4)
    _counted(patch_search, "searched_scale", luma, [flow, flow], torch.zeros(2, 4, 7), 2)


def _launch_maps(dtype: torch.dtype) -> None:
    """What lies between the networks of large models and of drawing, and around it."""
    image, maps = torch.zeros(2, 3, 32, 64, dtype=dtype), torch.zeros(2, 3, 8, 16, 64)
    small, one, times = torch.zeros(2, 3, 16, 64), torch.zeros(2, 1, 16, 64), torch.zeros(3)
    edges, plates = torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2, 3, 16, 64)
    state, mask = maps.flatten(0, 1), torch.zeros(6, 1, 16, 64)
    _counted(compositing, "lifted_overlay", image, image, one, one, plates)
    lifted, frames = [image, image, image[:, :1].contiguous()], torch.zeros(2, 3, 3, 32, 64, dtype=dtype)
    _counted(compositing, "composited", frames, image, image, times, lifted, [edges, edges])
    _counted(refinement, "stage_inputs", small, small, state, mask, torch.zeros(6), torch.zeros(6, 3, 2, 8))
    answer, latents = torch.zeros(6, 32, 8, 32, dtype=dtype), torch.zeros(6, 24, 4, 16)
    _counted(refinement, "stage_step", state, answer, mask, mask, 2, True)
    _counted(refinement, "stage_entry", state, latents, 4, 1, dtype)
    _counted(activation, "activated", image, torch.zeros(3, dtype=dtype), image, 1)
    tokens, weight, row = torch.zeros(2, 32, 64, dtype=dtype), torch.zeros(64, dtype=dtype), torch.zeros(64)
    _counted(transformer, "gated_norm", tokens, tokens, row, weight, row, row, 1e-6)
    table = torch.zeros(32, 32)
    _counted(transformer, "rotary_heads", tokens, tokens, weight, weight, table, table, 1e-6)
    _counted(transformer, "gated_unit", tokens)
    _counted(transformer, "rms_silu", image, torch.zeros(3, dtype=dtype), True)
    two, four = torch.zeros(2, 2, 32, 64), torch.zeros(2, 4, 32, 64)
    _counted(iterative, "fusion_candidates", image, image, two, four)
    _counted(iterative, "fused_flow", four, image)
    if dtype == torch.float16:  # float32 always
        _counted(iterative, "carried_flows", two, two, two, two)
        parts = [maps[:, :, :2], maps[:, :, :2], maps[:, :, :1], maps[:, :, :3]]
        parts = [part.contiguous() for part in parts]
        _counted(adaptation, "blend_shares", maps[:, :, :2].contiguous(), times, 0.1)
        _counted(refinement, "correction_room", mask, mask, 0.1)
        _counted(adaptation, "adapted_maps", small, small, one, *parts, times, torch.zeros(2))


for target, dtype, strides in (
    (HOPPER, torch.float16, torch.contiguous_format),
    (AMPERE, torch.float32, torch.channels_last),
):
    _instead_of_launching(target)
    _launch_all(dtype, strides)
    _launch_maps(dtype)
_launch_paths()
_launch_flow()
for name, count in sorted(compiled.items()):
    print(name, count)  # noqa: T201
print("_draw loads", *sorted(loads["_draw"]))  # noqa: T201
