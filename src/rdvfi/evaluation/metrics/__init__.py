"""Metrics by name: fidelity, structure, perception, temporal consistency, motion, and distances of sets."""

# Importing these modules registers their metrics.
from rdvfi.evaluation.metrics import display, frechet_metrics, lpips_metrics, structure, temporal, true_motion  # noqa: F401
from rdvfi.evaluation.metrics.fidelity import gradient_energy, psnr, quantise, ssim
from rdvfi.evaluation.metrics.metric import (
    DEFAULT_METRICS,
    PERCEPTUAL_METRICS,
    Metric,
    SetMetric,
    WindowResult,
    create_metrics,
    metrics,
)

__all__ = ["DEFAULT_METRICS", "PERCEPTUAL_METRICS", "Metric", "SetMetric", "WindowResult"]
__all__ += ["create_metrics", "gradient_energy", "metrics", "psnr", "quantise", "ssim"]
