"""The backbones: keyframe generators.

Importing the package registers the built-in implementations.
"""

from rdvfi.backbones import compact, ends, svd, wan

__all__ = ["compact", "ends", "svd", "wan"]
