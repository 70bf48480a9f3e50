"""The stage of the coarse flow: it learns from pairs, and leaves a part that loads."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from data_folder import write_data_folder
from rdvfi.data.pair_pool import EXACT, FLOWS, STRIDES, VISIBLE, build_pairs
from rdvfi.data.pool import SAMPLE_KINDS, Pool
from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.training import run
from rdvfi.training.feeds import open_feed
from rdvfi.training.losses.evidence import Estimates, FlowPair
from rdvfi.training.losses.flow_losses import estimates_loss
from rdvfi.training.losses.loss_registry import WeightedLosses
from rdvfi.training.model_parts import load_parts
from rdvfi.training.objectives.coarse import CoarseFlowObjective, LabelledPair
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.recipes import compose_stages

SIZE = (64, 96)
SMALL = "'coarse.width=16','coarse.blocks=1','coarse.steps=1','coarse.fine_steps=1'"


def _silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data folder with pairs of both kinds."""
    place = write_data_folder(tmp_path_factory.mktemp("data"))
    for kind in SAMPLE_KINDS:
        build_pairs(place, place / f"pool/pairs-{kind}", kind, 4, size=SIZE, workers=1)
    return place


def _overrides(folder: Path, out: Path, coarse: str, *more: str) -> list[str]:
    model = f"model.overrides=['coarse={coarse}',{SMALL}]"
    quick = ["engine.device=cpu", "data.workers=0", "data.batch=2", "engine.warmup=2"]
    return [f"data.folder={folder}", f"out={out}", model, *quick, *more]


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("coarse", "prefix"), [("matching", "coarse."), ("matched-dis", "coarse.learned.")])
def test_the_stage_learns_from_pairs_and_leaves_a_part_that_loads(
    folder: Path, tmp_path: Path, coarse: str, prefix: str
) -> None:
    overrides = _overrides(folder, tmp_path, coarse, "engine.steps=24", "engine.log_every=6")
    overrides += ["data.colours=0", "data.symmetries=false", "engine.rate=6e-3", "fine_from=0"]
    assert run.train("rdvfi_s/coarse", overrides, report=_silent)
    with (tmp_path / "coarse.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Each row is the mean of two rounds, each of which has both kinds.
    for loss in ("estimates", "matching"):
        assert float(rows[-1][loss]) < 0.9 * float(rows[0][loss])
    kept = load_file(tmp_path / "coarse.safetensors")
    assert all(name.startswith(prefix) for name in kept)
    (stage,) = compose_stages("rdvfi_s/coarse", overrides)
    trained = run.prepare_model(stage)
    before = _weights(trained)
    load_parts(trained, tmp_path / "coarse.safetensors")
    changed = {name for name, now in trained.state_dict().items() if not now.equal(before[name])}
    assert changed
    assert all(name.startswith(f"generator.{prefix}") for name in changed)
    for name, value in kept.items():
        assert trained.state_dict()[f"generator.{name}"].equal(value)
    (again,) = compose_stages("rdvfi_s/coarse", [*overrides, "after=[coarse]"])
    started = run.prepare_model(again).state_dict()
    assert all(started[f"generator.{name}"].equal(value) for name, value in kept.items())


def test_the_sheet_shows_frames_and_known_flow_where_it_is_seen(folder: Path, tmp_path: Path) -> None:
    (stage,) = compose_stages("rdvfi_s/coarse", _overrides(folder, tmp_path, "matched-dis"))
    objective = CoarseFlowObjective(run.prepare_model(stage), WeightedLosses({"estimates": 1}))
    batch = Pool(folder / "pool/pairs-procedural").batch([0, 1, 2])
    with torch.no_grad():
        sheet = torch.from_numpy(objective.draw_sheet(batch, TrainingStep(0, 1)))
    h, w = SIZE
    assert sheet.shape == (2 * h, 6 * w, 3)
    first = (255.0 * batch["frames"][0, 0]).round().to(torch.uint8).permute(1, 2, 0)
    assert torch.equal(sheet[:h, :w], first)
    seen = batch[VISIBLE[2]][0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1) > 0.5
    grey = (sheet[:h, 5 * w :] == 128).all(-1)
    assert grey[~seen].all()
    assert not grey[seen].any()


def test_a_resumed_stage_sees_the_same_pairs(folder: Path, tmp_path: Path) -> None:
    (stage,) = compose_stages("rdvfi_s/coarse", _overrides(folder, tmp_path, "matching"))
    feed = open_feed(stage.data, run.prepare_model(stage), tmp_path, _silent)
    stream = feed.batches(0)
    whole = [next(stream) for _ in range(7)]
    for start in (1, 5):
        late = next(feed.batches(start))
        assert all(torch.equal(late[name], whole[start][name]) for name in late)
    kinds = [bool(batch[EXACT].all()) for batch in whole]
    assert kinds == [True, True, False, True, True, False, True]
    assert not torch.equal(whole[0]["frames"], whole[1]["frames"])  # of one pool, in other orders


def test_fine_estimates_are_trained_after_fine_from(folder: Path, tmp_path: Path) -> None:
    overrides = _overrides(folder, tmp_path, "matched-dis", "fine_from=0.5")
    (stage,) = compose_stages("rdvfi_s/coarse", overrides)
    model = run.prepare_model(stage)
    objective = run.build_objective(stage, model)
    assert isinstance(objective, CoarseFlowObjective)
    batch = Pool(folder / "pool/pairs-procedural").batch([0, 1])
    for step, joined in ((0, False), (1, False), (2, True)):
        model.zero_grad()
        torch.stack(list(objective(batch, TrainingStep(step, 4)).values())).sum().backward()
        trained = dict(objective.estimator.named_parameters())
        assert all(weights.grad is not None for weights in trained.values())
        active = {name for name, weights in trained.items() if bool((weights.grad != 0).any())}
        assert ("weights.weight" in active) == joined
        assert any(name.startswith("fine_update.") for name in active) == joined
        assert "sharpness" in active


def _pairs(made: Tensor, exact: Tensor, visible: Tensor) -> list[FlowPair]:
    return [FlowPair(made, exact, visible), FlowPair(made, exact, visible)]


def test_occluded_points_count_where_they_are_known_and_never_for_matches_alone() -> None:
    made, exact, seen = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), torch.ones(2, 4, 4)
    seen[:, :2] = 0.0
    exact[:, 0, :2] = 8.0  # all that is occluded moves otherwise

    def loss(known: Tensor, *, matched: bool, first: float, occluded: float) -> Tensor:
        given = Estimates(_pairs(made, exact, seen), known, matched)
        return estimates_loss(given, first=first, occluded=occluded)

    right, wrong = torch.tensor(0.1001).pow(0.7), torch.tensor(8.1).pow(0.7)
    unknown = loss(torch.zeros(2), matched=True, first=0.5, occluded=0.3)
    torch.testing.assert_close(unknown, 1.5 * right, rtol=1e-3, atol=0)
    mixed = (right + 0.3 * wrong) / 1.3
    known = loss(torch.ones(2), matched=True, first=0.5, occluded=0.3)
    torch.testing.assert_close(known, 0.5 * right + mixed, rtol=1e-3, atol=0)
    alike = loss(torch.ones(2), matched=False, first=0.5, occluded=0.3)
    torch.testing.assert_close(alike, 1.5 * mixed, rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="occluded must be in"):
        WeightedLosses({"estimates": 1}, {"estimates": {"occluded": 2.0}})


def test_exact_estimates_have_no_error_on_any_grid() -> None:
    b, (h, w) = 2, SIZE
    flow = torch.tensor([5.0, -3.0])[None, None, :, None, None]
    batch = {"frames": torch.rand(b, 2, 3, h, w), EXACT: torch.ones(b)}
    for s in STRIDES:
        batch[FLOWS[s]] = flow * torch.tensor([1.0, -1.0])[None, :, None, None, None]
        batch[FLOWS[s]] = batch[FLOWS[s]].expand(b, 2, 2, h // s, w // s)
        batch[VISIBLE[s]] = torch.ones(b, 2, h // s, w // s)
    pair = LabelledPair.of(batch)
    onward = flow[0].expand(b, -1, -1, -1)
    for stride in (16, 8, 4, 1):
        made = torch.cat((onward, -onward)).expand(-1, -1, h // stride, w // stride) / stride
        known = pair.pair_with(made)
        torch.testing.assert_close(known.predicted, known.exact)
    with pytest.raises(ValueError, match=r"an estimate of \(2, 3\) cells has no known flow"):
        pair.pair_with(torch.zeros(2 * b, 2, 2, 3))
    with pytest.raises(ValueError, match=r"a batch of pairs needs \['exact', 'visible_4'\]"):
        LabelledPair.of({name: value for name, value in batch.items() if name not in (EXACT, VISIBLE[4])})


class _Shift(FlowEstimator):
    """The same flow everywhere."""

    reads = Reads.PIXELS

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(2))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        h, w = source.shape[-2:]
        return self.shift[None, :, None, None].expand(len(source), 2, h, w)


def test_any_coarse_flow_can_learn_from_pairs(folder: Path, tmp_path: Path) -> None:
    (stage,) = compose_stages("rdvfi_s/coarse", _overrides(folder, tmp_path, "matching"))
    model = run.prepare_model(stage)
    model.generator.coarse = _Shift()
    batch = Pool(folder / "pool/pairs-procedural").batch([0, 1])
    losses = CoarseFlowObjective(model, WeightedLosses(stage.losses))(batch, TrainingStep(0, 1))
    assert losses.keys() == {"estimates"}
    losses["estimates"].backward()
    assert bool((model.generator.coarse.shift.grad != 0).all())
    with pytest.raises(ValueError, match=r"none of the losses flow can be computed .* give losses\.estimates"):
        CoarseFlowObjective(model, WeightedLosses({"flow": 1}))(batch, TrainingStep(0, 1))
    del model.generator.coarse
    with pytest.raises(ValueError, match="has no coarse flow"):
        CoarseFlowObjective(model, WeightedLosses({"flow": 1}))


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        (
            "rdvfi_s1/motion",
            "data.source=pairs",
            "pairs is for the coarse flow; a stage of kind dec",
        ),
        ("rdvfi_s/coarse", "fine_from=1.5", r"fine_from must be in \[0, 1\]; got 1\.5"),
        ("rdvfi_s/coarse", "data.colours=-1", "data.colours must not be negative; got -1"),
        ("rdvfi_s/coarse", "data.kinds=[film,film,real]", "no samples of kind 'real'"),
    ],
)
def test_invalid_settings_of_pairs_are_refused(
    folder: Path, tmp_path: Path, recipe: str, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run.train(recipe, _overrides(folder, tmp_path, "matching", "after=[]", override), report=_silent)
