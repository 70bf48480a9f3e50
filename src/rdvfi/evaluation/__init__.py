"""Evaluation: metrics, protocols over clips, baselines, and ablations."""

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.function_method import FunctionMethod
from rdvfi.evaluation.laboratory import motion_scene, motion_scenes
from rdvfi.evaluation.methods import create_method
from rdvfi.evaluation.protocol import evaluate
from rdvfi.evaluation.results import Report, Score

__all__ = ["FunctionMethod", "Method", "Report", "Score", "create_method", "evaluate", "motion_scene", "motion_scenes"]
