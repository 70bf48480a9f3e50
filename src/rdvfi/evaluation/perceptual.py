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
import sys
from dataclasses import dataclass
from types import ModuleType

import torch

from rdvfi.evaluation.metrics import Frames, Values

_KEPT: list[torch.library.Library] = []
"""Operator declarations live as long as the object that made them."""


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
        _load_torchvision()
        return importlib.import_module("piq")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"perceptual metrics need the package {error.name!r}, which is not installed; "
            "pip install 'rdvfi[metrics]'"
        ) from error


def _load_torchvision() -> None:
    """Import torchvision even where a build for CUDA meets a torch for the CPU.

    There its compiled operators are missing, and declaring a shape rule for two of them ends its
    import. `piq` uses none of them, so declaring the two is enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou) -> Tensor")
        _KEPT.append(library)
        importlib.import_module("torchvision")
