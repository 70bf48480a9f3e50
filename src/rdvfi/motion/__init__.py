"""Motion: flow estimators, bases, trajectories.

Importing the package registers the built-in implementations.
"""

import rdvfi.motion.basis
import rdvfi.motion.flow.dis
import rdvfi.motion.flow.global_local
import rdvfi.motion.flow.local
import rdvfi.motion.flow.matched_dis
import rdvfi.motion.flow.matching
import rdvfi.motion.flow.raft
import rdvfi.motion.flow.timm_pyramid
import rdvfi.motion.trajectory.chained
import rdvfi.motion.trajectory.direct
import rdvfi.motion.trajectory.iterative
import rdvfi.motion.trajectory.straight_motion  # noqa: F401
