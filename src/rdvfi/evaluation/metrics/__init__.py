"""Metrics by name: fidelity, structure, perception, temporal consistency, motion, and distances of sets."""

from rdvfi.evaluation.metrics.display import FLIP, VMAF, ColorVideoVDP
from rdvfi.evaluation.metrics.fidelity import gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.metrics.frechet_metrics import FID, FVD
from rdvfi.evaluation.metrics.lpips_metrics import FloLPIPS
from rdvfi.evaluation.metrics.metric import (
    DEFAULT_METRICS,
    PERCEPTUAL_METRICS,
    Metric,
    SetMetric,
    WindowResult,
    create_metrics,
    metrics,
)
from rdvfi.evaluation.metrics.structure import MSSSIM
from rdvfi.evaluation.metrics.temporal import Flicker, StillError, WarpingError
from rdvfi.evaluation.metrics.true_motion import EPE, PathError

__all__ = [
    "DEFAULT_METRICS",
    "EPE",
    "FID",
    "FLIP",
    "FVD",
    "MSSSIM",
    "PERCEPTUAL_METRICS",
    "VMAF",
    "ColorVideoVDP",
    "Flicker",
    "FloLPIPS",
    "Metric",
    "PathError",
    "SetMetric",
    "StillError",
    "WarpingError",
    "WindowResult",
    "create_metrics",
    "gradient_energy",
    "metrics",
    "psnr",
    "quantise",
    "ssim",
]
