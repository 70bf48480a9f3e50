"""Image operations under every stage: warping, chaining flows, drawing frames along flows."""

from rdvfi.ops.compose import chain, straight_flows
from rdvfi.ops.correlation import correlation
from rdvfi.ops.hidden import fill_hidden
from rdvfi.ops.native import compile_render
from rdvfi.ops.render import render
from rdvfi.ops.splat import splat, splat_sum
from rdvfi.ops.turning import turning_candidates
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
