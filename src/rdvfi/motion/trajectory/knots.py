"""Kinds of interpolation between the knots of a trajectory, and loading saved trajectories.

All kinds start from the same flow fields at the knots and return flows on the TARGET grid; they differ in the quantity
that is interpolated in time (`Knots`).
"""

import json
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor

from rdvfi.interfaces import Basis, FlowGrid
from rdvfi.motion.trajectory.flow_fields import Fields, KnotTrajectory
from rdvfi.motion.trajectory.flow_reversal import SourceKnotTrajectory
from rdvfi.motion.trajectory.point_following import MAX_REACH, MovedKnotTrajectory
from rdvfi.registry import Replaced, bases, create_from_spec


class Knots(Enum):
    """The quantity that a basis interpolates in time between the knots."""

    FIXED = "fixed"
    """The flow at a fixed pixel: `rdvfi.motion.trajectory.flow_fields`."""
    MOVED = "moved"
    """The paths of the points of both neighbouring knots: `rdvfi.motion.trajectory.point_following`."""
    SOURCE = "source"
    """The paths of the pixels of both end frames: `rdvfi.motion.trajectory.flow_reversal`."""


KNOTS_BEFORE = {"moved": Replaced("knots", ((True, "MOVED"), (False, "FIXED")))}
"""The parameter that ``knots`` replaced: models saved by early versions have it."""

_KINDS = {Knots.FIXED: KnotTrajectory, Knots.MOVED: MovedKnotTrajectory, Knots.SOURCE: SourceKnotTrajectory}


def basis_reach(knots: Knots) -> int | None:
    """Largest reach of a basis with this kind: `rdvfi.interfaces.TrajectoryModel.basis_reach`."""
    return MAX_REACH if knots is Knots.MOVED else None


def trajectory_over(knots: Knots, fields: tuple[Fields, Fields], times: Tensor, basis: Basis) -> KnotTrajectory:
    """The trajectory of this kind over flows to the first and to the last frame at ``times``."""
    made = _KINDS[knots](*fields, times, basis)
    # On a CPU preparation is deferred until a time between knots is requested. On other devices it is done now,
    # since a captured graph of the renderer would repeat it at every replay.
    return made.prepared() if torch.compiler.is_compiling() or times.device.type != "cpu" else made


def load_trajectory(path: str | Path) -> KnotTrajectory:
    """Read a trajectory that was saved; raises ValueError if the file is not a saved trajectory."""
    from safetensors import SafetensorError, safe_open

    kinds = {kind.__name__: kind for kind in _KINDS.values()}
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("kind") not in kinds:
        raise ValueError(f"{path} holds {metadata.get('kind')!r}; expected a saved trajectory, one of {sorted(kinds)}")
    try:
        basis = create_from_spec(bases, json.loads(metadata["basis"]))
        fields = (tensors["from_first"], tensors["from_last"], tensors["knots"])
        return kinds[metadata["kind"]](*fields, basis, FlowGrid(metadata["grid"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is a damaged trajectory: {error}") from error
