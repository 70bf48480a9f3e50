"""The motion laboratory: scenes whose every path is known, to measure any model with.

Two sets of `rdvfi.evaluation.evaluate` are made of them, ``laboratory-determined`` and
``laboratory-undetermined``; `motion_scene` gives a single one, with frames and flows at any time.
"""

from rdvfi.evaluation.laboratory.scene_builder import MotionScene
from rdvfi.evaluation.laboratory.scene_kinds import LABORATORY_SETS, motion_scene, motion_scenes

__all__ = ["LABORATORY_SETS", "MotionScene", "motion_scene", "motion_scenes"]
