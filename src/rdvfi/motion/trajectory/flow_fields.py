"""Flow fields F_k at the knots, and a basis between them: the simplest trajectory.

With ``W`` the basis' matrix (`rdvfi.interfaces.Basis`) the flow of time tau is

    F_tau(y) = sum_k W[tau, k] F_k(y):

each field is interpolated in time at a fixed pixel y of the TARGET grid. That is exact only while the same surface is
visible at the pixel: otherwise different surfaces are mixed between knots, and an object that moves by more than its
own size from knot to knot leaves ghosts. `rdvfi.motion.trajectory.point_following` and
`rdvfi.motion.trajectory.flow_reversal` follow the points instead, from the same fields.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import Basis, FlowGrid, Trajectory
from rdvfi.registry import spec_of
from rdvfi.types import Flow, Flows, Times, short_repr

Fields = Float[Tensor, "b k 2 h w"]
T = TypeVar("T")


@dataclass(eq=False)
class Once(Generic[T]):
    """A value that is computed on first use and cached, as a field of a frozen dataclass.

    `functools.cached_property` is no alternative, since it holds a lock, which compiled graphs do not support.
    """

    value: T | None = None

    def get(self, compute: Callable[[], T]) -> T:
        """The value, computed if it is not there yet."""
        if self.value is None:
            self.value = compute()
        return self.value


def check_reach(basis: Basis, count: int, allowed: int) -> None:
    """Check that the basis gives weight to no knot that is more than ``allowed`` knots away.

    Raises:
        ValueError: If it may.
    """
    used = len(basis.used(count))
    reach = used - 1 if basis.reach is None else min(basis.reach, used - 1)
    if reach > allowed:
        raise ValueError(
            f"{type(basis).__name__} may use knots {reach} away (its reach is {basis.reach}), and "
            f"moved knots follow points over {allowed} steps; use knots=SOURCE or knots=FIXED, or "
            f"a basis whose reach is at most {allowed}"
        )


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

    __repr__ = short_repr

    def at(self, times: Times) -> tuple[Flows, Flows]:
        """Flows to both ends at each time: the fields, weighted by the basis."""
        weights = self.basis.weights(self.knots, times.to(self.knots))
        # Autocast would make a product of half precision, and flows are float32 always.
        with torch.autocast(weights.device.type, enabled=False):
            return (
                torch.einsum("tk,bkchw->btchw", weights, self.from_first),
                torch.einsum("tk,bkchw->btchw", weights, self.from_last),
            )

    def across(self, like: Times) -> tuple[Flow, Flow]:
        """The fields at the first and at the last knot: every basis uses both."""
        return self.from_last[:, 0], self.from_first[:, -1]

    def prepared(self) -> "KnotTrajectory":
        """The same trajectory, after computing everything that does not depend on time."""
        return self

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
        from rdvfi.motion.trajectory.plot import plot_trajectory

        plot_trajectory(self, Path(path), times)
