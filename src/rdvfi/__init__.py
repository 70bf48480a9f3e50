"""Video frame interpolation by one-step diffusion.

Diffusion decides the motion, warping draws the pixels::

    model = rdvfi.create_model("rdvfi-s")
    frames = model(img0, img1, timesteps=[0.25, 0.5, 0.75])    # (B, T, 3, H, W)

Start reading at `rdvfi.interfaces`. Importing this package is light: video, Hydra and the large
model libraries are imported when something that needs them is used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from rdvfi import _typecheck

# Checks of every array annotation, on request. `_typecheck` itself is imported before the hook is
# there, since the hook calls it; the hook stays, because some modules are imported on first use.
if os.environ.get("RDVFI_TYPECHECK") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("rdvfi", f"{_typecheck.__name__}.typechecker")

# The built-in components register themselves.
from rdvfi import backbones as _backbones  # noqa: F401
from rdvfi import motion as _motion  # noqa: F401
from rdvfi import render as _render  # noqa: F401

# isort: split

# After the packages: the attribute `rdvfi.backbones` is the registry, as `rdvfi.flows` is. Modules of the
# package with the same name are reached by `from rdvfi.backbones.compact.generator import ...`.
from rdvfi.interfaces import (
    Basis,
    CoarseFlow,
    FlowEstimator,
    FlowGrid,
    KeyframeGenerator,
    Keyframes,
    Motion,
    MotionPrior,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model, list_models
from rdvfi.registry import backbones, bases, flows, renderers, trajectories

if TYPE_CHECKING:
    from rdvfi import compat as compat
    from rdvfi.config import build, build_from
    from rdvfi.converters import to_image, to_tensor
    from rdvfi.evaluation import evaluate
    from rdvfi.evaluation.model_sweep import sweep
    from rdvfi.motion.trajectory.plot import flow_colours
    from rdvfi.training.run import train
    from rdvfi.video import interpolate_frames, interpolate_many, interpolate_video

__version__ = "0.2.0"

__all__ = [
    "Basis",
    "CoarseFlow",
    "FlowEstimator",
    "FlowGrid",
    "Interpolator",
    "KeyframeGenerator",
    "Keyframes",
    "Motion",
    "MotionPrior",
    "Reads",
    "Renderer",
    "Trajectory",
    "TrajectoryModel",
    "__version__",
    "backbones",
    "bases",
    "build",
    "build_from",
    "compat",
    "create_model",
    "evaluate",
    "flow_colours",
    "flows",
    "interpolate_frames",
    "interpolate_many",
    "interpolate_video",
    "list_models",
    "renderers",
    "sweep",
    "to_image",
    "to_tensor",
    "train",
    "trajectories",
]

_ON_FIRST_USE = {
    "build": "rdvfi.config",
    "build_from": "rdvfi.config",
    "evaluate": "rdvfi.evaluation",
    "flow_colours": "rdvfi.motion.trajectory.plot",
    "to_image": "rdvfi.converters",
    "to_tensor": "rdvfi.converters",
    "sweep": "rdvfi.evaluation.model_sweep",
    "train": "rdvfi.training.run",
    "interpolate_frames": "rdvfi.video",
    "interpolate_many": "rdvfi.video",
    "interpolate_video": "rdvfi.video",
}


def __getattr__(name: str) -> Any:
    if name == "compat":
        return importlib.import_module("rdvfi.compat")
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'rdvfi' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
