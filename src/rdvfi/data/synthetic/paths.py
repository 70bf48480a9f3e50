"""Motion of many layers at once, in torch: rigid paths, joints and smooth waves.

A point of a layer is named by its place ``p`` in the frame at time 0. At time ``t`` it is at

    x(t) = J(t) M(t) (p + g(t) D(p)),    D(p) = sum_m a_m sin(k_m . p + phi_m)

``M`` is the path of `rdvfi.data.synthetic.procedural.Path` and ``J`` that of what the layer hangs on: a
forearm turns about the elbow, in the coordinates of time 0, and is then carried by the upper arm.
``D`` bends the layer; ``g(t) = c t + s (sin(2 pi r t + q) - sin q)`` is its law in time. Waves are
kept so gentle that ``p -> p + g D(p)`` is a contraction away from the identity (`STEEPNESS`): it
never folds, and its inverse is found by plain iteration to the precision of float32.

Paths are few numbers and are worked out in float64 on the CPU, so every device draws the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.synthetic.procedural import Path

STEEPNESS = 0.25
"""Largest Lipschitz constant of ``g(t) D``."""
INVERSE_STEPS = 12
"""Iterations of the inverse: what is left is 0.25^12, 6e-8, of the wave's height."""

Points = Float[Tensor, "b t 2 h w"]


def matrices(paths: Sequence[Path], times: Float[Tensor, "b t"]) -> Float[Tensor, "b t 3 3"]:
    """`Path.at` for a batch: matrices from positions at time 0 to those at each time, float64."""
    rows = [(*p.pivot, p.angle, log(p.zoom), *p.shift, *p.bow, p.acceleration) for p in paths]
    columns = torch.tensor(rows, dtype=torch.float64)[:, :, None].unbind(1)
    cx, cy, angle, zoom, sx, sy, bx, by, acceleration = columns
    t = times.double().cpu()
    lift = t * (1.0 - t)
    u = t + acceleration * lift
    a = (zoom * u).exp() * (angle * u).cos()
    b = (zoom * u).exp() * (angle * u).sin()
    x = cx - a * cx + b * cy + sx * u + 4.0 * bx * lift
    y = cy - b * cx - a * cy + sy * u + 4.0 * by * lift
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack((a, -b, x, b, a, y, zero, zero, one), -1).unflatten(-1, (3, 3))


@dataclass(frozen=True)
class Wave:
    """A smooth bending of one layer; lengths in pixels, none by default.

    Attributes:
        modes: One row ``(ax, ay, kx, ky, phi)`` for each sine.
        linear: ``c`` of the time law.
        swing: ``s`` of the time law.
        rate: Oscillations between the ends.
        phase: ``q`` of the time law.
    """

    modes: tuple[tuple[float, float, float, float, float], ...] = ()
    linear: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0

    def at(self, t: float) -> float:
        """The factor ``g(t)``."""
        turn = np.sin(2.0 * pi * self.rate * t + self.phase) - np.sin(self.phase)
        return self.linear * t + self.swing * float(turn)

    def steepness(self) -> float:
        """A bound on the Lipschitz constant of ``g(t) D`` for times in [-0.1, 1.1]."""
        height = 1.1 * abs(self.linear) + 2.0 * abs(self.swing)
        return height * sum(np.hypot(m[0], m[1]) * np.hypot(m[2], m[3]) for m in self.modes)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the points of one layer of every scene of a batch are, at the times asked for.

    Attributes:
        paths: One for each scene.
        joints: What the layers hang on, one for each scene.
        waves: One for each scene.
    """

    paths: Sequence[Path]
    joints: Sequence[Path]
    waves: Sequence[Wave]

    def __post_init__(self) -> None:
        steepest = max(wave.steepness() for wave in self.waves)
        if steepest > STEEPNESS * (1.0 + 1e-6):
            raise ValueError(f"a wave's steepness is {steepest:.3f}; at most {STEEPNESS} is allowed")

    def place(self, points: Points, times: Float[Tensor, "b t"]) -> Points:
        """Positions at ``times`` of points that are named by their place at time 0."""
        return _apply(self._matrices(times).to(points), points + self._bend(points, times))

    def origin(self, positions: Points, times: Float[Tensor, "b t"]) -> Points:
        """Places at time 0 of the points that are at ``positions`` at ``times``."""
        target = _apply(torch.linalg.inv(self._matrices(times)).to(positions), positions)
        bent = [i for i, wave in enumerate(self.waves) if wave.modes]
        if not bent:
            return target
        some = Motion(
            [self.paths[i] for i in bent],
            [self.joints[i] for i in bent],
            [self.waves[i] for i in bent],
        )
        rows = torch.tensor(bent, device=positions.device)
        points = target[rows]
        for _ in range(INVERSE_STEPS):
            points = target[rows] - some._bend(points, times[bent])
        return target.index_copy(0, rows, points)

    def _matrices(self, times: Float[Tensor, "b t"]) -> Float[Tensor, "b t 3 3"]:
        return matrices(self.joints, times) @ matrices(self.paths, times)

    def _bend(self, points: Points, times: Float[Tensor, "b t"]) -> Points | float:
        """``g(t) D(p)``."""
        count = max(len(wave.modes) for wave in self.waves)
        if count == 0:
            return 0.0
        still = (0.0,) * 5
        rows = [w.modes + (still,) * (count - len(w.modes)) for w in self.waves]
        modes = torch.tensor(rows, dtype=torch.float32).to(points)[:, :, :, None, None, None]
        moments = times.double().tolist()
        laws = [[w.at(t) for t in row] for w, row in zip(self.waves, moments, strict=True)]
        total = torch.zeros_like(points)
        for m in range(count):
            ax, ay, kx, ky, phi = modes[:, m].unbind(1)
            wave = (kx * points[:, :, 0] + ky * points[:, :, 1] + phi).sin()
            total += torch.stack((ax * wave, ay * wave), dim=2)
        return total * torch.tensor(laws, dtype=torch.float32).to(points)[:, :, None, None, None]


def _apply(matrix: Float[Tensor, "b t 3 3"], points: Points) -> Points:
    m = matrix[..., None, None]
    x, y = points.unbind(2)
    return torch.stack(
        (
            m[:, :, 0, 0] * x + m[:, :, 0, 1] * y + m[:, :, 0, 2],
            m[:, :, 1, 0] * x + m[:, :, 1, 1] * y + m[:, :, 1, 2],
        ),
        dim=2,
    )
