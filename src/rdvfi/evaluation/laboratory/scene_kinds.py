"""The kinds of scenes of the motion laboratory, by name.

They are in two groups, which are never averaged together:

* **determined**: the two end frames determine the paths once one assumes constant speed, turn or
  zoom, or that links hang together. An error there is the method's.
* **undetermined**: the ends leave the paths open (acceleration, a thrown ball, a swing that returns to
  where it was). The best that a method can do is to be plausible; the error says how far a
  plausible guess is from what happened.

Speeds and lengths are those at a width of 448 pixels and go with the width.
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
from rdvfi.evaluation.laboratory.scene_parts import FACADE, PICTURES, SceneParts, Size, drawn_textures, overlay
from rdvfi.registry import did_you_mean

LABORATORY_SETS = {"laboratory-determined": True, "laboratory-undetermined": False}
"""Sets of an evaluation, and whether the end frames determine the paths of their scenes."""
DEFAULT_SIZE = (256, 448)
_STREAM = 2029
"""Sets these random numbers apart from those of training and of the published sets."""

Plan = Callable[[SceneParts], ScenePlan]


@dataclass(frozen=True)
class _Kind:
    about: str
    determined: bool
    plan: Plan
    overlay: bool
    noise: float


_KINDS: dict[str, _Kind] = {}


def motion_scenes(*, determined: bool | None = None) -> list[str]:
    """Names of all kinds, or of those whose paths the end frames determine (or leave open)."""
    return [name for name, kind in _KINDS.items() if determined in (None, kind.determined)]


def motion_scene(name: str, *, seed: int = 0, size: Size = DEFAULT_SIZE) -> MotionScene:
    """Draw a scene.

    Args:
        name: One of `motion_scenes`.
        seed: Another seed is another scene of the same kind.
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
    parts = SceneParts(np.random.default_rng([crc32(name.encode()), seed, _STREAM]), size)
    scenes = build_scenes([kind.plan(parts)], drawn_textures(), size)
    if kind.overlay:
        scenes = replace(scenes, layers=(*scenes.layers, overlay(size)))
    return MotionScene(name, kind.about, kind.determined, scenes, kind.noise, seed)


def _kind(about: str, *, determined: bool = True, overlay: bool = False, noise: float = 0.0) -> Callable[[Plan], Plan]:
    """Register a kind under its function's name."""

    def register(plan: Plan) -> Plan:
        _KINDS[plan.__name__] = _Kind(about, determined, plan, overlay, noise)
        return plan

    return register


@_kind("the whole picture slides")
def pan(parts: SceneParts) -> ScenePlan:
    return ScenePlan((parts.panned(),))


@_kind("a large shape turns about a far point: its path is an arc")
def turn(parts: SceneParts) -> ScenePlan:
    return curved_scene(parts.rng, parts.size, PICTURES, "shape")


@_kind("a large shape turns about its own middle")
def spin(parts: SceneParts) -> ScenePlan:
    path = LayerPath(pivot=parts.middle, angle=radians(parts.either(75.0)))
    return ScenePlan((parts.ground(), parts.shape(path)))


@_kind("the whole picture comes nearer or recedes")
def zoom(parts: SceneParts) -> ScenePlan:
    return curved_scene(parts.rng, parts.size, PICTURES, "zoom")


@_kind("a limb of two links, the lower carried along by the upper")
def limb(parts: SceneParts) -> ScenePlan:
    return limb_scene(parts.rng, parts.size, PICTURES)


@_kind("two shapes pass in front of each other and of a slow background")
def occlusion(parts: SceneParts) -> ScenePlan:
    ways = (parts.shift(70.0, 0.0), parts.shift(70.0, pi))
    slow = parts.ground(LayerPath(shift=parts.shift(8.0)))
    return ScenePlan((slow, *(parts.shape(LayerPath(shift=way)) for way in ways)))


@_kind("poles three pixels wide pass before a slow background")
def thin(parts: SceneParts) -> ScenePlan:
    h, w = parts.size
    path = LayerPath(shift=(parts.either(parts.pixels(40.0)), 0.0))
    pole = Matte(max(1.5, parts.pixels(1.5)), axis=(parts.rng.uniform(-0.05, 0.05) * h, 0.38 * h))
    poles = [parts.shape(path, pole, at=(share * w, 0.5 * h)) for share in (0.2, 0.4, 0.6, 0.8)]
    return ScenePlan((parts.ground(LayerPath(shift=parts.shift(6.0))), *poles))


@_kind("small shapes move by three to five times their size")
def small_and_fast(parts: SceneParts) -> ScenePlan:
    h, w = parts.size
    small = []
    for share in (0.25, 0.5, 0.75):
        side = parts.pixels(parts.rng.uniform(12.0, 20.0))
        way = parts.shift(parts.rng.uniform(3.0, 5.0) * side * 448.0 / w)
        small.append(parts.shape(LayerPath(shift=way), small_matte(parts.rng, side), at=(share * w, 0.5 * h)))
    return ScenePlan((parts.ground(), *small))


@_kind("a pan over a facade whose windows repeat, each a little different")
def repeated_texture(parts: SceneParts) -> ScenePlan:
    path = LayerPath(shift=(parts.either(parts.pixels(40.0)), 0.0))
    return ScenePlan((parts.ground(path, picture=FACADE),))


@_kind("subtitles and a mark rest over a pan", overlay=True)
def static_overlay(parts: SceneParts) -> ScenePlan:
    return ScenePlan((parts.panned(),))


@_kind("a fixed camera; one shape crosses a picture that rests")
def static_camera(parts: SceneParts) -> ScenePlan:
    side = 0.3 * min(parts.size)
    return ScenePlan((parts.ground(), parts.shape(LayerPath(shift=parts.shift(60.0)), small_matte(parts.rng, side))))


@_kind("the light changes steadily and unevenly over the picture during a pan")
def light_change(parts: SceneParts) -> ScenePlan:
    slope = (parts.either(0.5), parts.either(0.25), parts.either(0.1))
    return ScenePlan((parts.panned(),), slope=slope)


@_kind("a pan seen by a noisy sensor", noise=6 / 255)
def noise(parts: SceneParts) -> ScenePlan:
    return ScenePlan((parts.panned(),))


@_kind("a shape starts at rest, or stops", determined=False)
def acceleration(parts: SceneParts) -> ScenePlan:
    path = LayerPath(shift=parts.shift(110.0, parts.rng.choice([0.0, pi])), acceleration=parts.either(0.85))
    return ScenePlan((parts.ground(), parts.shape(path)))


@_kind("a shape is thrown: along a parabola", determined=False)
def throw(parts: SceneParts) -> ScenePlan:
    across = parts.shift(110.0, parts.rng.choice([0.0, pi]))
    path = LayerPath(shift=across, bow=(0.0, -parts.pixels(parts.rng.uniform(35.0, 55.0))))
    matte = small_matte(parts.rng, 0.25 * min(parts.size))
    return ScenePlan((parts.ground(), parts.shape(path, matte)))


@_kind("a shape swings out and back: both ends are alike, and what is between is not", determined=False)
def swing(parts: SceneParts) -> ScenePlan:
    return ScenePlan((parts.ground(), parts.shape(LayerPath(bow=parts.shift(40.0, 0.0)))))


@_kind("a limb whose links turn unevenly", determined=False)
def uneven_limb(parts: SceneParts) -> ScenePlan:
    ground, upper, lower = limb_scene(parts.rng, parts.size, PICTURES).layers
    assert upper is not None
    assert lower is not None
    arm = replace(upper.path, acceleration=parts.either(0.8))
    forearm = replace(lower.path, acceleration=parts.either(0.8))
    return ScenePlan((ground, replace(upper, path=arm), replace(lower, path=forearm, joint=arm)))


@_kind("a shape turns more slowly, then faster, about a far point", determined=False)
def pendulum(parts: SceneParts) -> ScenePlan:
    angle, far = radians(parts.either(60.0)), parts.pixels(110.0)
    path = replace(turning_path(parts.middle, angle, far, -0.5 * pi), acceleration=parts.either(0.8))
    return ScenePlan((parts.ground(), parts.shape(path)))


@_kind("a large shape bends like cloth in a wind, to and fro", determined=False)
def cloth(parts: SceneParts) -> ScenePlan:
    number = 2.0 * pi / parts.pixels(160.0)
    modes = ((0.0, 1.0, number, 0.0, parts.rng.uniform(0.0, 2.0 * pi)),)
    wave = Wave(modes, linear=0.3, swing=1.0, rate=1.2, phase=parts.rng.uniform(0.0, 2.0 * pi))
    height = STEEPNESS / wave.steepness()
    wave = replace(wave, modes=tuple((height * x, height * y, *rest) for x, y, *rest in modes))
    shape = parts.shape(LayerPath(shift=parts.shift(20.0)))
    return ScenePlan((parts.ground(), replace(shape, wave=wave)))


@_kind("the light flares up half-way through a pan", determined=False)
def flare(parts: SceneParts) -> ScenePlan:
    # g(t) = t - 1/2 + c (4 t (1 - t) - 1/2) with a small slope and a large c: equal ends, a bright middle.
    return ScenePlan((parts.panned(),), slope=(0.03, 0.01, 0.0), curve=12.0)
