"""Metrics of structure that need no network: MS-SSIM, FSIM, VIF and GMSD, from the package `piq`.

They come with the extra ``metrics``. MS-SSIM (structural similarity over five halvings of the size), FSIM
(phase congruency and gradients, in colour) and VIF (information kept, pixel domain) are 1 for equal frames
and fall with damage; GMSD (deviation of the gradient similarity) is 0 for equal frames and grows.

References:
    Multiscale structural similarity for image quality assessment (Wang et al., 2003).
    FSIM: a feature similarity index for image quality assessment (Zhang et al., 2011).
    Image information and visual quality (Sheikh and Bovik, 2006).
    Gradient magnitude similarity deviation (Xue et al., 2014).
"""

from typing import Any, ClassVar

from rdvfi.compat import import_optional
from rdvfi.evaluation.metrics.metric import Better, MadeFrames, Metric, Sample, metrics


class _FromPiq(Metric):
    """One function of `piq` on every frame."""

    better = Better.HIGHER
    function: str
    options: ClassVar[dict[str, Any]] = {}
    least: int = 16
    """Shortest side, in pixels, that it can be taken of."""

    def __init__(self) -> None:
        super().__init__()
        package = import_optional("piq", "perceptual metrics need", "'rdvfi[metrics]'", torchvision=True)
        self._function = getattr(package, self.function)

    def measure(self, made: MadeFrames) -> Sample:
        h, w = made.frames.shape[-2:]
        if min(h, w) < self.least:
            raise ValueError(f"{self.title} needs frames of at least {self.least} pixels a side; got {w}x{h}")
        return Sample.of(self._function(made.frames, made.truth, data_range=1.0, reduction="none", **self.options))


@metrics.register("ms-ssim")
class MSSSIM(_FromPiq):
    """Multi-scale structural similarity: five scales, the window and constants of SSIM."""

    title, function, least = "MS-SSIM", "multi_scale_ssim", 161


@metrics.register("fsim")
class FSIM(_FromPiq):
    """Feature similarity, with colour."""

    title, function = "FSIM", "fsim"


@metrics.register("vif")
class VIF(_FromPiq):
    """Visual information fidelity in the pixel domain."""

    title, function, least = "VIF", "vif_p", 41


@metrics.register("gmsd")
class GMSD(_FromPiq):
    """Gradient magnitude similarity deviation of the luma."""

    title, function, better = "GMSD", "gmsd", Better.LOWER
