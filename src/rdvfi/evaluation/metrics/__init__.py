"""Metrics by name: fidelity, structure, perception, time, motion, and distances between sets of frames."""

from rdvfi.evaluation.metrics.fidelity import gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.metrics.metric import DEFAULT, PERCEPTUAL, MadeFrames, Metric, SetMetric, create_metrics, metrics
from rdvfi.evaluation.metrics.stillness import StillError
from rdvfi.evaluation.metrics.structure import MSSSIM

__all__ = [
    "DEFAULT",
    "MSSSIM",
    "PERCEPTUAL",
    "MadeFrames",
    "Metric",
    "SetMetric",
    "StillError",
    "create_metrics",
    "gradient_energy",
    "metrics",
    "psnr",
    "quantise",
    "ssim",
]
