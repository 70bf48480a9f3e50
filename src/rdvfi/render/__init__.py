"""Renderers: full-size frames from end frames and motion.

Importing the package registers the built-in implementations.
"""

from rdvfi.render import renderer, synthesis

__all__ = ["renderer", "synthesis"]
