"""Metrics by name: fidelity, structure, perception, time, motion, and distances between sets of frames."""

from rdvfi.evaluation.metrics.display import FLIP, VMAF, ColorVideoVDP
from rdvfi.evaluation.metrics.fidelity import gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.metrics.learned import FloLPIPS
from rdvfi.evaluation.metrics.metric import DEFAULT, PERCEPTUAL, MadeFrames, Metric, SetMetric, create_metrics, metrics
from rdvfi.evaluation.metrics.sets import FID, FVD
from rdvfi.evaluation.metrics.structure import MSSSIM
from rdvfi.evaluation.metrics.temporal import Flicker, StillError, WarpingError
from rdvfi.evaluation.metrics.true_motion import EPE, PathError

__all__ = [
    "DEFAULT",
    "EPE",
    "FID",
    "FLIP",
    "FVD",
    "MSSSIM",
    "PERCEPTUAL",
    "VMAF",
    "ColorVideoVDP",
    "Flicker",
    "FloLPIPS",
    "MadeFrames",
    "Metric",
    "PathError",
    "SetMetric",
    "StillError",
    "WarpingError",
    "create_metrics",
    "gradient_energy",
    "metrics",
    "psnr",
    "quantise",
    "ssim",
]
