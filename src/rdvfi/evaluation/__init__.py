"""Evaluation: metrics, protocols over clips, baselines, and ablations."""

from rdvfi.evaluation.laboratory import motion_scene, motion_scenes
from rdvfi.evaluation.method import Method
from rdvfi.evaluation.method_adapters import FunctionMethod
from rdvfi.evaluation.methods import create_method
from rdvfi.evaluation.results import Report, Score
from rdvfi.evaluation.run_evaluation import evaluate

__all__ = ["FunctionMethod", "Method", "Report", "Score", "create_method", "evaluate", "motion_scene", "motion_scenes"]
