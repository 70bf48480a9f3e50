"""Training: the loop resumes exactly, every stage takes real steps, bad data is named."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data as photographs
from torch import Tensor, nn

from rdvfi.backbones.diffusion import velocity
from rdvfi.data.moving import KNOTS
from rdvfi.data.pool import KINDS, Pool, build_pool
from rdvfi.data.samples import Film, load_pictures
from rdvfi.data.sources import Stream
from rdvfi.interpolator import Interpolator
from rdvfi.models import load_bundled
from rdvfi.training import command, stages
from rdvfi.training.loop import Losses, Schedule, train
from rdvfi.training.losses import flow_loss, picture_loss, rising_noise_level

QUICK = Schedule(steps=2, rate=1e-3, warmup=1, bfloat16=False)
SIZE = (64, 96)
FILMED = range(400, 520)
"""Frames of the small film that hold pictures; the rest is never read."""


def _silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data in the layout of the build script: a camera drives over a photograph."""
    place = tmp_path_factory.mktemp("data")
    h, w = 170, 272
    film = np.lib.format.open_memmap(place / "film.npy", "w+", np.uint8, (12_010, h, w, 3))
    wall = photographs.astronaut()
    for i in FILMED:
        x = 2 * (i - FILMED.start)
        film[i] = wall[100 : 100 + h, x : x + w]
    film.flush()
    differences = np.zeros(12_009, np.float32)
    differences[FILMED.start : FILMED.stop - 1] = 1.0
    np.save(place / "film.cuts.npy", differences)
    np.savez(place / "photographs.npz", coffee=photographs.coffee(), cat=photographs.chelsea())
    return place


@pytest.fixture(scope="module")
def pools(folder: Path) -> tuple[Pool, Pool]:
    for kind, count in zip(KINDS, (6, 4), strict=True):
        build_pool(folder, folder / "pool" / kind, kind, count, size=SIZE, workers=1)
    made = [Pool(folder / "pool" / kind) for kind in KINDS]
    return made[0], made[1]


@pytest.fixture
def model() -> Interpolator:
    return command.new_model()


def test_a_pool_holds_frames_coarse_flow_and_exact_flow(pools: tuple[Pool, Pool]) -> None:
    procedural, film = (pool.batch([0, 2]) for pool in pools)
    for batch in (procedural, film):
        assert batch["frames"].shape == (2, 12, 3, *SIZE)
        assert batch["frames"].min() >= 0
        assert batch["frames"].max() <= 1
        assert batch["coarse"].shape == (2, 2, 2, SIZE[0] // 2, SIZE[1] // 2)
        torch.testing.assert_close(
            batch["times"][:, :KNOTS], (torch.arange(9) / 8).expand(2, 9), rtol=0, atol=1e-6
        )
    assert procedural["flows"].shape == (2, 12, 4, 2, SIZE[0] // 8, SIZE[1] // 8)
    assert not procedural["flows"][:, 0, 0].any()  # to the first frame, at the first frame
    assert not procedural["flows"][:, KNOTS - 1, 1].any()
    assert "flows" not in film


def test_a_sample_depends_on_its_index_alone(folder: Path, pools: tuple[Pool, Pool]) -> None:
    again = folder / "pool" / "again"
    build_pool(folder, again, "film", 4, size=SIZE, workers=2)
    for name in ("frames", "coarse", "times"):
        assert torch.equal(Pool(again).batch([3])[name], pools[1].batch([3])[name])


def _counting() -> Iterator[dict[str, Tensor]]:
    for i in itertools.count():
        yield {"i": torch.tensor(float(i))}


def _fitting(model: nn.Module, stop_before: int | None = None):
    """Fit a line to points that depend on the step, so that a resumed run sees the same ones."""

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        if step == stop_before:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return {"square": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    return loss


def _line() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 1)


def test_a_stopped_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    schedule = Schedule(steps=40, rate=1e-2, warmup=5, every=10, bfloat16=False)
    whole, broken, resumed = _line(), _line(), _line()
    assert train("a", whole, _counting(), _fitting(whole), schedule, tmp_path, report=_silent)
    with pytest.raises(KeyboardInterrupt):
        train("b", broken, _counting(), _fitting(broken, 27), schedule, tmp_path, report=_silent)
    lines: list[str] = []
    train("b", resumed, _counting(), _fitting(resumed), schedule, tmp_path, report=lines.append)
    assert lines[0] == "b: resumed at step 20"
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)


def test_a_time_limit_leaves_a_checkpoint(tmp_path: Path) -> None:
    model, schedule = _line(), Schedule(steps=10**9, minutes=0.001, bfloat16=False)
    assert not train("a", model, _counting(), _fitting(model), schedule, tmp_path, report=_silent)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] > 0


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = _line()
    fit = _fitting(model)

    def loss(batch: dict[str, Tensor], step: int) -> Losses:
        return {"square": fit(batch, step)["square"] * (float("nan") if step == 15 else 1.0)}

    schedule = Schedule(steps=20, every=10, bfloat16=False)
    with pytest.raises(FloatingPointError, match="loss is nan at step 15; checkpoints are kept"):
        train("a", model, _counting(), loss, schedule, tmp_path, report=_silent)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 10
    assert not list(tmp_path.glob("*.partial"))


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    schedule = Schedule(steps=100, rate=1.0, warmup=10)
    rates = [schedule.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def _finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def test_the_autoencoder_takes_steps_and_is_calibrated(
    folder: Path, model: Interpolator, tmp_path: Path
) -> None:
    autoencoder = stages.Parts.of(model).generator.autoencoder
    pictures = load_pictures(folder, Film(folder / "film.npy"), frames=2)
    make = stages.crops(lambda rng: pictures[rng.integers(len(pictures))], 64)
    stream = Stream(make, workers=0)
    before = autoencoder.encoder[1].weight.clone()
    stages.train_autoencoder(autoencoder, stream.batches(4, 1), QUICK, tmp_path, _silent)
    assert _finite(autoencoder)
    assert not torch.equal(before, autoencoder.encoder[1].weight)
    latents = autoencoder.encode(next(stream.batches(16, 1))["frames"][:, 0])
    assert latents.std((0, 2, 3)).log().abs().max() < 0.5  # about one, on other pictures


def test_every_stage_trains_its_own_part_and_no_other(
    model: Interpolator, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    parts = stages.Parts.of(model)
    for name, part, run in (
        (
            "motion",
            parts.trajectory,
            lambda: stages.train_motion(model, pools[0], QUICK, tmp_path, _silent),
        ),
        (
            "synthesis",
            parts.renderer,
            lambda: stages.train_synthesis(model, pools, QUICK, tmp_path, _silent, predicted=False),
        ),
        (
            "keyframes",
            parts.generator.denoiser,
            lambda: stages.train_keyframes(
                model, pools, QUICK, tmp_path, _silent, decodable=True, reconstruct_from=0.0
            ),
        ),
    ):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        own = {id(value) for value in part.state_dict(keep_vars=True).values()}
        run()
        assert _finite(part), name
        changed = {
            id(value)
            for key, value in model.state_dict(keep_vars=True).items()
            if not torch.equal(value, before[key])
        }
        assert changed, name
        assert changed <= own, name


def test_training_motion_on_a_few_samples_lowers_its_loss(
    model: Interpolator, folder: Path, tmp_path: Path
) -> None:
    build_pool(folder, tmp_path / "two", "procedural", 2, size=SIZE, workers=1)
    pool = Pool(tmp_path / "two")
    parts, batch = stages.Parts.of(model), pool.batch([0, 1])
    parts.generator.autoencoder.calibrate(batch["frames"][:, 0])  # latents of unit variance
    with torch.no_grad():
        keyframes = stages.true_keyframes(parts.generator, batch)

    def loss() -> float:
        with torch.no_grad():
            found = stages.motion_losses(parts.trajectory, keyframes, batch)
        return float(torch.stack(list(found.values())).sum())

    before = loss()
    schedule = Schedule(steps=25, rate=2e-3, warmup=1, bfloat16=False)
    stages.train_motion(model, pool, schedule, tmp_path, _silent)
    assert loss() < 0.9 * before


def test_reconstruction_waits_for_trained_motion(
    model: Interpolator, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="L_rec needs motion and synthesis"):
        stages.train_keyframes(
            model, pools, QUICK, tmp_path, _silent, decodable=False, reconstruct_from=0.0
        )


def test_losses_are_least_for_the_truth_and_hidden_points_count_less() -> None:
    flow, seen = torch.randn(2, 3, 2, 4, 5), torch.ones(2, 3, 4, 5)
    least = flow_loss(flow, flow, seen)
    assert least < 0.1  # a robust distance is rounded at zero
    picture = torch.rand(2, 3, 8, 8)
    assert picture_loss(picture, picture) == 0
    seen[..., :2] = 0
    off_where_hidden, off_where_seen = flow.clone(), flow.clone()
    off_where_hidden[..., 0] += 1
    off_where_seen[..., 4] += 1
    hidden, visible = (flow_loss(off, flow, seen) for off in (off_where_hidden, off_where_seen))
    assert least < hidden < visible


def test_the_noise_level_rises_to_pure_noise() -> None:
    lowest = [float(rising_noise_level(step, 100, 500).min()) for step in (0, 30, 60, 99)]
    assert lowest[0] < 0.35
    assert lowest[0] < lowest[1] < lowest[2]
    assert lowest[2:] == [1.0, 1.0]
    clean, noise = torch.randn(2, 1, 7, 4, 5, 6)
    assert torch.isfinite(velocity(clean, noise, torch.ones(1))).all()


def test_the_whole_command_leaves_a_model_that_interpolates(
    folder: Path, pools: tuple[Pool, Pool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {stage: Schedule(steps=2, warmup=1) for stage in command.SCHEDULES}
    monkeypatch.setattr(command, "SCHEDULES", quick)
    command.train_rdvfi_s(folder, tmp_path, report=_silent)
    model = load_bundled("rdvfi-s", tmp_path)
    assert model.untrained_parts() == []
    frames = model(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96), [0.5])
    assert torch.isfinite(frames).all()


def test_missing_data_and_earlier_stages_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no film\.npy; make it with python -m"):
        command.run_stage("motion", tmp_path, tmp_path, report=_silent)
    with pytest.raises(ValueError, match="no training stage 'all'; expected one of"):
        command.run_stage("all", folder, tmp_path, report=_silent)
    with pytest.raises(FileNotFoundError, match=r"no autoencoder\.safetensors; train that stage"):
        command.run_stage("motion", folder, tmp_path, report=_silent)
    with pytest.raises(FileNotFoundError, match="holds no samples; make them"):
        Pool(tmp_path)
    with pytest.raises(ValueError, match="no samples of kind 'real'; expected one of"):
        build_pool(folder, tmp_path / "pool", "real", 1)


def test_a_film_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", np.zeros((10, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"has shape \(10, 4, 4, 3\); expected at least 12000"):
        Film(tmp_path / "film.npy")
    whole = (tmp_path / "film.npy").read_bytes()
    for damaged in (whole[:-20], whole[:7], b""):
        (tmp_path / "film.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged, build it again"):
            Film(tmp_path / "film.npy")
