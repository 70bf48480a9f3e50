"""Small fast objects and textureless surfaces, which are hard for flow estimators.

An object that moves by more than its own size has left its place when the other picture is taken, so
that nothing near by looks like it (Brox and Malik, Large Displacement Optical Flow, PAMI 2011); and
a textureless surface says nothing about its motion but at its edges and marks. Scenes with details have
both: up to three shapes of 6 to 32 pixels that move by 0.5 to 5 times their size, or that ride on
one large textureless mover, as hatches do on a van; and many of their layers are textureless.

All of it is drawn after the rest of a scene, so that scenes without details stay what they are.
"""

from dataclasses import replace
from math import cos, pi, sin

import numpy as np

from rdvfi.data.synthetic.object_paths import LayerPath
from rdvfi.data.synthetic.sampler import LayerPlan, ScenePlan, SceneSampler
from rdvfi.data.synthetic.textures import Matte, Textureless

MOST = 3
"""Small objects of a scene, at most."""
_SIDES = (6.0, 32.0)
"""Their sizes, in pixels."""
_MARKS = (6.0, 24.0)
"""The same for those that ride on something."""
_LENGTHS = (0.5, 5.0)
"""How far they move, in their sizes."""
_FARTHEST = 1.25
"""The same, of the recipe's reach."""


def draw_scene(draw: SceneSampler) -> ScenePlan:
    """A scene as its recipe wants it.

    Every scene of a recipe with details has the same number of layers; some of them are missing.
    """
    scene, recipe = draw.scene(), draw.recipe
    if recipe.details == 0.0 and recipe.textureless == 0.0:
        return scene
    detailed = bool(draw.rng.random() < recipe.details)
    layers, small = list(scene.layers), []
    if detailed and draw.rng.random() < 0.4:
        layers[1:3], small = _ridden(draw)
    elif detailed:
        small = [_small_object(draw) for _ in range(_count(draw.rng))]
    if recipe.details > 0.0:
        layers += small + [None] * (MOST - len(small))
    share = recipe.textureless if detailed else recipe.textureless / 6.0
    return replace(scene, layers=tuple(_textureless(draw.rng, layer, share) for layer in layers))


def _count(rng: np.random.Generator) -> int:
    return int(rng.integers(1, MOST + 1))


def _small_object(draw: SceneSampler) -> LayerPlan:
    """A small shape on its own way."""
    rng = draw.rng
    side = rng.uniform(*_SIDES)
    far = min(_FARTHEST * draw.recipe.reach, side * rng.uniform(*_LENGTHS))
    heading = rng.uniform(0.0, 2.0 * pi)
    if rng.random() < 0.7:
        path = LayerPath(shift=(far * cos(heading), far * sin(heading)))
    else:
        path = draw.moving(far, determined=True)
    return LayerPlan(draw.crop(), path, draw.in_view(path), small_matte(rng, side))


def _ridden(draw: SceneSampler) -> tuple[list[LayerPlan | None], list[LayerPlan]]:
    """One large mover in the place of both blobs, and its marks, which move as it does."""
    rng, reach = draw.rng, draw.recipe.reach
    side = rng.uniform(0.4, 0.8) * min(draw.size)
    if rng.random() < 0.5:
        path = draw.moving(reach, determined=True)
    else:
        path = LayerPath(shift=tuple(rng.normal(0.0, 0.4 * reach, 2).tolist()))
    x, y = draw.in_view(path)
    matte = Matte(0.42 * side, _swings(rng, 0.15), limit=0.48 * side)
    marks = []
    for _ in range(_count(rng)):
        angle, radius = rng.uniform(0.0, 2.0 * pi), 0.3 * side * rng.random() ** 0.5
        centre = (x + radius * cos(angle), y + radius * sin(angle))
        marks.append(LayerPlan(draw.crop(), path, centre, small_matte(rng, rng.uniform(*_MARKS))))
    return [LayerPlan(draw.crop(), path, (x, y), matte), None], marks


def small_matte(rng: np.random.Generator, side: float) -> Matte:
    """A bar or a blob of about ``side`` pixels."""
    if rng.random() < 0.5:
        angle, half = rng.uniform(0.0, 2.0 * pi), 0.5 * side
        radius = max(1.5, 0.2 * side * rng.uniform(0.6, 1.6))
        return Matte(radius, axis=(half * cos(angle), half * sin(angle)))
    return Matte(0.45 * side, _swings(rng, 0.2), limit=0.6 * side)


def _swings(rng: np.random.Generator, height: float) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(k), rng.normal(0.0, height / (k - 1)), rng.uniform(0.0, 2.0 * pi)) for k in range(2, 6))


def _textureless(rng: np.random.Generator, layer: LayerPlan | None, share: float) -> LayerPlan | None:
    """The layer, in a ``share`` of all cases with little texture."""
    if layer is None or rng.random() >= share:
        return layer
    r, g, b = rng.random(3).tolist()
    textureless = Textureless(
        contrast=rng.uniform(0.0, 0.4),
        smooth=bool(rng.random() < 0.5),
        colour=(r, g, b) if rng.random() < 0.5 else None,
    )
    return replace(layer, crop=replace(layer.crop, textureless=textureless))
