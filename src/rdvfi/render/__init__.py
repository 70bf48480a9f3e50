"""Renderers: full-size frames from end frames and motion.

Importing the package registers the built-in implementations.
"""

from rdvfi.render import synthesis
from rdvfi.render import warp_renderer as warp

__all__ = ["synthesis", "warp"]
