"""A pool of pairs of images with known flow, for training the coarse flow.

A pair has two pictures and no frames between them. There are two kinds:

- ``procedural``: the ends of a random scene, or two closer times, with exact flow.
  Scenes are those of `rdvfi.data.synthetic.procedural_source`, with small fast objects and textureless surfaces
  (`rdvfi.data.synthetic.small_objects`).
- ``film``: two frames of the film, up to a second apart. The flow of `sift-dis` is used as the target where it
  is forward-backward consistent (as in Meister et al., UnFlow, AAAI 2018, https://arxiv.org/abs/1711.07837)
  and where the colours agree along it; elsewhere the flow counts as unknown.

Flow is stored at strides 8, 4 and 2, each sampled at the centres of its own cells: at the edge of a
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

from rdvfi.data.datasets.clip_folder import random_crop
from rdvfi.data.pool import (
    FRAME_SIZE,
    MAX_DISPLACEMENT,
    POOL_SEED,
    SAMPLE_KINDS,
    MakeSample,
    classical_flows,
    fill_folder,
    to_storage,
)
from rdvfi.data.samples import Film, load_textures
from rdvfi.data.sources import Batch, check_batch_request
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
SIZE_MULTIPLE = 16
"""Sides of pictures must be multiples of this, since the learned flow would pad them and shift its cells."""

_PARTIAL_FRACTION = 0.3
"""Fraction of pairs that do not span the whole scene."""
_FILM_SPANS = (2, 4, 6, 8, 8, 9, 12, 16, 24)
"""Distances in frames between the two pictures of the film, sampled uniformly."""
_MAX_ERROR, _MAX_RELATIVE_ERROR = 0.5, 0.03
"""Largest forward-backward error of a reliable flow: in pixels, and relative to its length."""
_MAX_COLOUR_DIFFERENCE = 0.06
"""Largest mean absolute difference of the colours along a reliable flow."""
_MAX_SPREAD = 1.0
"""Largest difference, in pixels, of the flows around the centre of a cell."""


def pair_recipe(size: tuple[int, int]) -> SceneRecipe:
    """Distribution of the scenes of pairs; displacements scale with the image width."""
    return SceneRecipe(reach=MAX_DISPLACEMENT * size[1] / FRAME_SIZE[1], details=0.45, textureless=0.6)


@torch.no_grad()
def render_scene_pairs(
    pictures: PicturePyramid, recipe: SceneRecipe, size: tuple[int, int], numbers: range, seed: int
) -> Batch:
    """The procedural pairs with these numbers.

    Returns:
        ``frames`` (b, 2, 3, h, w) in [0, 1]; ``flows_S`` (b, 2, 2, h / S, w / S) for each stride S,
        from the first picture to the second and back, in full-size pixels, on the TARGET grid of
        the picture that they start from; ``visible_S`` (b, 2, h / S, w / S), whether the other
        picture shows the point; ``exact`` (b,), whether the flow of occluded points is known.
    """
    rngs = [np.random.default_rng([seed, number]) for number in numbers]
    samplers = [SceneSampler(rng, size, len(pictures), recipe) for rng in rngs]
    scenes = build_scenes([sample_detailed_scene(sampler) for sampler in samplers], pictures, size)
    starts = [rng.uniform(0.0, 0.6) if rng.random() < _PARTIAL_FRACTION else 0.0 for rng in rngs]
    times = torch.tensor([(start, 1.0) for start in starts])
    frames, labels = scenes.frames(times)
    batch = {"frames": frames, EXACT: torch.ones(len(rngs), dtype=torch.bool, device=frames.device)}
    for stride in STRIDES:
        flows, visible = scenes.flows(times, torch.tensor([[1], [0]]), labels, stride=stride)
        batch[FLOWS[stride]], batch[VISIBLE[stride]] = flows[:, :, 0], visible[:, :, 0]
    return batch


@dataclass(frozen=True, eq=False)
class MovingPairs:
    """A source of procedural pairs that are generated during training, on the device of the pictures.

    ``size``, (height, width), must be multiples of `SIZE_MULTIPLE`; ``recipe`` is `pair_recipe` by default.
    """

    pictures: PicturePyramid
    size: tuple[int, int] = FRAME_SIZE
    recipe: SceneRecipe | None = None

    def __post_init__(self) -> None:
        check_pair_size(self.size)

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; pair ``j`` of batch ``i`` is generated from ``(seed, i size + j)``."""
        check_batch_request(size, start)
        recipe = self.recipe or pair_recipe(self.size)
        numbers = (range(i * size, (i + 1) * size) for i in count(start))
        return (render_scene_pairs(self.pictures, recipe, self.size, each, seed) for each in numbers)


def check_pair_size(size: tuple[int, int]) -> None:
    """Raise a ValueError if the sides are too small or not multiples of `SIZE_MULTIPLE`."""
    if min(size) < 2 * SIZE_MULTIPLE or size[0] % SIZE_MULTIPLE or size[1] % SIZE_MULTIPLE:
        raise ValueError(
            f"pairs are {size}; both sides must be at least {2 * SIZE_MULTIPLE} and multiples of {SIZE_MULTIPLE}"
        )


def sample_film_pair(film: Film, size: tuple[int, int], rng: np.random.Generator) -> Batch:
    """A random pair of the film, reduced and cropped at random: a batch of one, as `render_scene_pairs` returns.

    Raises:
        ValueError: If ``size`` is larger than the film.
    """
    if size[0] > film.frames.shape[1] or size[1] > film.frames.shape[2]:
        raise ValueError(f"pairs are {size}, larger than the film, {film.frames.shape[1:3]}")
    span = int(rng.choice(_FILM_SPANS))
    start = film.window(rng, span + 1)
    first, last = random_crop(rng, [film.frames[start], film.frames[start + span]], size)
    frames = torch.from_numpy(np.stack((first, last))).permute(0, 3, 1, 2).float() / 255.0
    flows = classical_flows(first, last)
    mask = reliable_flow_mask(frames, flows)
    batch = {"frames": frames[None], EXACT: torch.zeros(1, dtype=torch.bool)}
    for stride in STRIDES:
        centres, valid = sample_cell_centres(flows, mask, stride)
        batch[FLOWS[stride]], batch[VISIBLE[stride]] = centres[None], valid[None]
    return batch


def reliable_flow_mask(frames: Float[Tensor, "2 3 h w"], flows: Float[Tensor, "2 2 h w"]) -> Bool[Tensor, "2 h w"]:
    """Where a flow stays inside the picture, is forward-backward consistent, and connects similar colours."""
    error = flow_length(flows + backward_warp(flows.flip(0), flows))
    is_consistent = error < _MAX_ERROR + _MAX_RELATIVE_ERROR * flow_length(flows)
    difference = (backward_warp(frames.flip(0), flows) - frames).abs().mean(1)
    return (stays_inside(flows) & is_consistent)[:, 0] & (difference < _MAX_COLOUR_DIFFERENCE)


def sample_cell_centres(
    flows: Float[Tensor, "2 2 h w"], mask: Bool[Tensor, "2 h w"], stride: int
) -> tuple[Float[Tensor, "2 2 hs ws"], Bool[Tensor, "2 hs ws"]]:
    """Flow at the centres of cells, the mean of four pixels, and whether the four are reliable and agree."""
    first = stride // 2 - 1
    lines = [slice(start, None, stride) for start in (first, first + 1)]
    pixels = [(..., y, x) for y in lines for x in lines]
    neighbours = torch.stack([flows[pixel] for pixel in pixels])
    spread = (neighbours.amax(0) - neighbours.amin(0)).amax(1)
    reliable = torch.stack([mask[pixel] for pixel in pixels]).all(0)
    return neighbours.mean(0), reliable & (spread < _MAX_SPREAD)


def _create_sample_maker(data: Path, kind: str, size: tuple[int, int]) -> MakeSample:
    if kind == "film":
        film = Film(data / "film.npy")
        return lambda number: to_storage(sample_film_pair(film, size, np.random.default_rng([POOL_SEED, number])))
    pictures, recipe = PicturePyramid(torch.from_numpy(load_textures(data))), pair_recipe(size)
    return lambda number: to_storage(render_scene_pairs(pictures, recipe, size, range(number, number + 1), POOL_SEED))


def build_pairs(
    data: Path, folder: Path, kind: str, count: int, *, size: tuple[int, int] = FRAME_SIZE, workers: int = 2
) -> None:
    """Generate ``count`` pairs of one kind in ``folder``, as `rdvfi.data.pool.build_pool` does with samples.

    Raises:
        ValueError: If ``kind`` is unknown, or ``size`` does not fit.
    """
    if kind not in SAMPLE_KINDS:
        raise ValueError(f"no pairs of kind {kind!r}; expected one of {', '.join(SAMPLE_KINDS)}")
    check_pair_size(size)
    fill_folder(folder, partial(_create_sample_maker, data, kind, size), count, workers)
