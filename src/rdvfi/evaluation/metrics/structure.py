"""Structural metrics without a network: MS-SSIM, FSIM, VIF and GMSD, from the package `piq` (extra ``metrics``).

MS-SSIM (structural similarity over five halvings of the size), FSIM
(phase congruency and gradients, in colour) and VIF (preserved information, pixel domain) are 1 for equal frames
and decrease with distortion; GMSD (deviation of the gradient similarity) is 0 for equal frames and increases.

References:
    Multiscale structural similarity for image quality assessment (Wang et al., 2003).
    FSIM: a feature similarity index for image quality assessment (Zhang et al., 2011).
    Image information and visual quality (Sheikh and Bovik, 2006).
    Gradient magnitude similarity deviation (Xue et al., 2014).
"""

from typing import Any, ClassVar

from rdvfi.compat import import_optional
from rdvfi.evaluation.metrics.metric import Better, Metric, Sample, WindowResult, metrics


class _PiqMetric(Metric):
    """A function of `piq`, applied to every frame."""

    better = Better.HIGHER
    function: str
    options: ClassVar[dict[str, Any]] = {}
    min_size: int = 16
    """Smallest height and width for which it is defined, in pixels."""

    def __init__(self) -> None:
        super().__init__()
        package = import_optional("piq", "perceptual metrics need", "'rdvfi[metrics]'", torchvision=True)
        self._function = getattr(package, self.function)

    def measure(self, result: WindowResult) -> Sample:
        h, w = result.frames.shape[-2:]
        if min(h, w) < self.min_size:
            raise ValueError(f"{self.title} needs frames of at least {self.min_size} pixels a side; got {w}x{h}")
        return Sample.of(self._function(result.frames, result.truth, data_range=1.0, reduction="none", **self.options))


@metrics.register("ms-ssim")
class MSSSIM(_PiqMetric):
    """Multi-scale structural similarity: five scales, the window and constants of SSIM."""

    title, function, min_size = "MS-SSIM", "multi_scale_ssim", 161


@metrics.register("fsim")
class FSIM(_PiqMetric):
    """Feature similarity, with colour."""

    title, function = "FSIM", "fsim"


@metrics.register("vif")
class VIF(_PiqMetric):
    """Visual information fidelity in the pixel domain."""

    title, function, min_size = "VIF", "vif_p", 41


@metrics.register("gmsd")
class GMSD(_PiqMetric):
    """Gradient magnitude similarity deviation of the luma."""

    title, function, better = "GMSD", "gmsd", Better.LOWER
