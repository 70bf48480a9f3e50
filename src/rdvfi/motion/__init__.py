"""Motion: flow estimators, bases, trajectories.

Importing the package registers the built-in implementations.
"""

from rdvfi.motion import basis, direct, dis, iterative, line, local

__all__ = ["basis", "direct", "dis", "iterative", "line", "local"]
