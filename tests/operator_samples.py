"""Arguments of every operator of the package, for tests that hold for all of them.

Sizes are those that kernels are compiled for: multiples of 16 where they mostly are in use.
"""

import importlib
import pkgutil
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS

import rdvfi

OPTIONAL = ("rdvfi.integrations.", "rdvfi.serve.", "rdvfi.ops.kernels.", "rdvfi.__main__")
"""Modules that need an extra, or a GPU; they register no operator."""


def registered() -> list[str]:
    """Names of all operators, without ``rdvfi::``."""
    for module in pkgutil.walk_packages(rdvfi.__path__, "rdvfi."):
        if not module.name.startswith(OPTIONAL):
            importlib.import_module(module.name)
    return sorted(name.removeprefix("rdvfi::") for name in OPDEFS if name.startswith("rdvfi::"))


class _Random:
    """Random tensors by shape, one after the other; the same ones every time."""

    def __init__(self) -> None:
        self._own = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._own)

    def flow(self, *shape: int) -> Tensor:
        return 4.0 * self(*shape) - 2.0


def samples(dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format) -> Any:
    """Arguments by operator; images and features are of that type and layout, maps are float32."""
    rand = _Random()

    def image(*shape: int) -> Tensor:
        return rand(*shape).to(dtype).to(memory_format=memory_format)

    wide, flow, frame, luma = image(2, 3, 16, 128), rand.flow(2, 2, 32, 48), rand(2, 3, 32, 48), rand(2, 1, 32, 48)
    big, two, four = image(2, 3, 32, 64), rand.flow(2, 2, 32, 64), rand.flow(2, 4, 32, 64)
    maps, times, mask = rand.flow(2, 3, 8, 16, 64), torch.linspace(0, 1, 3), rand(6, 1, 16, 64)
    small, one, state = rand(2, 3, 16, 64), rand(2, 1, 16, 64), maps.flatten(0, 1)
    moved, weights = rand.flow(2, 2, 16, 128), rand(2, 1, 16, 128)
    paths = [rand.flow(2, 4, 2, 16, 128) for _ in range(4)]
    quarters = torch.linspace(0.1, 0.9, 4)
    latents, noisy, path = [rand(1, 16, 16, 24) for _ in range(2)], rand(1, 7, 16, 16, 24), rand(1, 7, 4, 4, 16, 24)
    sevenths, edges, row, table = torch.linspace(0, 1, 7), torch.tensor([[0, 32], [3, 30]]), rand(64), rand(32, 32)
    parts = [maps[:, :, :2], maps[:, :, 2:4], maps[:, :, 4:5], maps[:, :, 5:8]]
    drawn = [rand(2, 4, c, 8, 64) for c in (2, 2, 1, 3)]
    steps = [rand.flow(2, 8, c, 16, 128) for c in (2, 2, 1, 1)]
    heads = rand(2, 32, 64).to(dtype)
    meaning = [0.2126, 0.0722, 16.0, 128.0, 219.0, 224.0, 0.0, 0.5]
    return {
        "activated": (big, rand(3).to(dtype), big, 1),
        "adapted_maps": (small, small, one, *(x.contiguous() for x in parts), times, rand(2)),
        "backward_warp": (wide, moved),
        "backward_warp_backward": (wide, wide, moved, True, True),
        "bars": (frame, frame),
        "blend_shares": (parts[0].contiguous(), times, 0.1),
        "carried_flows": (two, two, two, two),
        "common_motions": (rand.flow(2, 3), rand.flow(2, 3, 5), 4),
        "composited": (
            rand(2, 3, 3, 32, 64).to(dtype),
            big,
            big,
            times,
            [big, big, big[:, :1].contiguous()],
            [edges, 2 * edges],
        ),
        "confidence": (*paths[:2], paths[2][:, 0], paths[3][:, 0]),
        "convex_upsampled": (flow, rand(2, 144, 32, 48), 4),
        "correction_room": (mask, mask, 0.1),
        "correlation": (wide, wide, 2),
        "correlation_backward": (rand(2, 25, 16, 128).to(dtype), wide, wide, 2),
        "cubic_weights": (torch.linspace(0, 1, 9), sevenths),
        "denoiser_inputs": (
            noisy,
            *latents,
            path[:, :, 0].contiguous(),
            path,
            path[:, :, 1].contiguous(),
            path[:, :, 2, :2].contiguous(),
            sevenths,
            torch.ones(1),
        ),
        "denoiser_outputs": (rand(7, 25, 16, 24), *latents, path[:, :, 0].contiguous(), path, sevenths),
        "dis_flow": (frame, frame, "medium", False),
        "dominant_shift": (luma,),
        "expected_flow": (rand.flow(1, 448, 448), 16, 28),
        "explained": (frame, frame, frame, frame, luma, luma),
        "fill_bars": (frame, torch.tensor([[0, 32, 0, 48], [2, 30, 4, 40]])),
        "fill_occluded": (flow, flow),
        "flows_at": (rand.flow(2, 9, 4, 16, 128), *steps, torch.linspace(0, 1, 9), quarters, rand(4, 9)),
        "follow": (*paths, quarters, 1.0 - quarters, 2),
        "fused_flow": (four, big),
        "fusion_candidates": (big, big, two, four),
        "gated_norm": (heads, heads, row, rand(64).to(dtype), row, row, 1e-6),
        "gated_unit": (heads,),
        "grey_levels": (frame,),
        "keypoints": (luma,),
        "lifted_overlay": (big, big, one, one, rand(2, 2, 3, 16, 64)),
        "light_gain": (frame, frame, luma, 7),
        "looked_up": (rand(2, 448, 448), rand.flow(2, 2, 16, 28), 4, dtype),
        "matched_dis_flow": (frame, frame, flow, -flow, "medium"),
        "mismatches": (*latents, path),
        "motion_features": (flow, luma, dtype),
        "overlay": (frame, frame, flow, flow),
        "plates": (frame, frame, luma, flow, flow),
        "pull_push": (frame, luma),
        "refinement_inputs": (rand(2, 4, 32, 48), rand(2, 6, 16, 24), rand.flow(2, 2, 16, 24), 2, dtype),
        "refinement_windows": (rand(2, 4, 32, 48), 2),
        "render": (wide, wide, *drawn, dtype),
        "rgb_to_video": (rand(3, 32, 128).to(dtype), [32, 128], [2, 2], True, 10, 6, meaning),
        "return_error": (flow, flow),
        "rms_silu": (big, rand(3).to(dtype), True),
        "rotary_heads": (heads, heads, rand(64).to(dtype), rand(64).to(dtype), table, table, 1e-6),
        "rotated_tokens": (image(2, 96, 16, 28).unflatten(1, (2, 48)), 1.0, 2),
        "searched_scale": (luma, [flow, flow], rand.flow(2, 4, 7), 2),
        "similarity_paths": (flow, flow, sevenths),
        "similarity_votes": (48.0 * rand(2, 300, 2), rand(2, 300, 128), flow),
        "splat_sum": (wide, moved, weights, False),
        "splat_sum_backward": (rand(2, 4, 16, 128), wide, moved, weights),
        "stage_entry": (state, rand(6, 24, 4, 16), 4, 1, dtype),
        "stage_inputs": (small, small, state, mask, rand(6), rand(6, 3, 2, 8)),
        "stage_step": (state, image(6, 32, 8, 32), mask, mask, 2, True),
        "static_bars": (frame,),
        "straight_flows": (paths[0][:, 0], paths[1][:, 0], quarters, 3),
        "surface": (frame,),
        "video_to_rgb": (*((255.0 * rand(16, 64)).to(torch.uint8) for _ in range(3)), meaning, dtype),
    }
