"""A pool of pairs of images with known flow, for training the coarse flow.

A pair has two pictures and nothing between them. There are
two kinds:

- ``procedural``: the ends of a random scene, or two closer times, with exact flow.
  Beside the scenes of `rdvfi.data.synthetic.procedural_source` it has small fast objects and textureless surfaces
  (`rdvfi.data.synthetic.small_objects`).
- ``film``: two frames of the film, up to a second apart. What `sift-dis` finds there is taken for
  the truth where it is forward-backward consistent and where the pictures agree along it, a strict
  form of the consistency of Meister et al. (UnFlow, AAAI 2018, https://arxiv.org/abs/1711.07837);
  elsewhere the flow counts as unknown.

Flow is kept at strides 8, 4 and 2, each read at the centres of its own cells: at the edge of a
moving object no stride can be derived from another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.data.datasets.clip_folder import cropped
from rdvfi.data.pool import KINDS, REACH, SIZE, MakeSample, classical_flows, fill_folder, stored
from rdvfi.data.samples import Film, load_textures
from rdvfi.data.sources import Batch, check
from rdvfi.data.synthetic.procedural_source import build_scenes
from rdvfi.data.synthetic.sampler import SceneRecipe, SceneSampler
from rdvfi.data.synthetic.small_objects import sample_detailed_scene
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.geometry import flow_length, stays_inside
from rdvfi.ops import backward_warp

STRIDES = (8, 4, 2)
FLOWS = {stride: f"flows_{stride}" for stride in STRIDES}
VISIBLE = {stride: f"visible_{stride}" for stride in STRIDES}
EXACT = "exact"
MULTIPLE = 16
"""Sides of pictures: the learned flow pads others, and its cells would not be ours."""

_NEARER = 0.3
"""Share of pairs that do not span a whole scene."""
_SPANS = (2, 4, 6, 8, 8, 9, 12, 16, 24)
"""Frames of the film from one picture to the other, drawn uniformly."""
_APART, _RELATIVE = 0.5, 0.03
"""Largest forward-backward error of a film's flow: in pixels, and of its own length."""
_UNLIKE = 0.06
"""Mean difference of the colours, above which the pictures disagree."""
_ONE_SURFACE = 1.0
"""Pixels that flows around the centre of a cell may differ by."""


def pair_recipe(size: tuple[int, int]) -> SceneRecipe:
    """Parameters of the scenes of pairs; displacements scale with the image size."""
    return SceneRecipe(reach=REACH * size[1] / SIZE[1], details=0.45, textureless=0.6)


@torch.no_grad()
def scene_pairs(
    pictures: PicturePyramid, recipe: SceneRecipe, size: tuple[int, int], numbers: range, seed: int
) -> Batch:
    """Procedural pairs by number.

    Returns:
        ``frames`` (b, 2, 3, h, w) in [0, 1]; ``flows_S`` (b, 2, 2, h / S, w / S) for each stride S,
        from the first picture to the second and back, in full-size pixels, on the TARGET grid of
        the picture that they start from; ``visible_S`` (b, 2, h / S, w / S), whether the other
        picture shows the point; ``exact`` (b,), whether flow is known where it is not visible.
    """
    rngs = [np.random.default_rng([seed, number]) for number in numbers]
    draws = [SceneSampler(rng, size, len(pictures), recipe) for rng in rngs]
    scenes = build_scenes([sample_detailed_scene(draw) for draw in draws], pictures, size)
    starts = [rng.uniform(0.0, 0.6) if rng.random() < _NEARER else 0.0 for rng in rngs]
    times = torch.tensor([(start, 1.0) for start in starts])
    frames, labels = scenes.frames(times)
    batch = {"frames": frames, EXACT: torch.ones(len(rngs), dtype=torch.bool, device=frames.device)}
    for stride in STRIDES:
        flows, visible = scenes.flows(times, torch.tensor([[1], [0]]), labels, stride=stride)
        batch[FLOWS[stride]], batch[VISIBLE[stride]] = flows[:, :, 0], visible[:, :, 0]
    return batch


@dataclass(frozen=True, eq=False)
class MovingPairs:
    """A source of procedural pairs, drawn where training runs; nothing is kept.

    Args:
        pictures: For textures, on the device where batches are made.
        size: (height, width) of the frames, multiples of `MULTIPLE`.
        recipe: What scenes hold; `pair_recipe` by default.
    """

    pictures: PicturePyramid
    size: tuple[int, int] = SIZE
    recipe: SceneRecipe | None = None

    def __post_init__(self) -> None:
        check_size(self.size)

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; pair ``j`` of batch ``i`` is drawn from ``(seed, i size + j)``."""
        check(size, start)
        recipe = self.recipe or pair_recipe(self.size)
        numbers = (range(i * size, (i + 1) * size) for i in count(start))
        return (scene_pairs(self.pictures, recipe, self.size, each, seed) for each in numbers)


def check_size(size: tuple[int, int]) -> None:
    """Refuse pictures that the strides do not divide."""
    if min(size) < 2 * MULTIPLE or size[0] % MULTIPLE or size[1] % MULTIPLE:
        raise ValueError(f"pairs are {size}; both sides must be at least {2 * MULTIPLE} and multiples of {MULTIPLE}")


def film_pair(film: Film, size: tuple[int, int], rng: np.random.Generator) -> Batch:
    """One pair of the film, reduced at random and cropped: as `scene_pairs`, a batch of one.

    Raises:
        ValueError: If ``size`` is larger than the film.
    """
    if size[0] > film.frames.shape[1] or size[1] > film.frames.shape[2]:
        raise ValueError(f"pairs are {size}, larger than the film, {film.frames.shape[1:3]}")
    span = int(rng.choice(_SPANS))
    start = film.window(rng, span + 1)
    first, last = cropped(rng, [film.frames[start], film.frames[start + span]], size)
    frames = torch.from_numpy(np.stack((first, last))).permute(0, 3, 1, 2).float() / 255.0
    flows = classical_flows(first, last)
    mask = trusted(frames, flows)
    batch = {"frames": frames[None], EXACT: torch.zeros(1, dtype=torch.bool)}
    for stride in STRIDES:
        centres, valid = at_centres(flows, mask, stride)
        batch[FLOWS[stride]], batch[VISIBLE[stride]] = centres[None], valid[None]
    return batch


def trusted(frames: Float[Tensor, "2 3 h w"], flows: Float[Tensor, "2 2 h w"]) -> Bool[Tensor, "2 h w"]:
    """Where a flow stays in the picture, is forward-backward consistent, and joins like colours."""
    apart = flow_length(flows + backward_warp(flows.flip(0), flows))
    returns = apart < _APART + _RELATIVE * flow_length(flows)
    unlike = (backward_warp(frames.flip(0), flows) - frames).abs().mean(1)
    return (stays_inside(flows) & returns)[:, 0] & (unlike < _UNLIKE)


def at_centres(
    flows: Float[Tensor, "2 2 h w"], mask: Bool[Tensor, "2 h w"], stride: int
) -> tuple[Float[Tensor, "2 2 hs ws"], Bool[Tensor, "2 hs ws"]]:
    """Flow at the centres of cells, each between four pixels, and whether these agree."""
    before = stride // 2 - 1
    rows = [slice(first, None, stride) for first in (before, before + 1)]
    four = [(..., y, x) for y in rows for x in rows]
    neighbours = torch.stack([flows[place] for place in four])
    spread = (neighbours.amax(0) - neighbours.amin(0)).amax(1)
    sure = torch.stack([mask[place] for place in four]).all(0)
    return neighbours.mean(0), sure & (spread < _ONE_SURFACE)


def _maker(data: Path, kind: str, size: tuple[int, int], seed: int) -> MakeSample:
    if kind == "film":
        film = Film(data / "film.npy")
        return lambda number: stored(film_pair(film, size, np.random.default_rng([seed, number])))
    pictures, recipe = PicturePyramid(torch.from_numpy(load_textures(data))), pair_recipe(size)
    return lambda number: stored(scene_pairs(pictures, recipe, size, range(number, number + 1), seed))


def build_pairs(
    data: Path, folder: Path, kind: str, count: int, *, size: tuple[int, int] = SIZE, seed: int = 1, workers: int = 2
) -> None:
    """Make ``count`` pairs of one kind in ``folder``, as `rdvfi.data.pool.build_pool` makes samples.

    Raises:
        ValueError: If ``kind`` is unknown, or ``size`` does not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"no pairs of kind {kind!r}; expected one of {', '.join(KINDS)}")
    check_size(size)
    fill_folder(folder, partial(_maker, data, kind, size, seed), count, workers)
