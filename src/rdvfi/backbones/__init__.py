"""The backbones: keyframe generators.

Importing the package registers the built-in implementations.
"""

import rdvfi.backbones.compact.generator
import rdvfi.backbones.ends
import rdvfi.backbones.svd.generator
import rdvfi.backbones.wan.factory  # noqa: F401
