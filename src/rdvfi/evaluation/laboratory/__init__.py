"""The motion laboratory: generated scenes with exact motion, to evaluate any model.

`rdvfi.evaluation.evaluate` accepts two sets of them, ``laboratory-determined`` and
``laboratory-undetermined``; `motion_scene` creates a single scene, with frames and flows at any time.
"""

from rdvfi.evaluation.laboratory.scene_builder import MotionScene
from rdvfi.evaluation.laboratory.scene_kinds import LABORATORY_SETS, motion_scene, motion_scenes

__all__ = ["LABORATORY_SETS", "MotionScene", "motion_scene", "motion_scenes"]
