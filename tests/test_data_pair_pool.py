"""Pools of pairs: small objects move as they shall, flow is exact, photometric augmentation changes nothing else."""

from itertools import islice
from math import hypot
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from torch import Tensor

from data_folder import CAMERA_SPEED, write_data_folder
from rdvfi.data.pair_pool import (
    EXACT,
    FLOWS,
    STRIDES,
    VISIBLE,
    MovingPairs,
    build_pairs,
    reliable_flow_mask,
    render_scene_pairs,
    sample_cell_centres,
    sample_film_pair,
)
from rdvfi.data.photometric_augmentation import PhotometricAugmentation, change_colours
from rdvfi.data.pool import Pool
from rdvfi.data.samples import Film
from rdvfi.data.sources import Batch, BatchSource
from rdvfi.data.symmetries import SymmetryAugmentation, transform_batch
from rdvfi.data.synthetic.procedural_source import MovingTextures
from rdvfi.data.synthetic.sampler import SceneRecipe, SceneSampler
from rdvfi.data.synthetic.small_objects import MAX_SMALL_OBJECTS, sample_detailed_scene
from rdvfi.data.synthetic.textures import Crop, PicturePyramid, Textureless, same_size
from rdvfi.geometry import pixel_grid
from rdvfi.ops import backward_warp

SIZE = (64, 96)
TEXTURES = torch.from_numpy(same_size([data.coffee(), data.chelsea()], (200, 320)))
DETAILED = SceneRecipe(reach=30.0, details=1.0, textureless=0.6, lights=0.0)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return render_scene_pairs(PicturePyramid(TEXTURES), DETAILED, SIZE, range(12), 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pool(folder: Path) -> Pool:
    build_pairs(folder, folder / "pairs", "procedural", 6, size=SIZE, workers=1)
    return Pool(folder / "pairs")


def _sampler(seed: int, recipe: SceneRecipe) -> SceneSampler:
    return SceneSampler(np.random.default_rng(seed), (160, 256), 3, recipe)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999))
def test_recipes_without_details_do_not_change_scenes(seed: int) -> None:
    new, old = _sampler(seed, SceneRecipe()), _sampler(seed, SceneRecipe())
    assert sample_detailed_scene(new) == old.sample_scene()
    assert new.rng.random() == old.rng.random()  # what is drawn after a scene is as it was, too


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999))
def test_small_objects_move_by_their_size_or_with_a_large_object(seed: int) -> None:
    recipe = SceneRecipe(details=1.0)
    scene = sample_detailed_scene(_sampler(seed, recipe))
    assert len(scene.layers) == 5 + MAX_SMALL_OBJECTS
    things = [layer for layer in scene.layers[5:] if layer is not None]
    assert 1 <= len(things) <= MAX_SMALL_OBJECTS
    carrier = scene.layers[1]
    riding = carrier is not None and carrier.path == things[0].path
    for thing in things:
        long = hypot(*thing.matte.axis)
        side = 2.0 * long if long else thing.matte.radius / 0.45
        assert 6.0 <= side * (1.0 + 1e-9) <= 32.0 * (1.0 + 2e-9)
        if riding:
            assert carrier is not None
            assert thing.path == carrier.path
        elif hypot(*thing.path.shift) and not thing.path.angle and thing.path.zoom == 1.0:
            assert hypot(*thing.path.shift) <= 5.0 * side + 1e-6
    less = SceneRecipe(details=0.0, textureless=1.0)
    assert len(sample_detailed_scene(_sampler(seed, less)).layers) == 5


def test_a_plain_texture_keeps_its_mean_or_takes_another_and_loses_contrast() -> None:
    def cut(plain: Textureless | None) -> Tensor:
        whole = Crop(0, 0.5, (0.5, 0.5), (False, False), (1.0, 1.0, 1.0), 1.0, plain)
        return PicturePyramid(TEXTURES).crop([whole], (50, 50))[0]

    before = cut(None)
    after = cut(Textureless(contrast=0.25))
    torch.testing.assert_close(after.mean((1, 2)), before.mean((1, 2)))
    torch.testing.assert_close(after.std((1, 2)), 0.25 * before.std((1, 2)))
    flat = cut(Textureless(contrast=0.0, colour=(0.1, 0.2, 0.3)))
    torch.testing.assert_close(flat.mean((1, 2)), torch.tensor([0.1, 0.2, 0.3]))
    assert flat.std((1, 2)).max() < 1e-6
    smooth = cut(Textureless(contrast=1.0, smooth=True))
    rough = (before.diff(dim=2).abs().mean(), smooth.diff(dim=2).abs().mean())
    assert rough[1] < 0.7 * rough[0]


def _mismatch(batch: Batch, stride: int) -> tuple[Tensor, Tensor]:
    """Differences of colours along the flow, and of flow there and back, at visible cells."""
    frames, flows = batch["frames"].flatten(0, 1), batch[FLOWS[stride]].flatten(0, 1).float()
    others = batch["frames"].flip(1).flatten(0, 1)
    seen = batch[VISIBLE[stride]].flatten(0, 1).bool()
    h, w = frames.shape[-2:]
    cells = stride * (pixel_grid(*flows.shape[-2:]) + 0.5) - 0.5

    def at(images: Tensor, places: Tensor) -> Tensor:
        where = (2.0 * places + 1.0) / places.new_tensor([w, h])[:, None, None] - 1.0
        where = where.permute(0, 2, 3, 1)
        return torch.nn.functional.grid_sample(images, where, padding_mode="border", align_corners=False)

    here = at(frames, cells.expand(len(frames), -1, -1, -1))
    there = at(others, cells + flows)
    return (here - there).abs().mean(1)[seen], flows[:, 0][seen]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("ways", [{}, {"mirror": True, "flip": True}, {"reverse": True}])
def test_flow_of_scenes_connects_equal_colours(batch: Batch, stride: int, ways: dict[str, bool]) -> None:
    error, flow = _mismatch(transform_batch(batch, **ways), stride)
    assert error.quantile(0.9) < 0.02
    assert error.mean() < 0.015
    assert flow.abs().max() > 15.0
    wrong = {**batch, FLOWS[stride]: -batch[FLOWS[stride]]}
    assert _mismatch(wrong, stride)[0].mean() > 3.0 * error.mean()


def test_generated_pairs_depend_on_their_number_alone() -> None:
    source = MovingPairs(PicturePyramid(TEXTURES), SIZE, DETAILED)
    assert isinstance(source, BatchSource)
    later = next(source.batches(2, 3, start=1))
    alone = render_scene_pairs(PicturePyramid(TEXTURES), DETAILED, SIZE, range(2, 4), 3)
    assert later.keys() == alone.keys()
    assert all(torch.equal(later[name], value) for name, value in alone.items())
    with pytest.raises(ValueError, match="multiples of 16"):
        MovingPairs(PicturePyramid(TEXTURES), (60, 96))


def test_scenes_are_generated_without_synchronising_with_the_device() -> None:
    """Shapes alone, on the device `meta`: whatever reads a value back fails there."""
    pictures = torch.empty(3, 3, 200, 320, dtype=torch.uint8, device="meta")
    recipe = SceneRecipe(reach=30.0, details=1.0, textureless=0.6, waves=0.7)
    pairs = next(MovingPairs(PicturePyramid(pictures), SIZE, recipe).batches(3, 1))
    clips = next(MovingTextures(pictures, SIZE, recipe=recipe, exposures=3).batches(3, 1))
    assert {value.device.type for batch in (pairs, clips) for value in batch.values()} == {"meta"}
    assert pairs["frames"].shape == (3, 2, 3, *SIZE)
    assert clips["frames"].shape == (3, 12, 3, *SIZE)


def test_coarse_flow_of_scenes_is_read_at_the_centre_of_its_cells(batch: Batch) -> None:
    fine, coarse = batch[FLOWS[2]], batch[FLOWS[8]]
    four = fine.unflatten(-1, (12, 4)).unflatten(-3, (8, 4))[..., 1:3, :, 1:3].mean((-3, -1))
    assert (four - coarse).norm(dim=2).median() < 1e-3
    assert batch[EXACT].all()


def test_flow_of_film_is_that_of_the_camera(folder: Path) -> None:
    film, known = Film(folder / "film.npy"), 0.0
    for seed in range(4):
        pair = sample_film_pair(film, SIZE, np.random.default_rng(seed))
        again = sample_film_pair(film, SIZE, np.random.default_rng(seed))
        assert all(torch.equal(pair[name], again[name]) for name in pair)
        assert not pair[EXACT].any()
        span = int(np.random.default_rng(seed).choice((2, 4, 6, 8, 8, 9, 12, 16, 24)))
        for stride in STRIDES:
            seen, flows = pair[VISIBLE[stride]][0], pair[FLOWS[stride]][0]
            known += float(seen.float().mean()) / (4 * len(STRIDES))
            if not seen.any():
                continue
            onward, back = (flows[i].permute(1, 2, 0)[seen[i]].median(0).values for i in (0, 1))
            assert 0.37 * CAMERA_SPEED * span - 0.3 <= abs(onward[0]) <= CAMERA_SPEED * span + 0.3  # some are mirrored
            torch.testing.assert_close(onward, -back, rtol=0.02, atol=0.3)
            assert onward[1].abs() < 0.3
    assert known > 0.5


def test_only_consistent_flow_between_similar_colours_is_reliable() -> None:
    wall = torch.from_numpy(data.astronaut()[50:98, 60:140].copy()).permute(2, 0, 1) / 255.0
    first, second = wall[:, :, 6:70], wall[:, :, :64].clone()
    flows = torch.zeros(2, 2, 48, 64)
    flows[0, 0], flows[1, 0] = 6.0, -6.0
    second[:, 10:20, 30:40] = 1.0 - second[:, 10:20, 30:40]  # looks otherwise
    flows[0, 0, 30:40, 20:30] = 9.0  # does not come back
    known = reliable_flow_mask(torch.stack((first, second)), flows)
    assert not known[0, :, 58:].any()  # leads out of the picture
    assert not known[0, 11:19, 25:33].any()
    assert not known[0, 31:39, 21:29].any()
    assert known[0, 42:, :50].all()
    assert known[1, 12:18, :6].logical_not().all()
    back = backward_warp(flows[1:], flows[:1])[0]
    assert ((flows[0] + back).norm(dim=0)[known[0]] < 0.5 + 0.03 * 9.0).all()
    found, sure = sample_cell_centres(flows, known, 8)
    assert found.shape == (2, 2, 6, 8)
    assert (found[0, 0][sure[0]] == 6.0).all()
    torn = torch.zeros(2, 2, 8, 8)
    torn[:, 0, :, 4:] = 5.0
    everywhere = torch.ones(2, 8, 8, dtype=torch.bool)
    assert not sample_cell_centres(torn, everywhere, 8)[1].any()  # two surfaces meet at the centre
    assert sample_cell_centres(torn, everywhere, 4)[1].all()


def test_augmented_pools_of_pairs_start_at_any_index(pool: Pool) -> None:
    assert pool.batch([0])["frames"].shape == (1, 2, 3, *SIZE)
    source = SymmetryAugmentation(PhotometricAugmentation(pool))
    assert isinstance(source, BatchSource)
    whole = list(islice(source.batches(2, 5), 7))
    for late, one in zip(source.batches(2, 5, start=4), whole[4:], strict=False):
        assert all(torch.equal(late[name], one[name]) for name in one)
    assert not torch.equal(whole[0]["frames"], whole[1]["frames"])


def test_a_pool_of_pairs_depends_on_its_numbers_alone(pool: Pool, folder: Path) -> None:
    build_pairs(folder, folder / "again", "procedural", 3, size=SIZE, workers=1)
    few, many = Pool(folder / "again").batch([2]), pool.batch([2])
    assert all(torch.equal(few[name], many[name]) for name in many)
    stored = {name: value for name, value in many.items() if name != "frames"}
    build_pairs(folder, folder / "again", "film", 9, size=SIZE)  # nothing is made twice
    assert all(torch.equal(Pool(folder / "again").batch([2])[k], v) for k, v in stored.items())


def test_colours_change_alike_in_both_pictures_and_differ_between_pairs() -> None:
    frames = torch.rand(1, 1, 3, 8, 8).expand(64, 2, -1, -1, -1)
    made = change_colours(frames, 1.0, torch.Generator().manual_seed(1))
    assert made.min() >= 0.0
    assert made.max() <= 1.0
    between = (made[:, 0] - made[:, 1]).abs().mean((1, 2, 3))
    changed = (made[:, 0] - frames[:, 0]).abs().mean((1, 2, 3))
    assert between.mean() < 0.5 * changed.mean()
    assert between.min() > 0.0
    assert len(set(made[:, 0].mean((1, 2, 3)).tolist())) == 64
    grey = (made - made.mean(2, keepdim=True)).abs().amax((1, 2, 3, 4)) < 1e-6
    assert 1 <= int(grey.sum()) <= 25
    still = change_colours(frames, 0.0, torch.Generator().manual_seed(1))
    torch.testing.assert_close(still, frames, rtol=0, atol=2e-4)


def test_colours_of_a_clip_change_alike_in_all_frames() -> None:
    frames = torch.rand(8, 1, 3, 8, 8).expand(-1, 5, -1, -1, -1)
    changed = change_colours(frames, 1.0, torch.Generator().manual_seed(1), per_clip=True)
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed), rtol=0, atol=0)
    assert (changed - frames).abs().mean() > 0.02


def test_invalid_settings_of_pairs_are_refused(folder: Path, pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pairs of kind 'real'; expected one of procedural"):
        build_pairs(folder, tmp_path / "x", "real", 1)
    with pytest.raises(ValueError, match=r"pairs are \(64, 90\); both sides must be"):
        build_pairs(folder, tmp_path / "x", "film", 1, size=(64, 90))
    with pytest.raises(ValueError, match="larger than the film"):
        build_pairs(folder, tmp_path / "x", "film", 1, size=(176, 256))
    with pytest.raises(ValueError, match="strength must not be negative; got -1"):
        PhotometricAugmentation(pool, -1.0)
    with pytest.raises(ValueError, match=r"details is 2\.0; a share lies in"):
        SceneRecipe(details=2.0)
    assert not (tmp_path / "x").exists()
