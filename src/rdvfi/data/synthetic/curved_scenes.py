"""Scenes whose large curved motion is determined by the two end frames: rotations, zooms, articulated limbs.

`curved_scene`: a large shape, or the whole frame, rotates about a far point at constant angular speed, or
zooms at constant logarithmic speed. The natural power of the end-to-end matrix gives every path.

`limb_scene`: two links over an almost static background. The upper link rotates at constant speed about a
static shoulder. The lower link rotates at constant speed about the elbow, in the coordinates of time 0, and
moves with the upper link:

    x(t) = A(t) F(t) p,    A(t) = A(1)^t,    F(t) = F(1)^t

The end frames determine every path if the links are known to be connected: the rotation of each link
**relative to its parent** is a natural power of its end-to-end matrix. The lower link alone has no fixed
centre of rotation: the power of its own end-to-end matrix is a different path, which disconnects the elbow.

Every layer of a scene shows a different picture; nothing is tiled.
"""

from dataclasses import dataclass, replace
from math import cos, exp, hypot, log, pi, radians, sin

import numpy as np
from jaxtyping import Float

from rdvfi.data.synthetic.object_paths import LayerPath, Point, background_path, turning_path
from rdvfi.data.synthetic.sampler import LayerPlan, ScenePlan, blob_matte
from rdvfi.data.synthetic.textures import Crop, Matte

DISPLACEMENT_RANGE = (60.0, 160.0)
"""Displacement of the centre of the moving object between the ends, in pixels of a frame 448 wide."""
TURN_DEGREES, ZOOM_FACTORS = (35.0, 90.0), (1.3, 2.0)
DISPLACEMENT_TOLERANCE = 5.0
"""Largest difference between the displacement of a limb and the sampled one, in pixels."""
UPPER_TURN_DEGREES, LOWER_TURN_DEGREES = (20.0, 70.0), (20.0, 80.0)
MAX_FRAME_TURN_DEGREES = 90.0
"""Largest rotation of the lower link relative to the frame."""
MAX_BEND_DEGREES = 120.0
"""Largest bend of the elbow, so that links do not occlude each other."""
REDUCTION_RANGE = (0.4, 1.0)
CURVED_SCENE_KINDS = ("shape", "frame", "shape", "zoom")


def curved_scene(rng: np.random.Generator, size: tuple[int, int], pictures: int, kind: str) -> ScenePlan:
    """A random scene of one of the `CURVED_SCENE_KINDS`; ``pictures``, at least two, is the number of pictures."""
    h, w = size
    back, front = _sample_crops(rng, pictures, 2)
    frame_middle = ((w - 1) / 2, (h - 1) / 2)
    middle = (rng.uniform(0.4, 0.6) * w, rng.uniform(0.4, 0.6) * h)
    if kind == "zoom":
        zoom = exp(rng.uniform(log(ZOOM_FACTORS[0]), log(ZOOM_FACTORS[1])) * rng.choice([-1.0, 1.0]))
        return ScenePlan((LayerPlan(back, LayerPath(pivot=middle, zoom=zoom), frame_middle),))
    angle = radians(rng.uniform(*TURN_DEGREES)) * rng.choice([-1.0, 1.0])
    displacement = rng.uniform(*DISPLACEMENT_RANGE) * w / 448.0
    path = turning_path(middle, angle, displacement, rng.uniform(0.0, 2.0 * pi))
    if kind == "frame":
        return ScenePlan((LayerPlan(back, path, frame_middle),))
    side = rng.uniform(0.5, 0.8) * h
    ground = LayerPlan(back, background_path(rng, size), frame_middle)
    return ScenePlan((ground, LayerPlan(front, path, path.start_position(middle, 0.5), blob_matte(rng, side))))


def limb_scene(rng: np.random.Generator, size: tuple[int, int], pictures: int) -> ScenePlan:
    """A random limb over an almost static background; ``pictures``, at least three, is the number of pictures."""
    h, w = size
    back, *links = _sample_crops(rng, pictures, 3)
    ground = LayerPlan(back, background_path(rng, size), ((w - 1) / 2, (h - 1) / 2))
    limb = sample_limb(rng, size)
    ends = ((limb.shoulder, limb.elbow), (limb.elbow, limb.tip))
    half_axes = [((b[0] - a[0]) / 2, (b[1] - a[1]) / 2) for a, b in ends]
    centres = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ends]
    mattes = [Matte(radius, axis=half) for radius, half in zip(limb.radii, half_axes, strict=True)]
    upper = LayerPlan(links[0], limb.upper, centres[0], mattes[0])
    return ScenePlan((ground, upper, LayerPlan(links[1], limb.lower, centres[1], mattes[1], joint=limb.upper)))


def _sample_crops(rng: np.random.Generator, pictures: int, count: int) -> list[Crop]:
    """Random windows of ``count`` different pictures, with unchanged colours."""
    return [
        Crop(
            int(picture),
            reduction=rng.uniform(*REDUCTION_RANGE),
            place=(rng.random(), rng.random()),
            mirrored=(bool(rng.random() < 0.5), False),
        )
        for picture in rng.permutation(pictures)[:count]
    ]


@dataclass(frozen=True)
class Limb:
    """Parameters of a limb; lengths in pixels, angles in radians.

    Attributes:
        shoulder: Fixed joint of the upper link.
        lengths: From shoulder to elbow, and from elbow to tip.
        radii: Half the width of each link.
        heading: Direction of the upper link at time 0.
        bend: Direction of the lower link at time 0, relative to the upper one.
        turns: Rotation of each link between the ends, relative to its parent.
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
        return _point_along(self.shoulder, self.lengths[0], self.heading)

    @property
    def tip(self) -> Point:
        """The free end, at time 0."""
        return _point_along(self.elbow, self.lengths[1], self.heading + self.bend)

    @property
    def upper(self) -> LayerPath:
        """Path of the upper link; it is the joint of the lower link."""
        return LayerPath(pivot=self.shoulder, angle=self.turns[0])

    @property
    def lower(self) -> LayerPath:
        """Path of the lower link, in the frame of the upper link."""
        return LayerPath(pivot=self.elbow, angle=self.turns[1])

    def points(self, t: float) -> Float[np.ndarray, "3 2"]:
        """Shoulder, elbow and tip at time ``t``."""
        tip = self.lower.position_at(self.tip, t)
        return np.array([self.upper.position_at(point, t) for point in (self.shoulder, self.elbow, tip)])

    def displacement(self) -> float:
        """Displacement of the centre of the lower link between the ends, in pixels."""
        first, last = (self.points(t)[1:].mean(0) for t in (0.0, 1.0))
        return hypot(*(last - first))

    def is_ambiguous(self) -> bool:
        """Whether a rotation is too large to be recovered from the ends, or the links occlude each other."""
        bends = (self.bend, self.bend + self.turns[1])
        return abs(sum(self.turns)) > radians(MAX_FRAME_TURN_DEGREES) or max(map(abs, bends)) > radians(
            MAX_BEND_DEGREES
        )


def sample_limb(rng: np.random.Generator, size: tuple[int, int]) -> Limb:
    """A random unambiguous limb with a large displacement that stays in the frame of ``size = (h, w)``."""
    h, w = size
    low, high = (bound * w / 448.0 for bound in DISPLACEMENT_RANGE)
    displacement = rng.uniform(low + DISPLACEMENT_TOLERANCE, high - DISPLACEMENT_TOLERANCE)
    while True:
        limb = _propose_limb(rng, h)
        if limb.is_ambiguous() or abs(limb.displacement() - displacement) > DISPLACEMENT_TOLERANCE:
            continue
        positions = np.concatenate([limb.points(t) for t in np.linspace(0.0, 1.0, 9)])
        margin = max(limb.radii)
        lower = margin - positions.min(0)
        upper = np.array([w, h]) - 1.0 - margin - positions.max(0)
        if (lower <= upper).all():
            x, y = rng.uniform(lower, upper)
            return replace(limb, shoulder=(x, y))


def _propose_limb(rng: np.random.Generator, h: int) -> Limb:
    """A limb whose shoulder is at the origin."""
    lengths = rng.uniform(0.28, 0.45, 2) * h
    radius = rng.uniform(0.11, 0.15) * h
    turns = [radians(rng.uniform(*r)) * rng.choice([-1, 1]) for r in (UPPER_TURN_DEGREES, LOWER_TURN_DEGREES)]
    return Limb(
        shoulder=(0.0, 0.0),
        lengths=(lengths[0], lengths[1]),
        radii=(radius, 0.85 * radius),
        heading=rng.uniform(0.0, 2.0 * pi),
        bend=radians(rng.uniform(-MAX_BEND_DEGREES, MAX_BEND_DEGREES)),
        turns=(float(turns[0]), float(turns[1])),
    )


def _point_along(start: Point, length: float, direction: float) -> Point:
    return start[0] + length * cos(direction), start[1] + length * sin(direction)
