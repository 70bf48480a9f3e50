"""Mirrored, flipped and time-reversed clips: their motion is transformed consistently."""

import itertools
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from rdvfi.data.sources import Batch, BatchSource
from rdvfi.data.symmetries import SymmetryAugmentation, transform_batch
from rdvfi.data.synthetic.procedural_source import KNOTS, MovingTextures
from rdvfi.data.synthetic.sampler import SceneRecipe
from rdvfi.data.synthetic.textures import same_size
from rdvfi.models import create_model
from rdvfi.ops import backward_warp
from rdvfi.training.feeds import open_feed
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.stage import DataConfig

TEXTURES = torch.from_numpy(same_size([data.astronaut(), data.coffee()], (200, 320)))
PLAIN = SceneRecipe(reach=30.0, lights=0.0, blurred=0.0)
SOURCE = MovingTextures(TEXTURES, (64, 96), free=2, stride=1, recipe=PLAIN, exposures=1)
COMBINATIONS = [
    {"mirror": mirror, "flip": flip, "reverse": reverse}
    for mirror, flip, reverse in itertools.product((False, True), repeat=3)
]


@pytest.fixture(scope="module")
def batch() -> Batch:
    made = SOURCE.samples(range(3), 3)
    b, t, _, h, w = made["frames"].shape
    draw = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw)

    return {
        **made,
        "coarse": noise(b, 2, 2, h, w),
        "latents": noise(b, KNOTS, 4, h // 8, w // 8),
        "teacher": noise(b, t - KNOTS, 2, 2, h, w),
        "teacher_mask": noise(b, t - KNOTS, 1, h, w),
    }


def _error(batch: Batch, moment: int, target: int, other: int) -> Tensor:
    """How far a frame is from what its exact flow says it is, where that can be seen."""
    frames = batch["frames"]
    drawn = backward_warp(frames[:, other], batch["flows"][:, moment, target].float())
    apart = (drawn - frames[:, moment]).abs().mean(1)
    return (apart * batch["visible"][:, moment, target].float()).mean()


@pytest.mark.parametrize("transformations", COMBINATIONS)
def test_exact_flow_stays_exact(batch: Batch, transformations: dict[str, bool]) -> None:
    made = transform_batch(batch, **transformations)
    last = KNOTS - 1
    for moment in (3, KNOTS):
        for target, other in ((0, 0), (1, last)):
            assert _error(made, moment, target, other) < 0.02
    for target, other in ((2, 3), (3, 5)):
        assert _error(made, 4, target, other) < 0.02
    wrong = {**made, "flows": batch["flows"]} if any(transformations.values()) else {**made, "flows": -made["flows"]}
    assert _error(wrong, 3, 1, last) > 0.02


@pytest.mark.parametrize("transformations", COMBINATIONS)
def test_transforming_twice_restores_the_batch(batch: Batch, transformations: dict[str, bool]) -> None:
    again = transform_batch(transform_batch(batch, **transformations), **transformations)
    assert (again.keys() == batch.keys()) == (not (transformations["mirror"] or transformations["flip"]))
    for name, value in again.items():
        torch.testing.assert_close(value, batch[name])


def test_the_knots_keep_their_times_and_the_free_frames_their_places(batch: Batch) -> None:
    made = transform_batch(batch, reverse=True)
    torch.testing.assert_close(made["times"][:, :KNOTS], batch["times"][:, :KNOTS])
    torch.testing.assert_close(made["times"][:, KNOTS:], 1 - batch["times"][:, KNOTS:])
    assert torch.equal(made["frames"][:, KNOTS:], batch["frames"][:, KNOTS:])
    assert torch.equal(made["latents"][:, 0], batch["latents"][:, -1])
    assert torch.equal(made["coarse"][:, 0], batch["coarse"][:, 1])
    assert torch.equal(made["teacher"][:, :, 0], batch["teacher"][:, :, 1])
    torch.testing.assert_close(made["teacher_mask"], 1 - batch["teacher_mask"])


def test_batches_start_anywhere_and_every_combination_occurs() -> None:
    small = MovingTextures(TEXTURES, (32, 48), free=1, stride=1, recipe=PLAIN, exposures=1)
    source = SymmetryAugmentation(small)
    assert isinstance(source, BatchSource)
    whole = list(islice(source.batches(2, 5), 6))
    for late, one in zip(islice(source.batches(2, 5, start=4), 2), whole[4:], strict=True):
        assert all(torch.equal(late[name], one[name]) for name in one)
    plain = islice(small.batches(1, 5), 40)
    seen = set()
    for one, straight in zip(islice(source.batches(1, 5), 40), plain, strict=True):
        fits = [
            number
            for number, transformations in enumerate(COMBINATIONS)
            if torch.equal(transform_batch(straight, **transformations)["frames"], one["frames"])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert seen == set(range(len(COMBINATIONS)))


def test_keys_without_a_transformation_are_refused(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"cannot transform \['depth'\]"):
        transform_batch({**batch, "depth": batch["frames"]}, mirror=True)


def test_a_stage_enables_it_by_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "pool/film"
    folder.mkdir(parents=True)
    frames = np.stack([np.roll(data.coffee()[:64, :96], 2 * i, 1) for i in range(KNOTS + 3)])
    np.save(folder / "frames.npy", np.stack([frames] * 2))
    times = np.concatenate((np.linspace(0, 1, KNOTS), (0.25, 0.5, 0.75))).astype(np.float32)
    np.save(folder / "times.npy", np.stack([times] * 2))
    np.save(folder / "coarse.npy", np.zeros((2, 2, 2, 32, 48), np.float16))
    config = DataConfig(str(tmp_path), kinds=["film"], samples=[2], batch=1, symmetries=True)
    model = create_model("rdvfi-s")
    made = list(islice(open_feed(config, model, tmp_path / "c", lambda line: None).batches(0), 8))
    assert {("latents" in one) for one in made} == {True, False}
    for one in made:
        assert ClipBatch.of(one).frames.shape == (1, KNOTS + 3, 3, 64, 96)
