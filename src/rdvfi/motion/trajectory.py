"""Trajectories over knots: known flow fields at a few times, a basis between them.

Both live on the TARGET grid. `KnotTrajectory` interpolates each field in time at a fixed pixel.
That is exact in time only while the same surface stays under the pixel: between knots it mixes
neighbouring surfaces, and an object that moves by more than its own size from knot to knot leaves
ghosts. `MovedKnotTrajectory` follows the points instead (**motion-moved knots**): the basis
interpolates the *path* of a point, and each pixel looks up the point that is there at that time.

Let ``p_j`` be the position at knot j of the point that is at ``y_i`` at knot i. Its position at tau
is ``y_i + d_i(y_i)`` with ``d_i = sum_j W[tau, j] (p_j - p_i)`` by the basis. The point seen at
pixel y solves ``y_i = y - d_i(y_i)``, a fixed point, and the flow is ``(y_i - y) + F_i(y_i)``. Near
the edge of a moving object there are two solutions, the object and what it covers, and the
iteration finds the one that it starts close to. So it is run from both neighbouring knots and from
two guesses each, the motion found at y at that knot and at the other one. Solutions count by
nearness in time, less by the pixels by which they miss y, and less by the two-way error of the step
between the knots there: a surface that is covered at one of them has no partner. A time on a knot
returns that knot.

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
        # Autocast would make a product of half precision, and flows are float32 always.
        with torch.autocast(weights.device.type, enabled=False):
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
        partial = Path(path).with_name(Path(path).name + ".partial")
        save_file(tensors, partial, metadata=metadata)
        partial.replace(path)

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
        times = times.to(self.knots)
        if bool(torch.isin(times, self.knots[self.basis.used(self.knots.numel())]).all()):
            return super().at(times)
        flows = self._steps.at(times, self.basis)
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
        here = torch.arange(knots.numel() - 1, device=knots.device)
        self.ahead = self._shift(here, here + 1)
        self.behind = self._shift(here + 1, here)
        self.ahead_error = _two_way_error(self.ahead, self.behind)
        self.behind_error = _two_way_error(self.behind, self.ahead)

    def at(self, times: Float[Tensor, " t"], basis: Basis) -> Float[Tensor, "b t 4 h w"]:
        """Flows to both ends at each time, from the best solutions of the fixed point."""
        knots = self.knots
        left = torch.searchsorted(knots, times, right=True).sub(1).clamp(0, knots.numel() - 2)
        share = ((times - knots[left]) / (knots[left + 1] - knots[left]))[:, None, None, None]
        weights = basis.weights(knots, times)
        _check_reach(basis, weights, left)
        ahead, behind = self.ahead[:, left], self.behind[:, left]
        total, flows = 0.0, 0.0
        for knot, nearness, shift, error, other in (
            (left, 1.0 - share, self.onward(left, weights), self.ahead_error, share * behind),
            (
                left + 1,
                share,
                self.back(left + 1, weights),
                self.behind_error,
                (1.0 - share) * ahead,
            ),
        ):
            facts = torch.cat((self.fields[:, knot], shift, error[:, left]), dim=2)
            for guess in (-shift, other):
                found, trust = _solve(facts, guess)
                trust = nearness * (trust + 1e-6)
                total, flows = total + trust, flows + trust * found
        return flows / total

    def onward(self, left: Int[Tensor, " t"], weights: Float[Tensor, "t k"]) -> Flows:
        """Shift of points of the left knot until each time, by the basis on up to four knots."""
        at = left
        shift = self._share(weights, at + 1) * self.ahead[:, at]
        if self.ahead.shape[1] > 1:
            two = self._two(self.ahead, at.clamp(max=self.ahead.shape[1] - 2), 1)
            shift = shift + self._share(weights, at + 2) * two
            shift = shift + self._share(weights, at - 1) * self.behind[:, (at - 1).clamp(min=0)]
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
        return shift

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


def _solve(
    facts: Float[Tensor, "b t 7 h w"], guess: Flows
) -> tuple[Float[Tensor, "b t 4 h w"], Float[Tensor, "b t 1 h w"]]:
    """One solution of the fixed point: flows to both ends, and trust in it in (0, 1].

    ``facts`` are, on a knot's grid, the flows to both ends, the shift of its points until tau, and
    the two-way error of its step to the other knot.
    """
    b, t = guess.shape[:2]
    flat = facts.flatten(0, 1)
    back = guess.flatten(0, 1)
    for _ in range(2):
        back = -backward_warp(flat[:, 4:6], back)
    seen = backward_warp(flat, back)
    miss = torch.linalg.vector_norm(back + seen[:, 4:6], dim=1, keepdim=True)
    flows = seen[:, :4] + back.repeat(1, 2, 1, 1)
    return flows.unflatten(0, (b, t)), torch.exp(-miss - seen[:, 6:]).unflatten(0, (b, t))


def _check_reach(basis: Basis, weights: Float[Tensor, "t k"], left: Int[Tensor, " t"]) -> None:
    offset = torch.arange(weights.shape[1], device=left.device) - left[:, None]
    if bool((((offset < -1) | (offset > 2)) & (weights != 0.0)).any()):
        raise ValueError(
            f"{type(basis).__name__} looks at knots beyond the next but one, and moved knots "
            "follow points over two steps; use moved=False"
        )


def _two_way_error(there: Fields, back: Fields) -> Float[Tensor, "b k 1 h w"]:
    """How far from home a point ends that goes one step and returns."""
    b, k = there.shape[:2]
    returned = backward_warp(back.flatten(0, 1), there.flatten(0, 1)).unflatten(0, (b, k))
    return torch.linalg.vector_norm(there + returned, dim=2, keepdim=True)


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
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("kind") not in _KINDS:
        raise ValueError(
            f"{path} holds {metadata.get('kind')!r}; expected a saved trajectory, one of "
            f"{sorted(_KINDS)}"
        )
    try:
        basis = create_from_spec(bases, json.loads(metadata["basis"]))
        fields = (tensors["from_first"], tensors["from_last"], tensors["knots"])
        return _KINDS[metadata["kind"]](*fields, basis, FlowGrid(metadata["grid"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is a damaged trajectory: {error}") from error
