"""Random scenes for training, reproducible by index on every device.

A scene has a background, up to two blobs, and sometimes a limb of two links, whose lower link rotates
about a joint that moves with the upper link. In a fraction of the scenes the end frames determine every
path (see `rdvfi.data.synthetic.object_paths`); in the others paths are bowed and accelerated. Some layers
are deformed by smooth waves, some scenes change in brightness, and some frames are blurred by an open shutter.
"""

from dataclasses import dataclass, field, replace
from math import asin, cos, exp, pi, radians, sin

import numpy as np

from rdvfi.data.synthetic.object_paths import NO_WAVE, STATIC, STEEPNESS, LayerPath, Wave, background_path, turning_path
from rdvfi.data.synthetic.textures import Crop, Matte

FULL_MATTE = Matte(0.0)
"""The matte of a background, which is not read."""
BACKGROUND_MARGIN = 0.35
"""Extent of backgrounds beyond the frame, relative to its longer side."""
MAX_BLOB_SIDE = 0.8
"""Largest side of a blob, relative to the frame's shorter side."""


@dataclass(frozen=True)
class SceneRecipe:
    """Distribution of the random scenes.

    Attributes:
        reach: Largest displacement of a layer's centre between the ends, in pixels.
        determined: Fraction of scenes whose paths the end frames determine.
        limbs: Fraction of scenes with a limb.
        waves: Fraction of layers that a wave deforms.
        lights: Fraction of scenes whose brightness changes.
        blurred: Fraction of scenes with an open shutter.
        details: Fraction of scenes with small fast objects (`rdvfi.data.synthetic.small_objects`).
        textureless: Fraction of the layers of these scenes that have little texture; in other scenes it is a
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
    """One layer of one scene; ``centre`` is the position of the texture's centre in the frame at time 0."""

    crop: Crop
    path: LayerPath
    centre: tuple[float, float]
    matte: Matte = FULL_MATTE
    joint: LayerPath = STATIC
    wave: Wave = NO_WAVE


@dataclass(frozen=True)
class ScenePlan:
    """Parameters of a scene.

    Its layers are the background, two blobs, two links, then small objects (`rdvfi.data.synthetic.small_objects`);
    all but the background may be None.
    """

    layers: tuple[LayerPlan | None, ...]
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    curve: float = 0.0
    shutter: float = 0.0


@dataclass(frozen=True)
class SceneSampler:
    """Samples the parts of one scene with ``rng``; ``pictures`` is the number of pictures."""

    rng: np.random.Generator
    size: tuple[int, int]
    pictures: int
    recipe: SceneRecipe = field(default_factory=SceneRecipe)

    def sample_scene(self) -> ScenePlan:
        """A random scene without small objects."""
        rng, (h, w) = self.rng, self.size
        determined = bool(rng.random() < self.recipe.determined)
        moves = rng.random() < 0.3
        path = self.sample_path(0.6 * self.recipe.reach, determined) if moves else background_path(rng, self.size)
        centre = ((w - 1) / 2, (h - 1) / 2)
        layers: list[LayerPlan | None] = [
            LayerPlan(self.sample_crop(), path, centre, wave=self.sample_wave(float(max(h, w)), determined, 0.5))
        ]
        blobs = int(rng.integers(0 if moves else 1, 3))
        layers += [self.sample_blob(determined) if i < blobs else None for i in range(2)]
        has_limb = rng.random() < self.recipe.limbs
        layers += self.sample_limb(determined) if has_limb else [None, None]
        light_changes = rng.random() < self.recipe.lights
        slope = rng.normal(0.0, 0.15, 3) * (1.0 if light_changes else 0.0)
        is_blurred = rng.random() < self.recipe.blurred
        curve, shutter = rng.normal(0.0, 0.5), rng.uniform(0.02, 0.1) if is_blurred else 0.0
        return ScenePlan(tuple(layers), (slope[0], slope[1], slope[2]), curve, shutter)

    def sample_crop(self) -> Crop:
        """A random window of a random picture, with slightly changed colours."""
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

    def sample_blob(self, determined: bool) -> LayerPlan:
        """A random shape whose centre is inside the frame at time 0.5."""
        rng, (h, w) = self.rng, self.size
        side = rng.uniform(0.25, MAX_BLOB_SIDE) * min(h, w)
        path = self.sample_path(self.recipe.reach, determined)
        matte = blob_matte(rng, side)
        return LayerPlan(
            self.sample_crop(),
            path,
            self.sample_visible_centre(path),
            matte,
            wave=self.sample_wave(side, determined, 1.0),
        )

    def sample_limb(self, determined: bool) -> list[LayerPlan]:
        """An upper link that rotates about its near end, and a lower link that rotates about the elbow."""
        rng = self.rng
        longest = 0.35 * MAX_BLOB_SIDE * min(self.size)
        half = [longest * rng.uniform(0.6, 1.0) for _ in range(2)]
        width = longest * rng.uniform(0.2, 0.35)
        heading = rng.uniform(0.0, 2.0 * pi)
        bend = heading + radians(rng.uniform(-100.0, 100.0))
        upper, lower = ((n * cos(a), n * sin(a)) for n, a in zip(half, (heading, bend), strict=True))
        max_turn = 2.0 * asin(min(1.0, 0.5 * self.recipe.reach / (2.0 * half[0] + half[1])))
        turns = [limit * rng.uniform(0.2, 1.0) * rng.choice([-1.0, 1.0]) for limit in (max_turn, pi / 2)]
        accelerations = (0.0, 0.0) if determined else tuple(rng.uniform(-0.6, 0.6, 2))
        middle = self._sample_point()
        shoulder = (middle[0] - upper[0], middle[1] - upper[1])
        elbow = (middle[0] + upper[0], middle[1] + upper[1])
        arm = LayerPath(pivot=shoulder, angle=turns[0], acceleration=accelerations[0])
        forearm = LayerPath(pivot=elbow, angle=turns[1], acceleration=accelerations[1])
        end = (elbow[0] + lower[0], elbow[1] + lower[1])
        return [
            LayerPlan(self.sample_crop(), arm, middle, Matte(width, axis=upper)),
            LayerPlan(self.sample_crop(), forearm, end, Matte(0.8 * width, axis=lower), joint=arm),
        ]

    def sample_wave(self, length: float, determined: bool, share: float) -> Wave:
        """A random wave of a layer of ``length`` pixels, or `NO_WAVE`; linear in time if ``determined``."""
        rng = self.rng
        if rng.random() >= share * self.recipe.waves:
            return NO_WAVE
        modes = []
        for _ in range(3):
            wavenumber = 2.0 * pi * rng.uniform(0.4, 1.5) / length
            heading, direction = rng.uniform(0.0, 2.0 * pi, 2)
            height = rng.uniform(0.3, 1.0)
            amplitude = height * cos(direction), height * sin(direction)
            wavevector = wavenumber * cos(heading), wavenumber * sin(heading)
            modes.append((*amplitude, *wavevector, rng.uniform(0.0, 2.0 * pi)))
        swing = 0.0 if determined else 1.0
        wave = Wave(tuple(modes), 1.0, swing, rng.uniform(0.3, 1.2), rng.uniform(0.0, 2.0 * pi))
        scale = rng.uniform(0.4, 1.0) * STEEPNESS / wave.steepness()
        return replace(wave, modes=tuple((scale * ax, scale * ay, *rest) for ax, ay, *rest in modes))

    def sample_path(self, reach: float, determined: bool) -> LayerPath:
        """A random large motion; ``reach`` is the largest displacement in pixels."""
        rng = self.rng
        centre = self._sample_point()
        displacement = reach * rng.uniform(0.0, 1.0) ** 1.5
        heading = rng.uniform(0.0, 2.0 * pi)
        kind = rng.choice(["turn", "spin", "zoom", "shift", "screw"], p=[0.35, 0.1, 0.15, 0.25, 0.15])
        if kind == "turn":
            angle = radians(rng.uniform(10.0, 95.0)) * rng.choice([-1.0, 1.0])
            path = turning_path(centre, angle, max(displacement, 1.0), heading)
        elif kind == "spin":
            path = LayerPath(pivot=centre, angle=radians(rng.uniform(-90.0, 90.0)))
        elif kind == "zoom":
            path = LayerPath(pivot=centre, zoom=exp(rng.uniform(-0.7, 0.7)))
        elif kind == "shift":
            path = LayerPath(shift=(displacement * cos(heading), displacement * sin(heading)))
        else:
            path = LayerPath(
                pivot=centre,
                angle=radians(rng.normal(0.0, 20.0)),
                zoom=exp(rng.normal(0.0, 0.15)),
                shift=(0.5 * displacement * cos(heading), 0.5 * displacement * sin(heading)),
            )
        if determined:
            return path
        bow = rng.normal(0.0, 0.12 * reach, 2)
        return replace(path, bow=(bow[0], bow[1]), acceleration=rng.uniform(-0.6, 0.6))

    def _sample_point(self) -> tuple[float, float]:
        h, w = self.size
        return self.rng.uniform(0.2, 0.8) * w, self.rng.uniform(0.2, 0.8) * h

    def sample_visible_centre(self, path: LayerPath) -> tuple[float, float]:
        """A random position at time 0 of a point that is inside the frame at time 0.5."""
        return path.start_position(self._sample_point(), 0.5)


def blob_matte(rng: np.random.Generator, side: float) -> Matte:
    """A smooth random shape that fills most of a square of ``side`` pixels."""
    return Matte(0.38 * side, sample_radius_waves(rng, 0.24), limit=0.48 * side)


def sample_radius_waves(rng: np.random.Generator, height: float) -> tuple[tuple[float, float, float], ...]:
    """Random `Matte.waves` of four frequencies, the lowest with standard deviation ``height``."""
    return tuple((float(k), rng.normal(0.0, height / (k - 1)), rng.uniform(0.0, 2.0 * pi)) for k in range(2, 6))


def texture_side(size: tuple[int, int]) -> int:
    """Side in pixels of the square textures of blobs and links, including an empty border."""
    return int(MAX_BLOB_SIDE * min(size) * 1.1) + 4
