"""Generated evaluation sets: held-out scenes of large curved motion, and the motion laboratory.

``procedural``: photographs rotate rigidly by 35 to 90 degrees about a distant point, their centre moving
60 to 160 pixels, or zoom by 1.3 to 2 times, at constant angular or logarithmic speed, at 448x256.
The two end frames determine the paths, which are far from straight lines, so
these scenes show whether a method models curved motion, which optical flow alone does not.

``procedural-limbs``: a limb of two links over a nearly static background. The lower link rotates
about a joint that moves with the upper one; its centre moves 60 to 160 pixels. The limb covers
about an eighth of the frame, so differences between methods are smaller than in the first set.

The scenes are those of `rdvfi.data.synthetic.curved_scenes`, with random numbers and photographs that
training does not use: 'astronaut' (NASA, public domain), 'coffee'
(Rachel Michetti, CC0) and 'chelsea' (Stefan van der Walt, CC0), which scikit-image contains.
The sets are deterministic, and nothing is downloaded.

``laboratory-determined`` and ``laboratory-undetermined`` hold one scene of each kind of
`rdvfi.evaluation.laboratory`.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.data.synthetic.curved_scenes import CURVED_SCENE_KINDS, curved_scene, limb_scene
from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.data.synthetic.procedural_source import build_scenes
from rdvfi.data.synthetic.sampler import ScenePlan
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.evaluation.evaluation_window import EvaluationWindow, TrueMotion
from rdvfi.evaluation.laboratory import LABORATORY_SETS, MotionScene, motion_scene, motion_scenes
from rdvfi.types import Times

SIZE = (256, 448)
"""(height, width) of the held-out scenes."""
DEFAULT_SCENES = 24
"""Number of scenes of a held-out set."""
_PICTURE_SIZE = (576, 768)
_SEED_STREAM = 2028
"""Part of every seed, which makes the random numbers differ from those of training."""


HELD_OUT_SETS: dict[str, Callable[[np.random.Generator, int, int], ScenePlan]] = {
    "procedural": lambda rng, number, pictures: curved_scene(
        rng, SIZE, pictures, CURVED_SCENE_KINDS[number % len(CURVED_SCENE_KINDS)]
    ),
    "procedural-limbs": lambda rng, _, pictures: limb_scene(rng, SIZE, pictures),
}
"""Functions that plan a scene of each held-out set, from a random generator, its number and the number of pictures."""


def scene_sets() -> list[str]:
    """Names of all sets of generated scenes."""
    return [*HELD_OUT_SETS, *LABORATORY_SETS]


def scene_count(name: str) -> int:
    """Default number of scenes of a set."""
    return len(motion_scenes(determined=LABORATORY_SETS[name])) if name in LABORATORY_SETS else DEFAULT_SCENES


def held_out_pictures() -> PicturePyramid:
    """Photographs of the held-out scenes, cropped to 4:3 and resized to 768x576; needs scikit-image."""
    data = import_optional("skimage.data", "the photographs of procedural sets need", "scikit-image")
    return PicturePyramid(
        torch.stack([_crop_and_resize(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea())])
    )


def _crop_and_resize(picture: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[Tensor, "3 576 768"]:
    """The centre of a picture, cropped and resized to `_PICTURE_SIZE`."""
    (h, w), (target_h, target_w) = picture.shape[:2], _PICTURE_SIZE
    crop_h, crop_w = min(h, w * target_h // target_w), min(w, h * target_w // target_h)
    crop = picture[(h - crop_h) // 2 :, (w - crop_w) // 2 :][:crop_h, :crop_w]
    planes = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(planes, _PICTURE_SIZE, mode="bicubic", align_corners=False)
    return resized[0].round().clamp(0.0, 255.0).byte()


def held_out_plan(name: str, number: int, pictures: int = 3) -> ScenePlan:
    """The plan of scene ``number`` of the set ``name``.

    In ``procedural``, a quarter of the scenes are zooms, a quarter rotate the whole frame, and the others rotate a
    shape.
    """
    if number < 0:
        raise ValueError(f"scene number is {number}; scenes are numbered from 0")
    return HELD_OUT_SETS[name](np.random.default_rng([number, _SEED_STREAM]), number, pictures)


def held_out_scene(name: str, number: int, pictures: PicturePyramid) -> SceneBatch:
    """Scene ``number`` of the set ``name`` over `held_out_pictures`, as a batch of one."""
    return build_scenes([held_out_plan(name, number, len(pictures))], pictures, SIZE)


def procedural_windows(
    gap: int, *, name: str = "procedural", start: int = 0, pairs: int | None = None
) -> Iterator[EvaluationWindow]:
    """One window per scene: both end frames, and the ``gap - 1`` true frames between them."""
    if gap < 2:
        raise ValueError(f"gap is {gap}; it must be at least 2, so that there is a frame between")
    number = scene_count(name) if pairs is None else pairs
    if number < 1:
        raise ValueError(f"pairs is {pairs}; it must be at least 1")
    if start < 0:
        raise ValueError(f"start is {start}; scenes are numbered from 0")
    pictures = None if name in LABORATORY_SETS else held_out_pictures()
    return _generate_windows(gap, name, range(start, start + number), pictures)


def _generate_windows(
    gap: int, name: str, numbers: range, pictures: PicturePyramid | None
) -> Iterator[EvaluationWindow]:
    times = torch.arange(gap + 1) / gap
    for number in numbers:
        scene = _scene(name, number, pictures)
        pixels = (255.0 * scene.frames(times)).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        clip = scene.name if scene.seed == 0 else f"{scene.name} {scene.seed}"
        yield EvaluationWindow(number, pixels, clip, lambda scene=scene: _true_motion(scene, times[1:-1]))


def _scene(name: str, number: int, pictures: PicturePyramid | None) -> MotionScene:
    """Scene ``number`` of a set. A laboratory set has every kind once, then every kind again with the next seed."""
    if pictures is not None:
        return MotionScene(f"{name} {number}", "", True, held_out_scene(name, number, pictures), noise=0.0, seed=0)
    kinds = motion_scenes(determined=LABORATORY_SETS[name])
    return motion_scene(kinds[number % len(kinds)], seed=number // len(kinds))


def _true_motion(scene: MotionScene, times: Times) -> TrueMotion:
    flows, visible = scene.flows(times, torch.arange(2.0))
    return TrueMotion(flows[:, 0], flows[:, 1], visible)
