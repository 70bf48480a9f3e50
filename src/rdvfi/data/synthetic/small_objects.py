"""Small fast objects and textureless surfaces, which are hard for flow estimators.

If an object moves by more than its own size, no similar pixels are near its old position in the other picture
(Brox and Malik, Large Displacement Optical Flow, PAMI 2011). The motion of a textureless surface can be seen
only at its edges and marks. Scenes with details have both: up to three shapes of 6 to 32 pixels that move by
0.5 to 5 times their size, or that are marks on one large textureless object; and many of their layers are
textureless.

Details are sampled after the rest of a scene, so they do not change the random numbers of the other layers.
"""

from dataclasses import replace
from math import cos, pi, sin

import numpy as np

from rdvfi.data.synthetic.object_paths import LayerPath
from rdvfi.data.synthetic.sampler import LayerPlan, ScenePlan, SceneSampler, sample_radius_waves
from rdvfi.data.synthetic.textures import Matte, Textureless

MAX_SMALL_OBJECTS = 3
_SIDE_RANGE = (6.0, 32.0)
"""Size of a small object in pixels."""
_MARK_SIDE_RANGE = (6.0, 24.0)
"""Size of a mark on a large object in pixels."""
_RELATIVE_DISPLACEMENT_RANGE = (0.5, 5.0)
"""Displacement of a small object, relative to its size."""
_MAX_RELATIVE_REACH = 1.25
"""Largest displacement of a small object, relative to the recipe's ``reach``."""


def sample_detailed_scene(sampler: SceneSampler) -> ScenePlan:
    """A random scene, with details according to the sampler's recipe.

    All scenes of one recipe have the same number of layer slots.
    """
    scene, recipe = sampler.sample_scene(), sampler.recipe
    if recipe.details == 0.0 and recipe.textureless == 0.0:
        return scene
    has_details = bool(sampler.rng.random() < recipe.details)
    layers, small = list(scene.layers), []
    if has_details and sampler.rng.random() < 0.4:
        layers[1:3], small = _sample_marked_mover(sampler)
    elif has_details:
        small = [_sample_small_object(sampler) for _ in range(_sample_count(sampler.rng))]
    if recipe.details > 0.0:
        layers += small + [None] * (MAX_SMALL_OBJECTS - len(small))
    share = recipe.textureless if has_details else recipe.textureless / 6.0
    return replace(scene, layers=tuple(_remove_texture_at_random(sampler.rng, layer, share) for layer in layers))


def _sample_count(rng: np.random.Generator) -> int:
    return int(rng.integers(1, MAX_SMALL_OBJECTS + 1))


def _sample_small_object(sampler: SceneSampler) -> LayerPlan:
    """A small shape that moves independently."""
    rng = sampler.rng
    side = rng.uniform(*_SIDE_RANGE)
    displacement = min(_MAX_RELATIVE_REACH * sampler.recipe.reach, side * rng.uniform(*_RELATIVE_DISPLACEMENT_RANGE))
    heading = rng.uniform(0.0, 2.0 * pi)
    if rng.random() < 0.7:
        path = LayerPath(shift=(displacement * cos(heading), displacement * sin(heading)))
    else:
        path = sampler.sample_path(displacement, determined=True)
    return LayerPlan(sampler.sample_crop(), path, sampler.sample_visible_centre(path), small_matte(rng, side))


def _sample_marked_mover(sampler: SceneSampler) -> tuple[list[LayerPlan | None], list[LayerPlan]]:
    """One large textureless object, which replaces both blobs, and the marks that move with it."""
    rng, reach = sampler.rng, sampler.recipe.reach
    side = rng.uniform(0.4, 0.8) * min(sampler.size)
    if rng.random() < 0.5:
        path = sampler.sample_path(reach, determined=True)
    else:
        path = LayerPath(shift=tuple(rng.normal(0.0, 0.4 * reach, 2).tolist()))
    x, y = sampler.sample_visible_centre(path)
    matte = Matte(0.42 * side, sample_radius_waves(rng, 0.15), limit=0.48 * side)
    marks = []
    for _ in range(_sample_count(rng)):
        angle, radius = rng.uniform(0.0, 2.0 * pi), 0.3 * side * rng.random() ** 0.5
        centre = (x + radius * cos(angle), y + radius * sin(angle))
        marks.append(LayerPlan(sampler.sample_crop(), path, centre, small_matte(rng, rng.uniform(*_MARK_SIDE_RANGE))))
    return [LayerPlan(sampler.sample_crop(), path, (x, y), matte), None], marks


def small_matte(rng: np.random.Generator, side: float) -> Matte:
    """A random bar or blob of about ``side`` pixels."""
    if rng.random() < 0.5:
        angle, half = rng.uniform(0.0, 2.0 * pi), 0.5 * side
        radius = max(1.5, 0.2 * side * rng.uniform(0.6, 1.6))
        return Matte(radius, axis=(half * cos(angle), half * sin(angle)))
    return Matte(0.45 * side, sample_radius_waves(rng, 0.2), limit=0.6 * side)


def _remove_texture_at_random(rng: np.random.Generator, layer: LayerPlan | None, share: float) -> LayerPlan | None:
    """The layer; with probability ``share`` it loses most of its texture."""
    if layer is None or rng.random() >= share:
        return layer
    r, g, b = rng.random(3).tolist()
    textureless = Textureless(
        contrast=rng.uniform(0.0, 0.4),
        smooth=bool(rng.random() < 0.5),
        colour=(r, g, b) if rng.random() < 0.5 else None,
    )
    return replace(layer, crop=replace(layer.crop, textureless=textureless))
