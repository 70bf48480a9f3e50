"""Motion: flow estimators, bases, trajectories.

Importing the package registers the built-in implementations.
"""

from rdvfi.motion import (
    basis,
    chained,
    direct,
    dis,
    iterative,
    line,
    local,
    matched_dis,
    matching,
    raft,
    timm_pyramid,
)

__all__ = [
    "basis",
    "chained",
    "direct",
    "dis",
    "iterative",
    "line",
    "local",
    "matched_dis",
    "matching",
    "raft",
    "timm_pyramid",
]
