"""The motion laboratory: scenes whose every path is known, and what a method makes of them."""

from rdvfi.evaluation.laboratory.motion_scene import MotionScene
from rdvfi.evaluation.laboratory.scene_kinds import motion_scene, motion_scenes

__all__ = ["MotionScene", "motion_scene", "motion_scenes"]
