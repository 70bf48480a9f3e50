"""Random scenes for training, reproducible by index on every device.

A scene has a background, up to two blobs, and sometimes a limb of two links, the lower of which
turns about a joint that the upper one carries along. In a share of the scenes the end frames
determine every path (see `rdvfi.data.synthetic.object_paths`); in the others paths are bowed and accelerated.
Some layers bend in smooth waves, some scenes change in brightness, some frames are blurred by an
open shutter.
"""

from dataclasses import dataclass, field
from math import asin, cos, exp, pi, radians, sin

import numpy as np

from rdvfi.data.synthetic.object_paths import FLAT, STATIC, STEEPNESS, LayerPath, Wave, background_path, turning_path
from rdvfi.data.synthetic.textures import Crop, Matte

WHOLE = Matte(0.0)
MARGIN = 0.35
"""How far backgrounds reach beyond the frame, of its longer side."""
PATCH = 0.8
"""Largest side of a blob, of the frame's shorter side."""


@dataclass(frozen=True)
class SceneRecipe:
    """Parameters of the random scenes.

    Attributes:
        reach: Largest displacement of a layer's middle between the ends, in pixels.
        determined: Share of scenes whose paths the end frames determine.
        limbs: Share of scenes with a limb.
        waves: Share of layers that bend.
        lights: Share of scenes whose brightness changes.
        blurred: Share of scenes with an open shutter.
        details: Share of scenes with small fast objects (`rdvfi.data.synthetic.small_objects`).
        textureless: Share of the layers of these scenes that have little texture; of other scenes it is a
            sixth of that.
    """

    reach: float = 90.0
    determined: float = 0.7
    limbs: float = 0.3
    waves: float = 0.25
    lights: float = 0.3
    blurred: float = 0.3
    details: float = 0.0
    textureless: float = 0.0

    def __post_init__(self) -> None:
        if not self.reach > 0.0:
            raise ValueError(f"reach is {self.reach}; it must be above 0 pixels")
        for name in ("determined", "limbs", "waves", "lights", "blurred", "details", "textureless"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; a share lies in [0, 1]")


@dataclass(frozen=True)
class LayerPlan:
    """One layer of one scene. ``centre`` is that of its texture, in the frame at time 0."""

    crop: Crop
    path: LayerPath
    centre: tuple[float, float]
    matte: Matte = WHOLE
    joint: LayerPath = STATIC
    wave: Wave = FLAT


@dataclass(frozen=True)
class ScenePlan:
    """A scene in numbers: background, two blobs, two links; all but the first may be missing.

    Small objects may follow (`rdvfi.data.synthetic.small_objects`).
    """

    layers: tuple[LayerPlan | None, ...]
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    curve: float = 0.0
    shutter: float = 0.0


@dataclass(frozen=True)
class SceneSampler:
    """Draws the parts of one scene from ``rng``."""

    rng: np.random.Generator
    size: tuple[int, int]
    pictures: int
    recipe: SceneRecipe = field(default_factory=SceneRecipe)

    def scene(self) -> ScenePlan:
        """A whole scene."""
        rng, (h, w) = self.rng, self.size
        determined = bool(rng.random() < self.recipe.determined)
        whole = rng.random() < 0.3
        back = self.moving(0.6 * self.recipe.reach, determined) if whole else background_path(rng, self.size)
        middle = ((w - 1) / 2, (h - 1) / 2)
        layers: list[LayerPlan | None] = [
            LayerPlan(self.crop(), back, middle, wave=self.wave(float(max(h, w)), determined, 0.5))
        ]
        blobs = int(rng.integers(0 if whole else 1, 3))
        layers += [self.blob(determined) if i < blobs else None for i in range(2)]
        limb = rng.random() < self.recipe.limbs
        layers += self.limb(determined) if limb else [None, None]
        lit = rng.random() < self.recipe.lights
        slope = rng.normal(0.0, 0.15, 3) * (1.0 if lit else 0.0)
        blurred = rng.random() < self.recipe.blurred
        return ScenePlan(
            tuple(layers),
            (slope[0], slope[1], slope[2]),
            rng.normal(0.0, 0.5),
            rng.uniform(0.02, 0.1) if blurred else 0.0,
        )

    def crop(self) -> Crop:
        """A window of a random picture, its colours a little changed."""
        rng = self.rng
        gain = np.exp(rng.normal(0.0, 0.1) + rng.normal(0.0, 0.05, 3))
        return Crop(
            picture=int(rng.integers(self.pictures)),
            reduction=rng.random(),
            place=(rng.random(), rng.random()),
            mirrored=(bool(rng.random() < 0.5), bool(rng.random() < 0.2)),
            gain=(gain[0], gain[1], gain[2]),
            gamma=exp(rng.normal(0.0, 0.15)),
        )

    def blob(self, determined: bool) -> LayerPlan:
        """A shape whose middle is in the frame at mid-time."""
        rng, (h, w) = self.rng, self.size
        side = rng.uniform(0.25, PATCH) * min(h, w)
        path = self.moving(self.recipe.reach, determined)
        matte = blob_matte(rng, side)
        return LayerPlan(self.crop(), path, self.in_view(path), matte, wave=self.wave(side, determined, 1.0))

    def limb(self, determined: bool) -> list[LayerPlan]:
        """An upper link that turns about its near end, and a lower one about the joint between."""
        rng = self.rng
        longest = 0.35 * PATCH * min(self.size)
        half = [longest * rng.uniform(0.6, 1.0) for _ in range(2)]
        width = longest * rng.uniform(0.2, 0.35)
        heading = rng.uniform(0.0, 2.0 * pi)
        bend = heading + radians(rng.uniform(-100.0, 100.0))
        upper, lower = ((n * cos(a), n * sin(a)) for n, a in zip(half, (heading, bend), strict=True))
        most = 2.0 * asin(min(1.0, 0.5 * self.recipe.reach / (2.0 * half[0] + half[1])))
        turns = [limit * rng.uniform(0.2, 1.0) * rng.choice([-1.0, 1.0]) for limit in (most, pi / 2)]
        uneven = (0.0, 0.0) if determined else tuple(rng.uniform(-0.6, 0.6, 2))
        middle = self._somewhere()
        shoulder = (middle[0] - upper[0], middle[1] - upper[1])
        elbow = (middle[0] + upper[0], middle[1] + upper[1])
        arm = LayerPath(pivot=shoulder, angle=turns[0], acceleration=uneven[0])
        forearm = LayerPath(pivot=elbow, angle=turns[1], acceleration=uneven[1])
        end = (elbow[0] + lower[0], elbow[1] + lower[1])
        return [
            LayerPlan(self.crop(), arm, middle, Matte(width, axis=upper)),
            LayerPlan(self.crop(), forearm, end, Matte(0.8 * width, axis=lower), joint=arm),
        ]

    def wave(self, length: float, determined: bool, share: float) -> Wave:
        """A bending of a layer of some ``length``, mostly none; of even growth where the ends determine it."""
        rng = self.rng
        if rng.random() >= share * self.recipe.waves:
            return FLAT
        modes = []
        for _ in range(3):
            number = 2.0 * pi * rng.uniform(0.4, 1.5) / length
            heading, along = rng.uniform(0.0, 2.0 * pi, 2)
            height = rng.uniform(0.3, 1.0)
            modes.append(
                (
                    height * cos(along),
                    height * sin(along),
                    number * cos(heading),
                    number * sin(heading),
                    rng.uniform(0.0, 2.0 * pi),
                )
            )
        swing = 0.0 if determined else 1.0
        law = Wave(tuple(modes), 1.0, swing, rng.uniform(0.3, 1.2), rng.uniform(0.0, 2.0 * pi))
        scale = rng.uniform(0.4, 1.0) * STEEPNESS / law.steepness()
        scaled = tuple((scale * a, scale * b, *rest) for a, b, *rest in modes)
        return Wave(scaled, law.linear, law.swing, law.rate, law.phase)

    def moving(self, reach: float, determined: bool) -> LayerPath:
        """A large motion; ``reach`` is the largest displacement in pixels."""
        rng = self.rng
        centre = self._somewhere()
        far = reach * rng.uniform(0.0, 1.0) ** 1.5
        heading = rng.uniform(0.0, 2.0 * pi)
        kind = rng.choice(["turn", "spin", "zoom", "shift", "screw"], p=[0.35, 0.1, 0.15, 0.25, 0.15])
        if kind == "turn":
            angle = radians(rng.uniform(10.0, 95.0)) * rng.choice([-1.0, 1.0])
            path = turning_path(centre, angle, max(far, 1.0), heading)
        elif kind == "spin":
            path = LayerPath(pivot=centre, angle=radians(rng.uniform(-90.0, 90.0)))
        elif kind == "zoom":
            path = LayerPath(pivot=centre, zoom=exp(rng.uniform(-0.7, 0.7)))
        elif kind == "shift":
            path = LayerPath(shift=(far * cos(heading), far * sin(heading)))
        else:
            path = LayerPath(
                pivot=centre,
                angle=radians(rng.normal(0.0, 20.0)),
                zoom=exp(rng.normal(0.0, 0.15)),
                shift=(0.5 * far * cos(heading), 0.5 * far * sin(heading)),
            )
        if determined:
            return path
        bow = rng.normal(0.0, 0.12 * reach, 2)
        return LayerPath(path.pivot, path.angle, path.zoom, path.shift, (bow[0], bow[1]), rng.uniform(-0.6, 0.6))

    def _somewhere(self) -> tuple[float, float]:
        h, w = self.size
        return self.rng.uniform(0.2, 0.8) * w, self.rng.uniform(0.2, 0.8) * h

    def in_view(self, path: LayerPath) -> tuple[float, float]:
        """A place at time 0 that lies within the frame at mid-time."""
        return path.origin(self._somewhere(), 0.5)


def blob_matte(rng: np.random.Generator, side: float) -> Matte:
    """A smooth random shape that fills most of a square of ``side`` pixels."""
    swings = tuple((float(k), rng.normal(0.0, 0.24 / (k - 1)), rng.uniform(0.0, 2.0 * pi)) for k in range(2, 6))
    return Matte(0.38 * side, swings, limit=0.48 * side)


def texture_side(size: tuple[int, int]) -> int:
    """Side of the square textures that hold blobs and links, with an empty border."""
    return int(PATCH * min(size) * 1.1) + 4
