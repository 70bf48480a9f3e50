"""Renderers: full-size frames from end frames and motion.

Importing the package registers the built-in implementations.
"""

from rdvfi.render import refinement, renderer, synthesis

__all__ = ["refinement", "renderer", "synthesis"]
