"""``rdvfi evaluate`` and the Python function behind it, on a small real video."""

import csv
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import typer
from skimage import data
from typer.testing import CliRunner

import rdvfi
from rdvfi.evaluation import evaluate
from rdvfi_cli.evaluate_command import evaluate as command
from rdvfi_cli.model_selections import parse_selection


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph panned by 2 pixels per frame, with a cut to another after frame 21."""
    path = tmp_path_factory.mktemp("clip") / "pan.mp4"
    pictures = data.astronaut(), cv2.resize(data.coffee(), (600, 512))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv444p"
        stream.options = {"crf": "8"}
        for number in range(30):
            picture = pictures[number > 21][60:156, 150 + 2 * number : 278 + 2 * number]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    program = typer.Typer()
    program.command()(command)
    return program


def test_a_pan_is_measured_as_it_should_be(video: Path) -> None:
    report = evaluate(video, gap=8, models=["dis", "dis+blur1", "blend"], skip_cuts=True)
    assert (report.clip, report.gap, report.size) == ("pan.mp4", 8, (96, 128))
    assert (report.pairs, report.skipped, report.frames) == (2, 1, 14)
    dis, blurred, blend = (report.score(name) for name in ("dis", "dis+blur1", "blend"))
    assert dis.psnr > blend.psnr + 3.0
    assert dis.ssim > blend.ssim + 0.05
    assert blurred.gradient_ratio < dis.gradient_ratio < 1.1
    assert all(score.ms_per_frame > 0 for score in report.scores)
    assert report.environment.rdvfi == rdvfi.__version__
    assert report.environment.threads >= 1
    with pytest.raises(KeyError, match="no method 'rife' in this report"):
        report.score("rife")


def test_cuts_are_kept_in_short_clips_unless_asked(video: Path) -> None:
    assert evaluate(video, gap=8, models=["blend"]).pairs == 3
    assert evaluate(video, gap=8, models=["blend"], skip_cuts=True).pairs == 2


def test_a_reduced_clip_and_a_part_of_it(video: Path) -> None:
    report = evaluate(video, gap=4, models=["blend"], start=3, pairs=2, max_size=64)
    assert (report.size, report.pairs, report.frames) == ((48, 64), 2, 6)


def test_the_command_prints_a_table_and_saves(app: typer.Typer, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    arguments = [str(video), "--gap", "9", "--models", "dis, blend", "--output", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("pan.mp4", "gap 9", "PSNR", "SSIM", "gradient", "ms/frame", "dis", "blend"):
        assert word in result.output
    saved = json.loads(out.read_text())
    assert [score["method"] for score in saved["scores"]] == ["dis", "blend"]
    assert saved["pairs"] == 3
    assert saved["environment"]["rdvfi"] == rdvfi.__version__
    assert list(tmp_path.iterdir()) == [out]


def test_csv_has_a_row_per_method(app: typer.Typer, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    arguments = [str(video), "--pairs", "1", "--models", "blend,blend+blur2", "--output", str(out)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["blend", "blend+blur2"]
    assert {row["clip"] for row in rows} == {"pan.mp4"}
    assert float(rows[1]["gradient-energy"]) < float(rows[0]["gradient-energy"])


def test_the_command_writes_a_page(app: typer.Typer, video: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = [str(video), "--gap", "8", "--models", "dis,blend", "--report", str(page), "--report-gaps", "2,4"]
    result = CliRunner().invoke(app, [*arguments, "--pairs", "2"], catch_exceptions=False)
    assert f"saved {page}" in result.output.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert text.count("<section class=pair") == 2
    assert list(tmp_path.iterdir()) == [page]


def test_the_procedural_set_is_a_clip(app: typer.Typer) -> None:
    arguments = ["procedural", "--gap", "3", "--pairs", "1", "--models", "dis,blend"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "procedural: gap 3, 448x256, 1 pairs, 2 new frames" in result.output


def test_ablation_of_a_model(video: Path) -> None:
    model = rdvfi.build("rdvfi_s1").eval()
    report = evaluate(video, gap=8, models=[model, "blend"], pairs=1, max_size=64, ablate=True)
    names = [score.method for score in report.scores]
    assert names == ["model", "blend", "model: straight keyframes", "model: plain composition"]
    assert [loss.replaced for loss in report.losses] == ["straight keyframes", "plain composition"]
    # Fresh weights: the diffusion step does nothing yet, so leaving it out costs nothing.
    assert report.losses[0].psnr_lost == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(("options", "kind", "message"), [
    (["--models", "rief"], ValueError, "did you mean 'rife'"),
    (["--models", " , "], ValueError, "--models names no method"),
    (["--models", "blend,blend"], ValueError, "given twice: blend"),
    (["--models", "blend", "--gap", "0"], ValueError, "gap is 0"),
    (["--models", "blend", "--gap", "50"], ValueError, "has 30 frames"),
    (["--models", "blend", "--external", "x"], ValueError, "--external is 'x'; expected name=COMMAND"),
    (["--models", "blend", "--compare", "x", "--external", "y z=cp {pair} {out}"], ValueError, "methods: blend, y z"),
    (["--models", "blend", "--dtype", "int8"], ValueError, "--dtype is 'int8'"),
    (["--models", "blend", "--device", "toaster"], ValueError, "cannot use device 'toaster'"),
    (["--models", "blend", "--ablate"], ValueError, "nothing to ablate"),
    (["--models", "blend", "--output", "x.txt"], ValueError, "must end in .json, .csv or .md"),
    (["--models", "blend", "--report", "x.txt"], ValueError, "must end in .html"),
    (["--models", "blend", "--report", "no/x.html"], FileNotFoundError, "there is no folder no"),
    (["--models", "blend", "--report-gaps", "2"], ValueError, "name the page with --report"),
    (["--models", "blend", "--report", "x.html", "--report-gaps", "2;4"], ValueError, "expected numbers with commas"),
    (["--models", "blend", "--output", "no/x.csv"], FileNotFoundError, "there is no folder no"),
    (["--models", "blend", "--skip-cuts", "--start", "16", "--gap", "8", "--pairs", "1"],
     ValueError, "all 1 have a scene cut inside"),
])  # fmt: skip
def test_bad_input_isparse_selection(
    app: typer.Typer, video: Path, options: list[str], kind: type, message: str
) -> None:
    result = CliRunner().invoke(app, [str(video), *options])
    assert isinstance(result.exception, kind)
    assert message in str(result.exception)


def test_a_set_that_is_misspelt_is_suggested() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'procedural-limbs'"):
        evaluate("procedural-limb", models=["blend"])


def test_a_failed_save_leaves_nothing(video: Path, tmp_path: Path) -> None:
    report = evaluate(video, gap=8, models=["blend"], pairs=1)
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(OSError, match=r"taken\.json"):
        report.save(tmp_path / "taken.json")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_the_command_follows_a_protocol_and_compares(app: typer.Typer, video: Path, tmp_path: Path) -> None:
    """Every video of a folder, in pairs of a gap of 4, with intervals, groups and costs."""
    folder, out = tmp_path / "set", tmp_path / "report.md"
    folder.mkdir()
    (folder / "pan.mp4").write_bytes(video.read_bytes())
    arguments = ["--protocol", "folder", "--root", str(folder), "--gap", "4", "--pairs", "2", "--models", "dis,blend"]
    arguments += ["--compare", "blend", "--by", "motion", "--cost", "--metrics", "psnr,flicker", "--output", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("clips of a folder: gap 4", "flicker", "against blend", "motion < 10 px", "fixed"):
        assert word in result.output
    assert "| dis |" in out.read_text()


def test_the_command_writes_inputs_and_reads_frames_of_others(app: typer.Typer, video: Path, tmp_path: Path) -> None:
    selection = [str(video), "--gap", "4", "--pairs", "2"]
    CliRunner().invoke(app, [*selection, "--export", str(tmp_path / "pairs")], catch_exceptions=False)
    assert sorted(path.name for path in (tmp_path / "pairs").iterdir()) == ["000000", "000004"]
    report = tmp_path / "report.json"
    arguments = [*selection, "--models", "blend", "--external", f"theirs={tmp_path / 'pairs'}"]
    arguments += ["--external", "copies=cp {first} {last} {out}", "--output", str(report), "--compare", "copies"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "copies failed: copies wrote 2 frames; expected 3, or 5 with both inputs" in result.output
    assert "no differences to copies: it failed" in result.output
    blend, theirs, copies = json.loads(report.read_text())["scores"]
    assert blend["failed"] is None
    assert "holds no images" in theirs["failed"] or "wrote nothing" in theirs["failed"]
    assert copies["failed"] == "copies wrote 2 frames; expected 3, or 5 with both inputs"


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "name a clip, or a protocol with --protocol and --root; neither is given"),
    (["--protocol", "gopro"], "--protocol and --root belong together"),
    (["--protocol", "gopor", "--root", "."], "did you mean 'gopro'"),
    (["--protocol", "gopro", "--root", ".", "--start", "3"], "start does not apply to a protocol"),
    (["--protocol", "gopro", "--root", ".", "--gap", "3"], "has a gap of its own, 8"),
])  # fmt: skip
def test_half_a_protocol_is_refused(app: typer.Typer, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rdvfi-s", ("rdvfi-s", "rdvfi-s", ())),
        ("rdvfi-s basis=linear", ("rdvfi-s basis=linear", "rdvfi-s", ("basis=linear",))),
        ("linear=rdvfi-s basis=linear", ("linear", "rdvfi-s", ("basis=linear",))),
        ("basis=rdvfi-s", ("basis", "rdvfi-s", ())),
        ('Anna\'s model, "wide"=rdvfi-s flow.width=32', ('Anna\'s model, "wide"', "rdvfi-s", ("flow.width=32",))),
        ("mine='a folder/model' basis=linear", ("mine", "a folder/model", ("basis=linear",))),
    ],
)
def test_a_model_is_named_however_it_likes(text: str, expected: tuple[str, str, tuple[str, ...]]) -> None:
    assert parse_selection("model", text) == expected


@pytest.mark.parametrize("text", ["", "mine=", "mine='a folder"])
def test_a_name_without_a_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--model is .*; expected NAME=MODEL \[KEY=VALUE\]"):
        parse_selection("model", text)
