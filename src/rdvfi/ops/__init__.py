"""Image operations under every stage: warping, chaining flows, drawing frames along flows."""

from rdvfi.ops.correlation import correlation
from rdvfi.ops.flow_algebra import chain, straight_flows
from rdvfi.ops.native import compile_render
from rdvfi.ops.occlusion import fill_hidden
from rdvfi.ops.render import render
from rdvfi.ops.similarity_paths import turning_candidates
from rdvfi.ops.splat import splat, splat_sum
from rdvfi.ops.warp import backward_warp, follow

__all__ = [
    "backward_warp",
    "chain",
    "compile_render",
    "correlation",
    "fill_hidden",
    "follow",
    "render",
    "splat",
    "splat_sum",
    "straight_flows",
    "turning_candidates",
]
