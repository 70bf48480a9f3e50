"""Image operations under every stage: warping, and drawing frames along flows."""

from rdvfi.ops.render import render
from rdvfi.ops.warp import backward_warp

__all__ = ["backward_warp", "render"]
