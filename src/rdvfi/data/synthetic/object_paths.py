"""Parametric motion of a layer: a similarity path, and a wave that deforms the layer.

A similarity path maps a point ``p`` of the frame at time 0 to

    M(t) p = c + s^u R(theta u) (p - c) + d u + b 4 t (1 - t),    u = t + a t (1 - t)

with a pivot ``c``, a rotation by ``theta``, an exponential zoom by ``s``, a shift ``d``, a bow ``b``
that does not change the ends, and an acceleration ``a``. A rotation, a zoom or a shift alone, with
``a = 0`` and ``b = 0``, is **determined** by the two end frames: the end-to-end matrix has one
natural power ``t``. A rotation with a shift is nearly determined; bows and accelerations are not.

A wave displaces the points of a layer by ``g(t) D(p)``,

    D(p) = sum_m a_m sin(k_m . p + phi_m),    g(t) = c t + s (sin(2 pi r t + q) - sin q)

with a Lipschitz constant of at most `STEEPNESS`, so that ``p -> p + g D(p)`` is invertible and the layer
never folds. `rdvfi.data.synthetic.layer_motion` evaluates both on tensors.
"""

from dataclasses import dataclass
from math import cos, exp, hypot, log, pi, radians, sin

import numpy as np
from jaxtyping import Float

Similarity = Float[np.ndarray, "3 3"]
Point = tuple[float, float]
"""``(x, y)`` in pixels of the frame."""

STEEPNESS = 0.25
"""Largest Lipschitz constant of ``g(t) D``."""


@dataclass(frozen=True)
class LayerPath:
    """A similarity path; lengths in pixels of the frame, angle in radians. Static by default."""

    pivot: Point = (0.0, 0.0)
    angle: float = 0.0
    zoom: float = 1.0
    shift: Point = (0.0, 0.0)
    bow: Point = (0.0, 0.0)
    acceleration: float = 0.0

    def at(self, t: float) -> Similarity:
        """Matrix that maps positions at time 0 to positions at time ``t``."""
        lift = t * (1.0 - t)
        u = t + self.acceleration * lift
        scale, turn = exp(log(self.zoom) * u), self.angle * u
        a, b = scale * cos(turn), scale * sin(turn)
        cx, cy = self.pivot
        return np.array(
            [
                [a, -b, cx - a * cx + b * cy + self.shift[0] * u + 4.0 * self.bow[0] * lift],
                [b, a, cy - b * cx - a * cy + self.shift[1] * u + 4.0 * self.bow[1] * lift],
                [0.0, 0.0, 1.0],
            ]
        )

    def position_at(self, point: Point, t: float) -> Point:
        """Position at time ``t`` of the point that is at ``point`` at time 0."""
        x, y, _ = self.at(t) @ np.array([*point, 1.0])
        return float(x), float(y)

    def start_position(self, point: Point, t: float) -> Point:
        """Position at time 0 of the point that is at ``point`` at time ``t``."""
        x, y, _ = np.linalg.solve(self.at(t), np.array([*point, 1.0]))
        return float(x), float(y)

    def parameters(self) -> tuple[float, ...]:
        """All `PATH_PARAMETERS` numbers, the zoom as a logarithm."""
        return (*self.pivot, self.angle, log(self.zoom), *self.shift, *self.bow, self.acceleration)


PATH_PARAMETERS = 9
STATIC = LayerPath()
"""No motion."""


@dataclass(frozen=True)
class Wave:
    """A smooth deformation of one layer; lengths in pixels. No deformation by default.

    ``modes`` has a row ``(ax, ay, kx, ky, phi)`` per sine; the other fields are ``c``, ``s``, ``r``, ``q`` of ``g``.
    """

    modes: tuple[tuple[float, float, float, float, float], ...] = ()
    linear: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0

    def steepness(self) -> float:
        """A bound on the Lipschitz constant of ``g(t) D`` for times in [-0.1, 1.1]."""
        height = 1.1 * abs(self.linear) + 2.0 * abs(self.swing)
        return height * sum(hypot(m[0], m[1]) * hypot(m[2], m[3]) for m in self.modes)

    def time_law(self) -> tuple[float, float, float, float]:
        """The parameters ``(c, s, 2 pi r, q)`` of ``g``."""
        return (self.linear, self.swing, 2.0 * pi * self.rate, self.phase)


NO_WAVE = Wave()
"""No deformation."""


def turning_path(centre: Point, angle: float, displacement: float, direction: float) -> LayerPath:
    """A rotation by ``angle`` radians that moves ``centre`` by ``displacement`` pixels.

    The pivot is at the distance ``displacement / (2 sin(angle / 2))`` from the centre, in ``direction``
    (radians).
    """
    radius = displacement / (2.0 * abs(sin(angle / 2.0)))
    pivot = (centre[0] + radius * cos(direction), centre[1] + radius * sin(direction))
    return LayerPath(pivot=pivot, angle=angle)


def background_path(rng: np.random.Generator, size: tuple[int, int]) -> LayerPath:
    """A small random motion of a background: a few degrees, per cent and pixels."""
    h, w = size
    return LayerPath(
        pivot=(w / 2, h / 2),
        angle=radians(rng.normal(0.0, 1.5)),
        zoom=exp(rng.normal(0.0, 0.03)),
        shift=(rng.normal(0.0, 0.03 * w), rng.normal(0.0, 0.03 * w)),
    )
