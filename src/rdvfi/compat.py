"""Importing packages that are optional, or that do not import by themselves beside a CPU build of torch.

The torchvision on PyPI is built for CUDA. Beside a CPU build of torch its compiled operators are
left out, and ``import torchvision`` fails on registering what it knows of two of them, so that
timm and diffusers fail with it. Declaring these two lets it be imported; models and transforms
work, and only the compiled operators themselves (nms, roi_align) do not. Where torchvision is
whole, nothing is done. A plug-in that uses such packages imports them here::

    timm = rdvfi.compat.import_timm()
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_optional", "import_timm", "import_torchvision"]

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


def import_timm() -> ModuleType:
    """Import timm, wherever torch was built for; raises ModuleNotFoundError if timm is not installed."""
    try:
        import_torchvision()
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        # Without torchvision timm says itself what it lacks.
    return importlib.import_module("timm")


def import_optional(name: str, use: str, install: str, *, torchvision: bool = False) -> Any:
    """Import a module of an optional package.

    Args:
        name: Of the module, such as ``matplotlib.figure``.
        use: What needs it, with the verb: ``plots need``.
        install: What pip installs it by: ``'rdvfi[plot]'``.
        torchvision: Whether it imports torchvision.

    Raises:
        ModuleNotFoundError: If the package is not installed; the message says how to get it.
    """
    try:
        if torchvision:
            import_torchvision()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = f"{use} the package {error.name!r}, which is not installed; pip install {install}"
        raise ModuleNotFoundError(missing, name=error.name) from error
