"""Image operations under every stage: warping, chaining flows, drawing frames along flows."""

from rdvfi.ops.drawing.operator import render
from rdvfi.ops.flow_algebra import chain, straight_flows
from rdvfi.ops.local_correlation import correlation
from rdvfi.ops.occlusion import fill_occluded
from rdvfi.ops.paths import follow
from rdvfi.ops.similarity_paths import similarity_path_flows
from rdvfi.ops.splatting import splat, splat_sum
from rdvfi.ops.warp import backward_warp

__all__ = [
    "backward_warp",
    "chain",
    "correlation",
    "fill_occluded",
    "follow",
    "render",
    "similarity_path_flows",
    "splat",
    "splat_sum",
    "straight_flows",
]
