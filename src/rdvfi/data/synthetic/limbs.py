"""Limbs of two links: a patch that turns about a joint which itself turns.

The upper link turns evenly about a shoulder that rests; the lower one turns evenly about the elbow,
in the coordinates of time 0, and the upper one carries it along (`Layer.joint`):

    x(t) = A(t) F(t) p,    A(t) = A(1)^t,    F(t) = F(1)^t

So each link's turn **against what it hangs on** is the one natural power of what the end frames
show, and they determine every path once it is seen that the links hang together. The lower link for
itself does not go round one centre: the power of its own end-to-end matrix is another path, which
tears the elbow apart, and the straight line is a third.

Links are capsules, that is all points within a radius of the axis, their edges a pixel wide.
"""

from dataclasses import dataclass, replace
from math import cos, hypot, pi, radians, sin

import numpy as np
from jaxtyping import Float, UInt8

from rdvfi.data.synthetic.procedural import (
    STILL,
    Layer,
    Path,
    Picture,
    Scene,
    crop,
    sheet,
    still_path,
)

DISPLACEMENT = (60.0, 160.0)
"""How far the middle of the lower link moves between the ends, in pixels of a frame 448 wide."""
NEAR = 5.0
"""How near to the displacement that was drawn a limb must come, in pixels."""
UPPER_TURN, LOWER_TURN = (20.0, 70.0), (20.0, 80.0)
"""Turns of both links, each against what it hangs on, in degrees."""
WHOLE_TURN = 90.0
"""Largest turn of the lower link against the frame, in degrees."""
OPEN = 120.0
"""The elbow is never bent further than this, in degrees: links do not hide each other."""


@dataclass(frozen=True)
class Limb:
    """A limb in numbers; lengths in pixels, angles in radians.

    Attributes:
        shoulder: Where the upper link hangs.
        lengths: From shoulder to elbow, and from elbow to tip.
        radii: Half the width of each link.
        heading: Direction of the upper link at time 0.
        bend: Direction of the lower link at time 0, against the upper one.
        turns: Turn of each link between the ends, against what it hangs on.
    """

    shoulder: tuple[float, float]
    lengths: tuple[float, float]
    radii: tuple[float, float]
    heading: float
    bend: float
    turns: tuple[float, float]

    @property
    def elbow(self) -> tuple[float, float]:
        """The joint between the links, at time 0."""
        return _along(self.shoulder, self.lengths[0], self.heading)

    @property
    def tip(self) -> tuple[float, float]:
        """The free end, at time 0."""
        return _along(self.elbow, self.lengths[1], self.heading + self.bend)

    @property
    def upper(self) -> Path:
        """Path of the upper link, which is the joint of the lower one."""
        return Path(pivot=self.shoulder, angle=self.turns[0])

    @property
    def lower(self) -> Path:
        """Path of the lower link in what hangs on the upper one."""
        return Path(pivot=self.elbow, angle=self.turns[1])

    def points(self, t: float) -> Float[np.ndarray, "3 2"]:
        """Shoulder, elbow and tip at time ``t``."""
        upper = self.upper.at(t)
        whole = upper @ self.lower.at(t)
        ends = (self.shoulder, self.elbow, self.tip)
        moved = [m @ np.array([*p, 1.0]) for m, p in zip((upper, upper, whole), ends, strict=True)]
        return np.stack(moved)[:, :2]

    def displacement(self) -> float:
        """How far the middle of the lower link moves between the ends."""
        first, last = (self.points(t)[1:].mean(0) for t in (0.0, 1.0))
        return float(np.linalg.norm(last - first))

    def folds(self) -> bool:
        """Whether a turn is too large to be seen from the ends, or links hide each other."""
        bends = (self.bend, self.bend + self.turns[1])
        return abs(sum(self.turns)) > radians(WHOLE_TURN) or max(map(abs, bends)) > radians(OPEN)


def draw_limb(rng: np.random.Generator, size: tuple[int, int]) -> Limb:
    """A random limb that moves far, stays in the frame of ``size = (h, w)``, and does not fold."""
    h, w = size
    low, high = (bound * w / 448.0 for bound in DISPLACEMENT)
    far = rng.uniform(low + NEAR, high - NEAR)
    while True:
        limb = _some_limb(rng, h)
        if limb.folds() or abs(limb.displacement() - far) > NEAR:
            continue
        places = np.concatenate([limb.points(t) for t in np.linspace(0.0, 1.0, 9)])
        margin = max(limb.radii)
        least = margin - places.min(0)
        most = np.array([w, h]) - 1.0 - margin - places.max(0)
        if (least <= most).all():
            x, y = rng.uniform(least, most)
            return replace(limb, shoulder=(x, y))


def _some_limb(rng: np.random.Generator, h: int) -> Limb:
    """A limb whose shoulder is at the origin."""
    lengths = rng.uniform(0.28, 0.45, 2) * h
    radius = rng.uniform(0.11, 0.15) * h
    turns = [radians(rng.uniform(*r)) * rng.choice([-1, 1]) for r in (UPPER_TURN, LOWER_TURN)]
    return Limb(
        shoulder=(0.0, 0.0),
        lengths=(lengths[0], lengths[1]),
        radii=(radius, 0.85 * radius),
        heading=rng.uniform(0.0, 2.0 * pi),
        bend=radians(rng.uniform(-OPEN, OPEN)),
        turns=(float(turns[0]), float(turns[1])),
    )


def limb_scene(seed: int, pictures: list[Picture], *, size: tuple[int, int] = (256, 448)) -> Scene:
    """A held-out scene: a limb over a background that hardly moves, determined by its end frames.

    The middle of the lower link moves by 60 to 160 px (at 448 pixels of width).
    """
    rng = np.random.default_rng([seed, 20_27])
    back = sheet(rng, pictures, size, still_path(rng, size))
    limb = draw_limb(rng, size)
    ends = (limb.shoulder, limb.elbow, limb.tip)
    upper = _link(rng, pictures, ends[:2], limb.radii[0], limb.upper)
    lower = _link(rng, pictures, ends[1:], limb.radii[1], limb.lower, joint=limb.upper)
    return Scene((back, upper, lower), size)


def _link(
    rng: np.random.Generator,
    pictures: list[Picture],
    ends: tuple[tuple[float, float], ...],
    radius: float,
    path: Path,
    joint: Path = STILL,
) -> Layer:
    """A capsule between two points of the frame at time 0, in a square texture about its middle."""
    (x0, y0), (x1, y1) = ends
    half = (0.5 * (x1 - x0), 0.5 * (y1 - y0))
    side = 2 * int(hypot(*half) + radius + 2.0) + 1  # with an empty border
    texture = crop(rng, pictures[rng.integers(len(pictures))], side, side)
    corner = 0.5 * (x0 + x1) - side // 2, 0.5 * (y0 + y1) - side // 2
    place = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]], [0.0, 0.0, 1.0]])
    return Layer(texture, _capsule(side, half, radius), place, path, joint)


def _capsule(side: int, half: tuple[float, float], radius: float) -> UInt8[np.ndarray, "s s"]:
    """Coverage of the pixels of a square by what is within ``radius`` of the axis at its middle."""
    line = np.arange(side) - side // 2
    x, y = line[None, :], line[:, None]
    share = np.clip((x * half[0] + y * half[1]) / hypot(*half) ** 2, -1.0, 1.0)
    distance = np.hypot(x - share * half[0], y - share * half[1])
    return np.rint(255.0 * np.clip(radius - distance + 0.5, 0.0, 1.0)).astype(np.uint8)


def _along(start: tuple[float, float], length: float, direction: float) -> tuple[float, float]:
    return start[0] + length * cos(direction), start[1] + length * sin(direction)
