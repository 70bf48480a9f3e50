"""Held-out scenes of large curved motion that the end frames determine, in two sets.

``procedural``: photographs turn rigidly by 35 to 90 degrees about a far point, their centre moving
60 to 160 pixels, or zoom by 1.3 to 2 times, at constant angular or logarithmic speed, at 448x256.
Nothing but the two end frames is needed to know the path, and it is far from a straight line: so
these scenes show whether motion is bent, where plain optical flow cannot.

``procedural-limbs``: a limb of two links over a background that hardly moves. The lower link turns
about a joint that the upper one carries along; its middle moves 60 to 160 pixels. The limb covers
about an eighth of the frame, so differences between methods are smaller than in the first set.

The scenes are `rdvfi.data.synthetic.procedural.curved_scene` and `rdvfi.data.synthetic.limbs.limb_scene` with seeds
that training never draws, over photographs that training never sees: 'astronaut' (NASA, public
domain), 'coffee' (Rachel Michetti, CC0) and 'chelsea' (Stefan van der Walt, CC0), which come inside
scikit-image. A layer and what is behind it are never of the same photograph, and none is tiled, for
where a picture repeats itself its end frames do not determine the motion. Everything is
deterministic, and nothing is downloaded.
"""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from rdvfi.data.synthetic.limbs import limb_scene
from rdvfi.data.synthetic.procedural import Picture, Scene, curved_scene
from rdvfi.evaluation.clips import Window

SETS: dict[str, Callable[[int, list[Picture]], Scene]] = {
    "procedural": curved_scene,
    "procedural-limbs": limb_scene,
}
"""What draws the scenes of each set, 448x256, from a seed and photographs."""
SCENES = 24
"""Scenes of a set, unless another number is asked for."""
_FIRST_SEED = 900_000
_SEED_STEP = 1000
"""To the next seed for a scene; a multiple of four, which keeps its kind of motion."""


def held_out_pictures() -> list[Picture]:
    """Photographs of the held-out scenes.

    Raises:
        ImportError: If scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "procedural sets take their photographs from scikit-image, which is not installed; pip install scikit-image"
        ) from error
    return [data.astronaut(), data.coffee(), data.chelsea()]


def held_out_scene(number: int, pictures: list[Picture], *, name: str = "procedural") -> Scene:
    """Scene ``number`` of the set ``name`` over `held_out_pictures`.

    In ``procedural`` every fourth is a zoom, every fourth turns the whole frame, the others turn a
    layer.
    """
    if number < 0:
        raise ValueError(f"scene number is {number}; scenes are numbered from 0")
    draw = SETS[name]
    # Flat pictures of the same sizes, each of its own colour, tell which one a texture comes from.
    marks = [np.full_like(picture, index) for index, picture in enumerate(pictures)]
    for seed in count(_FIRST_SEED + number, _SEED_STEP):
        marked = draw(seed, marks).layers
        if len({int(layer.texture[0, 0, 0]) for layer in marked}) == len(marked):
            return draw(seed, pictures)
    raise AssertionError("unreachable: seeds do not end")


def procedural_windows(
    gap: int, *, name: str = "procedural", start: int = 0, pairs: int | None = None
) -> Iterator[Window]:
    """One window per scene: both end frames, and the ``gap - 1`` true frames between them."""
    if gap < 2:
        raise ValueError(f"gap is {gap}; it must be at least 2, so that a frame lies between")
    number = SCENES if pairs is None else pairs
    if number < 1:
        raise ValueError(f"pairs is {pairs}; it must be at least 1")
    if start < 0:
        raise ValueError(f"start is {start}; scenes are numbered from 0")
    scenes = range(start, start + number)
    return _windows(gap, name, scenes, held_out_pictures())


def _windows(gap: int, name: str, scenes: range, pictures: list[Picture]) -> Iterator[Window]:
    for number in scenes:
        scene = held_out_scene(number, pictures, name=name)
        yield Window(number, np.stack([scene.frame(i / gap) for i in range(gap + 1)]))
