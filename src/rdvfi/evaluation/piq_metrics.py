"""Perceptual metrics that need no downloaded network: FSIM, VIF and GMSD, from the `piq` package.

They come with the extra ``metrics``. FSIM (phase congruency and gradients) and VIF (information
kept) are 1 for equal frames and fall with damage; GMSD (deviation of the gradient similarity) is 0
for equal frames and grows.

References:
    FSIM: a feature similarity index for image quality assessment (Zhang et al., 2011).
    Image information and visual quality (Sheikh and Bovik, 2006).
    Gradient magnitude similarity deviation (Xue et al., 2014).
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

from rdvfi._torchvision import import_torchvision
from rdvfi.evaluation.metrics import Frames, Values


@dataclass(frozen=True, eq=False)
class Perceptual:
    """Perceptual scores of each frame."""

    fsim: Values
    vif: Values
    gmsd: Values


def perceptual(frames: Frames, truth: Frames) -> Perceptual:
    """FSIM, VIF and GMSD of 8-bit-rounded frames against the true ones.

    Raises:
        ImportError: If `piq` is not installed.
    """
    piq = load_piq()
    pair = (frames.clamp(0.0, 1.0), truth.clamp(0.0, 1.0))
    return Perceptual(
        fsim=piq.fsim(*pair, data_range=1.0, reduction="none"),
        vif=piq.vif_p(*pair, data_range=1.0, reduction="none"),
        gmsd=piq.gmsd(*pair, data_range=1.0, reduction="none"),
    )


def load_piq() -> ModuleType:
    """The `piq` module.

    Raises:
        ImportError: If it is not installed; the message says how to get it.
    """
    try:
        import_torchvision()
        return importlib.import_module("piq")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"perceptual metrics need the package {error.name!r}, which is not installed; pip install 'rdvfi[metrics]'"
        ) from error
