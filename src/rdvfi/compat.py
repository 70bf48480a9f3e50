"""Importing packages that do not import by themselves beside a CPU build of torch.

The torchvision on PyPI is built for CUDA; beside a CPU build of torch ``import torchvision`` fails, and
with it timm, whose models need nothing of what fails. A plug-in that uses them imports them here::

    timm = rdvfi.compat.import_timm()
"""

import importlib
from types import ModuleType

from rdvfi._torchvision import import_torchvision

__all__ = ["import_timm", "import_torchvision"]


def import_timm() -> ModuleType:
    """Import timm, wherever torch was built for.

    Raises:
        ModuleNotFoundError: If timm is not installed.
    """
    try:
        import_torchvision()
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        # Without torchvision timm says itself what it lacks.
    return importlib.import_module("timm")
