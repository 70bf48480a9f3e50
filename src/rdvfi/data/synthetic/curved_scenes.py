"""Scenes whose large curved motion is determined by the two end frames: rotations, zooms, articulated limbs.

`curved_scene`: a large shape, or the whole frame, turns rigidly about a far point, or zooms, at
constant angular or logarithmic speed. The matrix between the ends has one natural power.

`limb_scene`: two links over a background that hardly moves. The upper link turns evenly about a
shoulder that rests; the lower one turns evenly about the elbow, in the coordinates of time 0, and
the upper one carries it along:

    x(t) = A(t) F(t) p,    A(t) = A(1)^t,    F(t) = F(1)^t

So each link's turn **against what it hangs on** is the one natural power of what the end frames
show, and they determine every path once it is seen that the links hang together. The lower link for
itself does not go round one centre: the power of its own end-to-end matrix is another path, which
tears the elbow apart, and the straight line is a third.

Every layer of a scene is of another picture; nothing is tiled.
"""

from dataclasses import dataclass, replace
from math import cos, exp, hypot, log, pi, radians, sin

import numpy as np
from jaxtyping import Float

from rdvfi.data.synthetic.object_paths import LayerPath, Point, background_path, turning_path
from rdvfi.data.synthetic.sampler import LayerPlan, ScenePlan, blob_matte
from rdvfi.data.synthetic.textures import Crop, Matte

DISPLACEMENT = (60.0, 160.0)
"""How far the middle of what moves goes between the ends, in pixels of a frame 448 wide."""
TURN, ZOOM = (35.0, 90.0), (1.3, 2.0)
"""Degrees of a turn, and factors of a zoom or its inverse."""
NEAR = 5.0
"""How near to the displacement that was drawn a limb must come, in pixels."""
UPPER_TURN, LOWER_TURN = (20.0, 70.0), (20.0, 80.0)
"""Turns of both links, each against what it hangs on, in degrees."""
WHOLE_TURN = 90.0
"""Largest turn of the lower link against the frame, in degrees."""
OPEN = 120.0
"""The elbow is never bent further than this, in degrees: links do not occlude each other."""
FINE = (0.4, 1.0)
"""Reduction of the pictures, of the largest possible, on a logarithmic scale."""
KINDS = ("shape", "frame", "shape", "zoom")
"""What moves in the scenes of `curved_scene`, in turn."""


def curved_scene(rng: np.random.Generator, size: tuple[int, int], pictures: int, kind: str) -> ScenePlan:
    """A scene of one of the `KINDS`; ``pictures`` are at least two."""
    h, w = size
    back, front = _crops(rng, pictures, 2)
    frame_middle = ((w - 1) / 2, (h - 1) / 2)
    middle = (rng.uniform(0.4, 0.6) * w, rng.uniform(0.4, 0.6) * h)
    if kind == "zoom":
        zoom = exp(rng.uniform(log(ZOOM[0]), log(ZOOM[1])) * rng.choice([-1.0, 1.0]))
        return ScenePlan((LayerPlan(back, LayerPath(pivot=middle, zoom=zoom), frame_middle),))
    angle = radians(rng.uniform(*TURN)) * rng.choice([-1.0, 1.0])
    displacement = rng.uniform(*DISPLACEMENT) * w / 448.0
    path = turning_path(middle, angle, displacement, rng.uniform(0.0, 2.0 * pi))
    if kind == "frame":
        return ScenePlan((LayerPlan(back, path, frame_middle),))
    side = rng.uniform(0.5, 0.8) * h
    ground = LayerPlan(back, background_path(rng, size), frame_middle)
    return ScenePlan((ground, LayerPlan(front, path, path.origin(middle, 0.5), blob_matte(rng, side))))


def limb_scene(rng: np.random.Generator, size: tuple[int, int], pictures: int) -> ScenePlan:
    """A limb over a background that hardly moves; ``pictures`` are at least three."""
    h, w = size
    back, *links = _crops(rng, pictures, 3)
    ground = LayerPlan(back, background_path(rng, size), ((w - 1) / 2, (h - 1) / 2))
    limb = draw_limb(rng, size)
    ends = ((limb.shoulder, limb.elbow), (limb.elbow, limb.tip))
    halves = [((b[0] - a[0]) / 2, (b[1] - a[1]) / 2) for a, b in ends]
    middles = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ends]
    mattes = [Matte(radius, axis=half) for radius, half in zip(limb.radii, halves, strict=True)]
    upper = LayerPlan(links[0], limb.upper, middles[0], mattes[0])
    return ScenePlan((ground, upper, LayerPlan(links[1], limb.lower, middles[1], mattes[1], joint=limb.upper)))


def _crops(rng: np.random.Generator, pictures: int, count: int) -> list[Crop]:
    """Windows of so many different pictures, their colours unchanged."""
    return [
        Crop(
            picture=int(picture),
            reduction=rng.uniform(*FINE),
            place=(rng.random(), rng.random()),
            mirrored=(bool(rng.random() < 0.5), False),
            gain=(1.0, 1.0, 1.0),
            gamma=1.0,
        )
        for picture in rng.permutation(pictures)[:count]
    ]


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

    shoulder: Point
    lengths: tuple[float, float]
    radii: tuple[float, float]
    heading: float
    bend: float
    turns: tuple[float, float]

    @property
    def elbow(self) -> Point:
        """The joint between the links, at time 0."""
        return _along(self.shoulder, self.lengths[0], self.heading)

    @property
    def tip(self) -> Point:
        """The free end, at time 0."""
        return _along(self.elbow, self.lengths[1], self.heading + self.bend)

    @property
    def upper(self) -> LayerPath:
        """Path of the upper link, which is the joint of the lower one."""
        return LayerPath(pivot=self.shoulder, angle=self.turns[0])

    @property
    def lower(self) -> LayerPath:
        """Path of the lower link, which is attached to the upper one."""
        return LayerPath(pivot=self.elbow, angle=self.turns[1])

    def points(self, t: float) -> Float[np.ndarray, "3 2"]:
        """Shoulder, elbow and tip at time ``t``."""
        tip = self.lower.moved(self.tip, t)
        return np.array([self.upper.moved(point, t) for point in (self.shoulder, self.elbow, tip)])

    def displacement(self) -> float:
        """How far the middle of the lower link moves between the ends."""
        first, last = (self.points(t)[1:].mean(0) for t in (0.0, 1.0))
        return hypot(*(last - first))

    def folds(self) -> bool:
        """Whether a turn is too large to be seen from the ends, or links occlude each other."""
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


def _along(start: Point, length: float, direction: float) -> Point:
    return start[0] + length * cos(direction), start[1] + length * sin(direction)
