"""Research on the paper's claims: batches hold the flows that they say, and pages the tables of the results."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "research"))

import claims_runs
import claims_training as training
import results_page
from claims_training import FINE, STEPS, STRIDE, Run
from rdvfi.interfaces import TrajectoryModel
from rdvfi.training.losses.flow_losses import flow_loss

ROOT = Path(__file__).parents[1]


def known(scenes: int = 4) -> training.Data:
    """Scenes in which the flow from knot i to knot j is (j - i, 0) latent pixels, visible everywhere."""
    h, w = training.SIZE[0] // STRIDE, training.SIZE[1] // STRIDE
    reach = [(0, FINE, *(min(max(i + d, 0), FINE) for n in STEPS for d in (-n, n))) for i in range(FINE + 1)]
    apart = torch.tensor([[to - i for to in row] for i, row in enumerate(reach)]).float()
    flows = torch.zeros(scenes, FINE + 3, 10, 2, h, w)
    flows[:, : FINE + 1, :, 0] = STRIDE * apart[None, :, :, None, None]
    return {
        "frames": torch.randint(0, 256, (scenes, FINE + 3, 3, *training.SIZE), dtype=torch.uint8),
        "times": torch.cat((torch.arange(FINE + 1) / FINE, torch.tensor([0.3, 0.7]))).expand(scenes, -1),
        "latents": torch.randn(scenes, FINE + 1, 16, h, w),
        "flows": flows,
        "visible": torch.ones(scenes, FINE + 3, 10, h, w, dtype=torch.bool),
        "coarse": torch.zeros(scenes, 2, 2, *training.SIZE),
    }


@pytest.mark.parametrize("inner", [1, 3, 7, 15])
def test_an_untrained_trajectory_pays_for_the_whole_motion(inner: int) -> None:
    """Its last layers are zero, so every flow is; the loss is that of flows between exactly these knots."""
    spans = FINE // (inner + 1)
    run, ends = Run("direct", inner=inner), torch.arange(inner + 2) * spans
    direct = training.build_trajectory(run)
    zero, seen = torch.zeros(1, len(ends) - 1, 2, 4, 4), torch.ones(1, len(ends) - 1, 4, 4)
    wanted = zero.clone()
    wanted[:, :, 0] = -ends[1:, None, None].float()  # to the first frame; the other direction is its mirror
    expected = flow_loss(zero, wanted, seen)
    assert training.motion_loss(run, direct, known(), 0).item() == pytest.approx(expected.item(), rel=1e-4)
    iterative = Run("iterative", inner=inner)
    made = training.motion_loss(iterative, training.build_trajectory(iterative), known(), 0)
    one = zero.clone()
    one[:, :, 0] = -float(spans)
    assert made.item() == pytest.approx(float(expected + flow_loss(zero, one, seen)), rel=1e-4)


def test_batches_of_a_denoiser_have_nine_knots_and_their_neighbours() -> None:
    batch = training.clip_batch(Run("theta"), known(), 0)
    assert batch["times"][0, :9].tolist() == [i / 8 for i in range(9)]
    assert batch["frames"].shape[1] == batch["flows"].shape[1] == 11
    middle = batch["flows"][0, 4, :, 0, 0, 0] / STRIDE
    assert middle.tolist() == [-8, 8, -2, 2]  # in spans of the finest knots


def test_runs_are_named_apart_and_seeds_draw_other_batches() -> None:
    runs = claims_runs.all_runs()
    assert len({run.key for run in runs}) == len(runs)
    first, second = (training.batch_rows(Run("theta", seed=seed), 5, 96) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert len(set(first.tolist())) == training.BATCH


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"iterative-N7-100steps-seed0\.safetensors; make it with --train"):
        training.train(Run("iterative"), training.Folders(tmp_path, tmp_path))


def test_committed_checkpoints_fit() -> None:
    folder = training.Folders(ROOT / "research" / "claims_checkpoints", ROOT)
    sizes = [file.stat().st_size for file in folder.weights.glob("*.safetensors")]
    assert sum(sizes) < 6e6
    there = {file.stem for file in folder.weights.iterdir()}
    assert there == {run.key for run in claims_runs.all_runs()}
    motion = [run for run in claims_runs.MOTION if run.key in there]
    assert {run.name for run in motion} == {"iterative", "direct"}
    for run in motion:
        assert isinstance(training.train(run, folder).part, TrajectoryModel)


def test_pages_show_the_committed_results() -> None:
    for page in results_page.PAGES:
        text = page.read_text(encoding="utf-8")
        assert results_page.fill_tables(text) == text, f"{page.name} is out of date: python research/results_page.py"


def test_a_changed_result_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(results_page.TABLES, "content: means", lambda: "another table\n")
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert results_page.fill_tables(text) != text
