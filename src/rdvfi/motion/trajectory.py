"""Trajectories over knots: known flow fields at a few times, a basis between them.

Both live on the TARGET grid. `KnotTrajectory` interpolates each field in time at a fixed pixel. That
is exact in time only while the same surface stays under the pixel: between knots it mixes
neighbouring surfaces, and an object that moves by more than its own size from knot to knot leaves
ghosts. `MovedKnotTrajectory` follows the points instead (**motion-moved knots**): the basis
interpolates the *path* of a point, and each pixel looks up the point that is there at that time.

Let ``p_j`` be the position at knot j of the point that is at ``y_i`` at knot i. Its position at tau is
``y_i + d_i(y_i)`` with ``d_i = sum_j W[tau, j] (p_j - p_i)`` by the basis. The point seen at pixel y
solves ``y_i = y - d_i(y_i)``, a fixed point, and the flow is ``(y_i - y) + F_i(y_i)``. This is done
from both neighbouring knots, joined with linear weights, so a time on a knot returns that knot.

Steps between neighbouring knots follow from the fields alone: see `rdvfi.ops.warp.follow`.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.interfaces import Basis, FlowGrid, Trajectory
from rdvfi.ops.warp import backward_warp, follow
from rdvfi.registry import bases, create_from_spec, spec_of
from rdvfi.types import Flows, Times

Fields = Float[Tensor, "b k 2 h w"]


@dataclass(frozen=True, eq=False)
class KnotTrajectory(Trajectory):
    """Flow fields to both ends at knots, interpolated at fixed pixels."""

    from_first: Fields
    """Flows to the first frame; zero at the first knot."""
    from_last: Fields
    """Flows to the last frame; zero at the last knot."""
    knots: Float[Tensor, " k"]
    basis: Basis
    grid: FlowGrid = FlowGrid.TARGET

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """See `rdvfi.interfaces.Trajectory.at`."""
        weights = self.basis.weights(self.knots, times.to(self.knots))
        return (
            torch.einsum("tk,bkchw->btchw", weights, self.from_first),
            torch.einsum("tk,bkchw->btchw", weights, self.from_last),
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file; `load_trajectory` reads it back, bit for bit."""
        from safetensors.torch import save_file

        tensors = {
            "from_first": self.from_first.contiguous(),
            "from_last": self.from_last.contiguous(),
            "knots": self.knots.contiguous(),
        }
        basis = json.dumps(spec_of(self.basis))
        metadata = {"kind": type(self).__name__, "grid": self.grid.value, "basis": basis}
        save_file(tensors, str(path), metadata=metadata)

    def plot(self, path: str | Path, *, times: tuple[float, ...] = (0.25, 0.5, 0.75)) -> None:
        """Draw the flows at some times as a picture file: colour is direction, strength is length.

        Needs matplotlib (the ``plot`` extra).
        """
        from rdvfi.motion.plot import plot_trajectory

        plot_trajectory(self, Path(path), times)


@dataclass(frozen=True, eq=False)
class MovedKnotTrajectory(KnotTrajectory):
    """Flow fields to both ends at knots, interpolated along the paths of the points."""

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """See `rdvfi.interfaces.Trajectory.at`."""
        steps = self._steps
        knots, times = steps.knots, times.to(self.knots)
        last = knots.numel() - 1
        left = torch.searchsorted(knots, times, right=True).sub(1).clamp(0, last - 1)
        share = ((times - knots[left]) / (knots[left + 1] - knots[left]))[:, None, None, None]
        weights = self.basis.weights(knots, times)
        from_left = steps.flows_from(left, steps.onward(left, weights))
        from_right = steps.flows_from(left + 1, steps.back(left + 1, weights))
        flows = torch.lerp(from_left, from_right, share)
        return flows[:, :, :2], flows[:, :, 2:]

    @cached_property
    def _steps(self) -> "_Steps":
        used = self.basis.used(self.knots.numel())
        both = torch.cat((self.from_first, self.from_last), dim=2)
        return _Steps(both[:, used], self.knots[used])


class _Steps:
    """Shifts of points between knots one and two apart, found from the fields."""

    def __init__(self, fields: Float[Tensor, "b k 4 h w"], knots: Float[Tensor, " k"]) -> None:
        self.fields, self.knots = fields, knots
        count = knots.numel()
        here = torch.arange(count - 1, device=knots.device)
        self.ahead = self._shift(here, here + 1)
        self.behind = self._shift(here + 1, here)

    def onward(self, left: Int[Tensor, " t"], weights: Float[Tensor, "t k"]) -> Flows:
        """Shift of points of the left knot until each time, by the basis on up to four knots."""
        at = left
        shift = self._share(weights, at + 1) * self.ahead[:, at]
        if self.ahead.shape[1] > 1:
            two = self._two(self.ahead, at.clamp(max=self.ahead.shape[1] - 2), 1)
            shift = shift + self._share(weights, at + 2) * two
            shift = shift + self._share(weights, at - 1) * self.behind[:, (at - 1).clamp(min=0)]
            two = self._two(self.behind, (at - 1).clamp(min=1), -1)
            shift = shift + self._share(weights, at - 2) * two
        return shift

    def back(self, right: Int[Tensor, " t"], weights: Float[Tensor, "t k"]) -> Flows:
        """Shift of points of the right knot until each time."""
        at = right
        shift = self._share(weights, at - 1) * self.behind[:, at - 1]
        if self.behind.shape[1] > 1:
            two = self._two(self.behind, (at - 1).clamp(min=1), -1)
            shift = shift + self._share(weights, at - 2) * two
            ahead = self.ahead[:, at.clamp(max=self.ahead.shape[1] - 1)]
            shift = shift + self._share(weights, at + 1) * ahead
            two = self._two(self.ahead, at.clamp(max=self.ahead.shape[1] - 2), 1)
            shift = shift + self._share(weights, at + 2) * two
        return shift

    def flows_from(self, knot: Int[Tensor, " t"], shift: Flows) -> Float[Tensor, "b t 4 h w"]:
        """Flows to both ends, by looking up the points of a knot where ``shift`` takes them."""
        b, t = shift.shape[:2]
        flat = shift.flatten(0, 1)
        back = -flat
        for _ in range(2):
            back = -backward_warp(flat, back)
        fields = backward_warp(self.fields[:, knot].flatten(0, 1), back)
        return (fields + back.repeat(1, 2, 1, 1)).unflatten(0, (b, t))

    def _shift(self, start: Int[Tensor, " n"], end: Int[Tensor, " n"]) -> Flows:
        """Shift of the points of knots ``start`` until knots ``end``."""
        here, there = self.fields[:, start], self.fields[:, end]
        return follow(
            (here[:, :, :2], here[:, :, 2:]),
            (there[:, :, :2], there[:, :, 2:]),
            self.knots[start],
            self.knots[end],
        )

    def _two(
        self, single: Float[Tensor, "b s 2 h w"], index: Int[Tensor, " t"], direction: int
    ) -> Flows:
        """Shift over two intervals: one, and from where it leads the next."""
        first, second = single[:, index], single[:, (index + direction).clamp(min=0)]
        b, t = first.shape[:2]
        carried = backward_warp(second.flatten(0, 1), first.flatten(0, 1)).unflatten(0, (b, t))
        return first + carried

    def _share(self, weights: Float[Tensor, "t k"], knot: Int[Tensor, " t"]) -> Tensor:
        """The basis' weight of each time's knot; zero for knots that do not exist."""
        count = weights.shape[1]
        inside = (knot >= 0) & (knot < count)
        rows = torch.arange(weights.shape[0], device=weights.device)
        values = weights[rows, knot.clamp(0, count - 1)] * inside
        return values[:, None, None, None]


_KINDS = {kind.__name__: kind for kind in (KnotTrajectory, MovedKnotTrajectory)}


def load_trajectory(path: str | Path) -> KnotTrajectory:
    """Read a trajectory that was saved.

    Raises:
        ValueError: If the file is not a saved trajectory.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("kind") not in _KINDS:
        raise ValueError(
            f"{path} holds {metadata.get('kind')!r}; expected a saved trajectory, one of "
            f"{sorted(_KINDS)}"
        )
    basis = create_from_spec(bases, json.loads(metadata["basis"]))
    return _KINDS[metadata["kind"]](
        tensors["from_first"],
        tensors["from_last"],
        tensors["knots"],
        basis,
        FlowGrid(metadata["grid"]),
    )
