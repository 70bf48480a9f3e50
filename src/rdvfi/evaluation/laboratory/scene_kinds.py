"""The kinds of scenes of the motion laboratory, by name.

They form two groups, which are never averaged together:

* **determined**: the two end frames determine the paths, assuming constant velocity, rotation or
  zoom, and connected limbs. Errors are those of the method.
* **undetermined**: the end frames are consistent with several paths (acceleration, a thrown ball, a swing that
  returns to its start). A method can only be plausible; the error measures the distance of a
  plausible guess from the true motion.

Speeds and lengths are given for a width of 448 pixels and scale with the width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi, radians
from zlib import crc32

import numpy as np

from rdvfi.data.synthetic.curved_scenes import curved_scene, limb_scene
from rdvfi.data.synthetic.object_paths import STEEPNESS, LayerPath, Wave, turning_path
from rdvfi.data.synthetic.procedural_source import build_scenes
from rdvfi.data.synthetic.sampler import ScenePlan
from rdvfi.data.synthetic.small_objects import small_matte
from rdvfi.data.synthetic.textures import Matte
from rdvfi.evaluation.laboratory.scene_builder import MotionScene
from rdvfi.evaluation.laboratory.scene_parts import FACADE, PICTURES, PartSampler, Size, draw_overlay, scene_textures
from rdvfi.registry import did_you_mean

LABORATORY_SETS = {"laboratory-determined": True, "laboratory-undetermined": False}
"""Evaluation sets, and whether the end frames determine the paths of their scenes."""
DEFAULT_SIZE = (256, 448)
_SEED_STREAM = 2029
"""Part of every seed, which makes the random numbers differ from those of training and of the held-out sets."""

PlanFunction = Callable[[PartSampler], ScenePlan]


@dataclass(frozen=True)
class _SceneKind:
    about: str
    determined: bool
    plan: PlanFunction
    overlay: bool
    noise: float


_KINDS: dict[str, _SceneKind] = {}


def motion_scenes(*, determined: bool | None = None) -> list[str]:
    """Names of all kinds, or only of those whose paths the end frames determine (True) or do not (False)."""
    return [name for name, kind in _KINDS.items() if determined in (None, kind.determined)]


def motion_scene(name: str, *, seed: int = 0, size: Size = DEFAULT_SIZE) -> MotionScene:
    """Create a scene.

    Args:
        name: One of `motion_scenes`.
        seed: Seed of the random numbers; different seeds give different scenes of the same kind.
        size: (height, width) in pixels.

    Raises:
        ValueError: If there is no such kind, the seed is negative, or a side is shorter than 64 pixels.
    """
    if name not in _KINDS:
        raise ValueError(f"no scene named {name!r}{did_you_mean(name, _KINDS)} (scenes: {', '.join(_KINDS)})")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    if min(size) < 64:
        raise ValueError(f"size is {size}; both sides must be at least 64 pixels")
    kind = _KINDS[name]
    parts = PartSampler(np.random.default_rng([crc32(name.encode()), seed, _SEED_STREAM]), size)
    scenes = build_scenes([kind.plan(parts)], scene_textures(), size)
    if kind.overlay:
        scenes = replace(scenes, layers=(*scenes.layers, draw_overlay(size)))
    return MotionScene(name, kind.about, kind.determined, scenes, kind.noise, seed)


def _register(
    about: str, *, determined: bool = True, overlay: bool = False, noise: float = 0.0
) -> Callable[[PlanFunction], PlanFunction]:
    """Register a kind of scene under the name of the decorated function."""

    def register(plan: PlanFunction) -> PlanFunction:
        _KINDS[plan.__name__] = _SceneKind(about, determined, plan, overlay, noise)
        return plan

    return register


@_register("the whole picture slides")
def pan(parts: PartSampler) -> ScenePlan:
    return ScenePlan((parts.panning_background(),))


@_register("a large shape turns about a far point: its path is an arc")
def turn(parts: PartSampler) -> ScenePlan:
    return curved_scene(parts.rng, parts.size, PICTURES, "shape")


@_register("a large shape turns about its own middle")
def spin(parts: PartSampler) -> ScenePlan:
    path = LayerPath(pivot=parts.centre, angle=radians(parts.randomise(75.0)))
    return ScenePlan((parts.background(), parts.shape(path)))


@_register("the whole picture comes nearer or recedes")
def zoom(parts: PartSampler) -> ScenePlan:
    return curved_scene(parts.rng, parts.size, PICTURES, "zoom")


@_register("a limb of two links, the lower carried along by the upper")
def limb(parts: PartSampler) -> ScenePlan:
    return limb_scene(parts.rng, parts.size, PICTURES)


@_register("two shapes pass in front of each other and of a slow background")
def occlusion(parts: PartSampler) -> ScenePlan:
    shifts = (parts.shift(70.0, 0.0), parts.shift(70.0, pi))
    background = parts.background(LayerPath(shift=parts.shift(8.0)))
    return ScenePlan((background, *(parts.shape(LayerPath(shift=shift)) for shift in shifts)))


@_register("poles three pixels wide pass before a slow background")
def thin(parts: PartSampler) -> ScenePlan:
    h, w = parts.size
    path = LayerPath(shift=(parts.randomise(parts.scale(40.0)), 0.0))
    pole = Matte(max(1.5, parts.scale(1.5)), axis=(parts.rng.uniform(-0.05, 0.05) * h, 0.38 * h))
    poles = [parts.shape(path, pole, at=(share * w, 0.5 * h)) for share in (0.2, 0.4, 0.6, 0.8)]
    return ScenePlan((parts.background(LayerPath(shift=parts.shift(6.0))), *poles))


@_register("small shapes move by three to five times their size")
def small_and_fast(parts: PartSampler) -> ScenePlan:
    h, w = parts.size
    small = []
    for share in (0.25, 0.5, 0.75):
        side = parts.scale(parts.rng.uniform(12.0, 20.0))
        shift = parts.shift(parts.rng.uniform(3.0, 5.0) * side * 448.0 / w)
        small.append(parts.shape(LayerPath(shift=shift), small_matte(parts.rng, side), at=(share * w, 0.5 * h)))
    return ScenePlan((parts.background(), *small))


@_register("a pan over a facade whose windows repeat, each a little different")
def repeated_texture(parts: PartSampler) -> ScenePlan:
    path = LayerPath(shift=(parts.randomise(parts.scale(40.0)), 0.0))
    return ScenePlan((parts.background(path, picture=FACADE),))


@_register("subtitles and a mark rest over a pan", overlay=True)
def static_overlay(parts: PartSampler) -> ScenePlan:
    return ScenePlan((parts.panning_background(),))


@_register("a fixed camera; one shape crosses a picture that rests")
def static_camera(parts: PartSampler) -> ScenePlan:
    side = 0.3 * min(parts.size)
    return ScenePlan(
        (parts.background(), parts.shape(LayerPath(shift=parts.shift(60.0)), small_matte(parts.rng, side)))
    )


@_register("the light changes steadily and unevenly over the picture during a pan")
def light_change(parts: PartSampler) -> ScenePlan:
    slope = (parts.randomise(0.5), parts.randomise(0.25), parts.randomise(0.1))
    return ScenePlan((parts.panning_background(),), slope=slope)


@_register("a pan seen by a noisy sensor", noise=6 / 255)
def noise(parts: PartSampler) -> ScenePlan:
    return ScenePlan((parts.panning_background(),))


@_register("a shape starts at rest, or stops", determined=False)
def acceleration(parts: PartSampler) -> ScenePlan:
    path = LayerPath(shift=parts.shift(110.0, parts.rng.choice([0.0, pi])), acceleration=parts.randomise(0.85))
    return ScenePlan((parts.background(), parts.shape(path)))


@_register("a shape is thrown: along a parabola", determined=False)
def throw(parts: PartSampler) -> ScenePlan:
    shift = parts.shift(110.0, parts.rng.choice([0.0, pi]))
    path = LayerPath(shift=shift, bow=(0.0, -parts.scale(parts.rng.uniform(35.0, 55.0))))
    matte = small_matte(parts.rng, 0.25 * min(parts.size))
    return ScenePlan((parts.background(), parts.shape(path, matte)))


@_register("a shape swings out and back: both ends are alike, and what is between is not", determined=False)
def swing(parts: PartSampler) -> ScenePlan:
    return ScenePlan((parts.background(), parts.shape(LayerPath(bow=parts.shift(40.0, 0.0)))))


@_register("a limb whose links turn unevenly", determined=False)
def uneven_limb(parts: PartSampler) -> ScenePlan:
    background, upper, lower = limb_scene(parts.rng, parts.size, PICTURES).layers
    assert upper is not None
    assert lower is not None
    arm = replace(upper.path, acceleration=parts.randomise(0.8))
    forearm = replace(lower.path, acceleration=parts.randomise(0.8))
    return ScenePlan((background, replace(upper, path=arm), replace(lower, path=forearm, joint=arm)))


@_register("a shape turns more slowly, then faster, about a far point", determined=False)
def pendulum(parts: PartSampler) -> ScenePlan:
    angle, radius = radians(parts.randomise(60.0)), parts.scale(110.0)
    path = replace(turning_path(parts.centre, angle, radius, -0.5 * pi), acceleration=parts.randomise(0.8))
    return ScenePlan((parts.background(), parts.shape(path)))


@_register("a large shape bends like cloth in a wind, to and fro", determined=False)
def cloth(parts: PartSampler) -> ScenePlan:
    wave_number = 2.0 * pi / parts.scale(160.0)
    modes = ((0.0, 1.0, wave_number, 0.0, parts.rng.uniform(0.0, 2.0 * pi)),)
    wave = Wave(modes, linear=0.3, swing=1.0, rate=1.2, phase=parts.rng.uniform(0.0, 2.0 * pi))
    height = STEEPNESS / wave.steepness()
    wave = replace(wave, modes=tuple((height * x, height * y, *rest) for x, y, *rest in modes))
    shape = parts.shape(LayerPath(shift=parts.shift(20.0)))
    return ScenePlan((parts.background(), replace(shape, wave=wave)))


@_register("the light flares up half-way through a pan", determined=False)
def flare(parts: PartSampler) -> ScenePlan:
    # g(t) = t - 1/2 + c (4 t (1 - t) - 1/2) with a small slope and a large c: equal ends, a bright middle.
    return ScenePlan((parts.panning_background(),), slope=(0.03, 0.01, 0.0), curve=12.0)
