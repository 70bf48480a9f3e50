"""The engine: resuming is exact, checkpoints are whole or not there, limits end cleanly."""

import csv
import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdvfi.training.engine.checkpoints import Checkpoints, TrainingState, lock_folder, read_checkpoint
from rdvfi.training.engine.loop import Trainer
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.objectives.objective import Batch, Losses, Objective
from rdvfi.training.objectives.training_step import TrainingStep


class Fitting(Objective):
    """Fit a small network with dropout and running means to points; may break at a step."""

    def __init__(self, broken_from: int | None = None, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.net = nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.Dropout(0.2),
                nn.SiLU(),
                nn.Conv2d(width, 1, 1),
            ).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.broken_from = broken_from

    def forward(self, batch: Batch, step: TrainingStep) -> Losses:
        if step.index == self.broken_from:
            raise KeyboardInterrupt
        x = batch["x"] + 0.1 * step.normal(*batch["x"].shape)
        square = (self.net(x) - x.sum(1, keepdim=True)).square().mean()
        late = {"late": square.abs()} if step.progress >= 0.5 else {}
        return {"square": square, **late}

    def draw_sheet(self, batch: Batch, step: TrainingStep) -> np.ndarray:
        return np.full((4, 5, 3), 7, np.uint8)


class Points:
    """Every batch is a function of its number."""

    def __init__(self, size: int = 4) -> None:
        self.size = size

    def batches(self, start: int, stride: int = 1) -> Iterator[dict[str, Tensor]]:
        for number in itertools.count(start, stride):
            samples = range(number * self.size, (number + 1) * self.size)
            rows = [torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(i)) for i in samples]
            yield {"x": torch.stack(rows)}


QUICK = EngineConfig(steps=12, rate=1e-2, warmup=3, save_every=4, log_every=3, bfloat16=False, device="cpu")


def _config(**values: object) -> EngineConfig:
    return EngineConfig(**{**vars(QUICK), **values})  # pyright: ignore[reportArgumentType]


def _fit(folder: Path, config: EngineConfig = QUICK, broken_from: int | None = None, **fit):
    """Train; returns the objective, the lines that were reported, and whether all was done."""
    lines: list[str] = []
    objective = Fitting(broken_from)
    trainer = Trainer("fitting", objective, Points(), config, folder, report=lines.append)
    return objective, lines, trainer.fit(**fit)


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def _same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    "config",
    [QUICK, _config(bfloat16=True, accumulate=2), _config(optimiser="nadamw", schedule="constant")],
    ids=["plain", "bfloat16-accumulated", "another-optimiser"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, config: EngineConfig) -> None:
    whole, _, done = _fit(tmp_path / "whole", config)
    assert done
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "broken", config, broken_from=10)
    torch.rand(17)  # whatever else happened to torch's own random numbers
    resumed, lines, done = _fit(tmp_path / "broken", config)
    assert done
    assert lines[0] == "fitting: resumed at step 8"
    assert _same(whole, resumed)
    last = "checkpoints/fitting-000000012.safetensors"
    states = [load_file(tmp_path / run / last) for run in ("whole", "broken")]
    assert states[0].keys() == states[1].keys()
    assert any("exp_avg" in key for key in states[0])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _, _ = _fit(tmp_path)
    again, lines, done = _fit(tmp_path, broken_from=0)
    assert done
    assert lines == ["fitting: resumed at step 12"]
    assert _same(first, again)


def test_training_lowers_the_loss_and_keeps_frozen_parameters(tmp_path: Path) -> None:
    objective, _, _ = _fit(tmp_path, _config(steps=60))
    rows = _rows(tmp_path / "fitting.csv")
    assert float(rows[-1]["square"]) < 0.6 * float(rows[0]["square"])
    assert torch.equal(objective.frozen.weight, Fitting().frozen.weight)


def test_the_log_continues_after_resuming(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, broken_from=10)  # rows up to 9, checkpoint at 8
    with (tmp_path / "fitting.csv").open("a") as log:
        log.write("1")  # a row that was being written
    _fit(tmp_path)
    rows = _rows(tmp_path / "fitting.csv")
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert list(rows[0])[:4] == ["step", "seconds", "rate", "gradient"]
    assert not rows[0]["late"]  # a loss that joins in later gets a column
    assert float(rows[3]["late"]) > 0


def test_a_pause_leaves_a_checkpoint_from_which_it_goes_on(tmp_path: Path) -> None:
    endless = _config(steps=10**6, pause_minutes=0.003, save_every=10**6)
    _, lines, done = _fit(tmp_path, endless)
    assert not done
    (path,) = Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()
    step = read_checkpoint(path).step
    assert step > 0
    _, lines, _ = _fit(tmp_path, endless)
    assert lines[0] == f"fitting: resumed at step {step}"


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    _fit(tmp_path, _config(save_every=2, keep=3))
    kept = [path.name for path in Checkpoints(tmp_path / "checkpoints", "fitting", 3).paths()]
    assert kept == [f"fitting-{step:09d}.safetensors" for step in (12, 10, 8)]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_truncated_checkpoint_is_named_and_the_previous_one_is_used(tmp_path: Path) -> None:
    whole, _, _ = _fit(tmp_path)
    newest, older = Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()
    newest.write_bytes(newest.read_bytes()[:-100])
    again, lines, _ = _fit(tmp_path)
    assert "000000012.safetensors is damaged" in lines[0]
    assert lines[1] == "fitting: resumed at step 8"
    assert _same(whole, again)
    for path in (newest, older):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint of fitting in .* can be read"):
        _fit(tmp_path)


@pytest.mark.parametrize("damage", ["changed", "not finite", "header"])
def test_a_damaged_checkpoint_is_named_with_the_previous_one(tmp_path: Path, damage: str) -> None:
    whole, _, _ = _fit(tmp_path)
    newest, older = Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()
    data = bytearray(newest.read_bytes())
    if damage == "changed":
        data[-40] ^= 1
        newest.write_bytes(data)
    elif damage == "not finite":
        state = read_checkpoint(newest)
        state.weights[next(iter(state.weights))].fill_(float("nan"))
        Checkpoints(tmp_path / "checkpoints", "fitting", 2).write(state)
    else:
        newest.write_bytes(data.replace(b"checksum", b"format!!", 1).replace(b"step", b"stop", 1))
    message = {"changed": "its checksum does not match", "not finite": "not finite", "header": "is damaged or not"}
    again, lines, _ = _fit(tmp_path)
    assert message[damage] in lines[0]
    assert f"trying the previous one, {older}" in lines[0]
    assert lines[1] == "fitting: resumed at step 8"
    assert _same(whole, again)


def test_two_runs_never_train_into_one_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(ValueError, match="another run is training into"):
        _fit(tmp_path)
    assert _fit(tmp_path)[2]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    _fit(tmp_path)
    wide = Trainer("fitting", Fitting(width=9), Points(), QUICK, tmp_path, report=print)
    with pytest.raises(ValueError, match=r"of another model or stage: net.0.bias has shape \(8,\), expected \(9,\)"):
        wide.fit()
    newest = Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()[0]
    save_file({"weight": torch.zeros(2)}, newest)
    _, lines, _ = _fit(tmp_path)
    assert "not a checkpoint of a training run" in lines[0]


def test_a_full_disk_is_named_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "big", keep=2)
    weights, averages = {"w": torch.zeros(50_000)}, {"w": torch.zeros(50_000)}
    good = checkpoints.write(TrainingState(1, weights, averages))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"step 2 of big cannot be written.*good one is {good}"):
            checkpoints.write(TrainingState(2, weights, averages))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == [good]
    assert read_checkpoint(good).step == 1


def test_a_non_finite_loss_is_named_and_the_last_good_checkpoint_is_kept(
    tmp_path: Path,
) -> None:
    class Breaking(Fitting):
        def forward(self, batch: Batch, step: TrainingStep) -> Losses:
            losses = super().forward(batch, step)
            return {**losses, "bad": losses["square"] * (float("nan") if step.index == 9 else 1.0)}

    trainer = Trainer("fitting", Breaking(), Points(), QUICK, tmp_path, report=lambda line: None)
    with pytest.raises(FloatingPointError, match=r"loss bad is not finite at step 9; the last good .*08"):
        trainer.fit()
    state = read_checkpoint(Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()[0])
    assert state.step == 8
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.weights.values())


def test_the_averages_are_a_moving_mean_in_float32(tmp_path: Path) -> None:
    """By hand, with the rising decay of timm, over weights that are read after every step."""
    seen: list[Tensor] = []

    class Watched(Fitting):
        def forward(self, batch: Batch, step: TrainingStep) -> Losses:
            seen.append(self.net[4].weight.detach().clone())
            return super().forward(batch, step)

    objective = Watched()
    start = objective.net[4].weight.detach().clone()
    Trainer("fitting", objective, Points(), _config(average=0.6), tmp_path, report=lambda line: None).fit()
    state = read_checkpoint(Checkpoints(tmp_path / "checkpoints", "fitting", 2).paths()[0])
    after = [*seen[1:], state.weights["net.4.weight"]]
    mean = start.double()
    for step, weights in enumerate(after):
        decay = min(0.6, 1 - (2 + step) ** (-2 / 3))
        mean = decay * mean + (1 - decay) * weights.double()
    assert state.averages["net.4.weight"].dtype == torch.float32
    torch.testing.assert_close(state.averages["net.4.weight"], mean.float())
    assert torch.equal(objective.net[4].weight, state.averages["net.4.weight"])


def test_a_time_limit_completes_the_schedule(tmp_path: Path) -> None:
    """The rate falls by the clock, and the stage is done, long before its steps are."""
    limited = _config(steps=10**6, max_minutes=0.03, save_every=10**6, log_every=10, warmup=0)
    _, lines, done = _fit(tmp_path, limited)
    assert done
    rates = [float(row["rate"]) for row in _rows(tmp_path / "fitting.csv")]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.7 * limited.rate
    assert rates[-1] < 0.2 * limited.rate
    _, lines, done = _fit(tmp_path, limited)  # its time is over, also for the same command
    assert done
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "engine.steps must be at least 1; got 0"),
        ({"rate": -1.0}, "engine.rate must be positive"),
        ({"max_minutes": 0.0}, "engine.max_minutes must be positive; got 0"),
        ({"average": 1.0}, r"engine.average must be in \[0, 1\)"),
        ({"device": "tpu"}, "engine.device must be auto or cpu; got 'tpu'"),
        ({"optimiser": "adamm"}, "adamm"),
        ({"schedule": "cosinus"}, "engine.schedule.*'cosinus'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, ModuleNotFoundError), match=message):
        _fit(tmp_path, _config(**values))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_compiled_run_trains_the_same(tmp_path: Path) -> None:
    plain, _, _ = _fit(tmp_path / "plain")
    compiled, _, _ = _fit(tmp_path / "compiled", _config(compile=True))
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert float((a - b).detach().abs().max()) < 0.05  # dropout draws in another order


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    objective = Fitting().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train, every parameter is frozen"):
        Trainer("fitting", objective, Points(), QUICK, tmp_path, report=print)


def test_samples_without_the_inputs_of_any_loss_are_an_error(tmp_path: Path) -> None:
    class Silent(Fitting):
        def forward(self, batch: Batch, step: TrainingStep) -> Losses:
            return {}

    trainer = Trainer("fitting", Silent(), Points(), QUICK, tmp_path, report=lambda line: None)
    with pytest.raises(ValueError, match="fitting: the samples of step 0 lack the inputs of all losses"):
        trainer.fit()


def test_noise_does_not_depend_on_the_number_of_processes() -> None:
    alone = TrainingStep(3, 10, seed=5)
    both = [TrainingStep(3, 10, seed=5, rank=rank, world_size=2) for rank in (0, 1)]
    for draw in ("normal", "uniform"):
        together = torch.cat([getattr(step, draw)(2, 7) for step in both])
        assert torch.equal(getattr(alone, draw)(4, 7), together)
    assert not torch.equal(TrainingStep(4, 10, seed=5).normal(4, 7), TrainingStep(3, 10, seed=5).normal(4, 7))


def test_sheets_are_pictures_and_tensorboard_gets_them(tmp_path: Path) -> None:
    from skimage.io import imread

    pytest.importorskip("tensorboard")
    _fit(tmp_path, _config(sheet_every=6, trackers=["tensorboard"]))
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [path.name for path in sheets] == ["fitting-000000006.png", "fitting-000000012.png"]
    assert np.array_equal(imread(sheets[0]), np.full((4, 5, 3), 7, np.uint8))
    assert list((tmp_path / "tensorboard/fitting").glob("events*"))


def test_unavailable_trackers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tracker 'tensorbored'; accelerate has .*tensorboard"):
        _fit(tmp_path, _config(trackers=["tensorbored"]))
    with pytest.raises(ModuleNotFoundError, match="'comet_ml' is not installed"):
        _fit(tmp_path, _config(trackers=["comet_ml"]))
