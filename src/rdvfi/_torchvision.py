"""Importing torchvision, and packages that need it, where its compiled part cannot be loaded.

The torchvision on PyPI is built for CUDA. Beside a CPU build of torch its compiled operators are
left out, and ``import torchvision`` fails on registering what it knows of two of them, so that
timm and diffusers fail with it. Declaring these two lets it be imported; models and transforms
work, and only the compiled operators themselves (nms, roi_align) do not. Where torchvision is
whole, nothing is done.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_kept: list[Any] = []


def import_torchvision() -> ModuleType:
    """Import torchvision; call it before timm, diffusers or torchmetrics are imported.

    Raises:
        ModuleNotFoundError: If torchvision is not installed.
    """
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)  # the declarations live as long as this object
    return importlib.import_module("torchvision")
