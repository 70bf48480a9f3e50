"""Importing optional packages, and packages whose import fails with a CPU build of torch.

The torchvision on PyPI is built for CUDA. With a CPU build of torch its compiled operators are
missing, and ``import torchvision`` fails when it registers implementations of two of them, and so do
timm and diffusers. Once these two operators are declared, torchvision can be imported; models and transforms
work, and only the compiled operators (nms, roi_align) do not. If torchvision is
complete, nothing is changed. A plug-in that uses such packages imports them here::

    timm = rdvfi.compat.import_timm()
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_optional", "import_timm", "import_torchvision"]

_declarations: list[Any] = []


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
    _declarations.append(library)  # the declarations exist as long as this object
    return importlib.import_module("torchvision")


def import_timm() -> ModuleType:
    """Import timm, with any build of torch; raises ModuleNotFoundError if timm is not installed."""
    try:
        import_torchvision()
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        # timm itself reports that torchvision is missing.
    return importlib.import_module("timm")


def import_optional(name: str, use: str, install: str, *, torchvision: bool = False) -> Any:
    """Import a module of an optional package.

    Args:
        name: Name of the module, such as ``matplotlib.figure``.
        use: The beginning of the error message, a feature and a verb: ``plots need``.
        install: The argument of ``pip install``: ``'rdvfi[plot]'``.
        torchvision: Whether the module imports torchvision.

    Raises:
        ModuleNotFoundError: If the package is not installed; the message says how to install it.
    """
    try:
        if torchvision:
            import_torchvision()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = f"{use} the package {error.name!r}, which is not installed; pip install {install}"
        raise ModuleNotFoundError(missing, name=error.name) from error
