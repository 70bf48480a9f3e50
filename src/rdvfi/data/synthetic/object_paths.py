"""Parametric motion of a layer: a similarity path, and a wave that deforms the layer.

A similarity path takes a point ``p`` of the frame at time 0 to

    M(t) p = c + s^u R(theta u) (p - c) + d u + b 4 t (1 - t),    u = t + a t (1 - t)

about a pivot ``c``: a turn by ``theta``, an exponential zoom by ``s``, a shift ``d``, and a bow ``b``
that leaves both ends alone; ``a`` makes its timing uneven. A turn, a zoom or a shift alone, with
``a = 0`` and ``b = 0``, is **determined** by the two end frames: the matrix between them has one
natural power ``t``. Turns mixed with a shift are so nearly, bows and accelerations not at all.

A wave displaces the points of a layer by ``g(t) D(p)``,

    D(p) = sum_m a_m sin(k_m . p + phi_m),    g(t) = c t + s (sin(2 pi r t + q) - sin q)

and is kept so gentle that ``p -> p + g D(p)`` is a contraction away from the identity
(`STEEPNESS`): it never folds. `rdvfi.data.synthetic.layer_motion` evaluates both on tensors.
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
        """Matrix from positions at time 0 to positions at time ``t``."""
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

    def moved(self, point: Point, t: float) -> Point:
        """Where a point of time 0 is at time ``t``."""
        x, y, _ = self.at(t) @ np.array([*point, 1.0])
        return float(x), float(y)

    def origin(self, point: Point, t: float) -> Point:
        """Position at time 0 of the point that is at ``point`` at time ``t``."""
        x, y, _ = np.linalg.solve(self.at(t), np.array([*point, 1.0]))
        return float(x), float(y)

    def row(self) -> tuple[float, ...]:
        """Its numbers, the zoom as a logarithm; see `PATH_NUMBERS`."""
        return (*self.pivot, self.angle, log(self.zoom), *self.shift, *self.bow, self.acceleration)


PATH_NUMBERS = 9
STATIC = LayerPath()
"""No motion."""


@dataclass(frozen=True)
class Wave:
    """A smooth bending of one layer; lengths in pixels. None by default.

    Attributes:
        modes: One row ``(ax, ay, kx, ky, phi)`` for each sine.
        linear: ``c`` of the time law.
        swing: ``s`` of the time law.
        rate: Oscillations between the ends, ``r``.
        phase: ``q`` of the time law.
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

    def law(self) -> tuple[float, float, float, float]:
        """The numbers of ``g``, frequency as an angle: ``(c, s, 2 pi r, q)``."""
        return (self.linear, self.swing, 2.0 * pi * self.rate, self.phase)


FLAT = Wave()


def turning_path(centre: Point, angle: float, displacement: float, direction: float) -> LayerPath:
    """A turn by ``angle`` about the far point that moves ``centre`` by ``displacement`` pixels.

    The pivot lies at ``displacement / (2 sin(angle / 2))`` from the centre, towards ``direction``
    (radians).
    """
    radius = displacement / (2.0 * abs(sin(angle / 2.0)))
    pivot = (centre[0] + radius * cos(direction), centre[1] + radius * sin(direction))
    return LayerPath(pivot=pivot, angle=angle)


def background_path(rng: np.random.Generator, size: tuple[int, int]) -> LayerPath:
    """The gentle motion of a background: a few degrees, per cent and pixels."""
    h, w = size
    return LayerPath(
        pivot=(w / 2, h / 2),
        angle=radians(rng.normal(0.0, 1.5)),
        zoom=exp(rng.normal(0.0, 0.03)),
        shift=(rng.normal(0.0, 0.03 * w), rng.normal(0.0, 0.03 * w)),
    )
