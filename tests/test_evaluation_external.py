"""Programs of others as methods: FFmpeg for real, and every documented command with a stand-in that writes frames."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from rdvfi.evaluation.baselines import CrossFade
from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.external import (
    CommandTemplate,
    ExternalCommand,
    command_templates,
    create_external_method,
    external_method_name,
)
from rdvfi.evaluation.external_frames import FrameFolder, export_inputs, window_folder
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.methods import create_method
from rdvfi.evaluation.metrics import psnr
from rdvfi.media.image_files.images import write_png

CPU = torch.device("cpu")
AVERAGE = (
    "ffmpeg -v error -i {first} -i {last} -filter_complex "
    "'[0]format=gbrp[a];[1]format=gbrp[b];[a][b]blend=all_mode=average' {out}/%d.png"
)


def window(first: int = 0, clip: str = "", *, frames: int = 5) -> EvaluationWindow:
    """A photograph that moves by two pixels a frame."""
    picture = data.astronaut()
    return EvaluationWindow(
        first, np.stack([picture[100:164, 200 - 2 * i : 296 - 2 * i].copy() for i in range(frames)]), clip
    )


def evaluate(method, *windows: EvaluationWindow):
    return measure(windows or [window()], [method], device=CPU).scores[0]


def test_a_real_program_makes_the_frames() -> None:
    """FFmpeg averages the two inputs: what it writes is the cross-fade, to the rounding of both."""
    method, pair = create_external_method(f"ff={AVERAGE}"), window(frames=3)
    interpolated, cross_faded = (m(*pair.inputs(CPU), pair.times) for m in (method, CrossFade()))
    assert interpolated.shape == cross_faded.shape
    assert (255 * (interpolated - cross_faded).abs()).max() <= 1.0


def test_minterpolate_follows_motion() -> None:
    score, cross_faded = (
        evaluate(create_method("minterpolate"), window(frames=9)),
        evaluate(CrossFade(), window(frames=9)),
    )
    assert score.psnr > cross_faded.psnr + 3.0


STAND_IN = '''#!{python}
"""Stands in for a program that interpolates: reads its inputs as that program would, writes blends of them."""
import os, subprocess, sys
from pathlib import Path
if os.environ.get("STAND_IN") == "fails":
    print("loading", "out of memory", sep=chr(10), file=sys.stderr)
    sys.exit(3)
few = os.environ.get("STAND_IN") == "too few"
import cv2
import numpy as np

given = dict(zip(sys.argv, sys.argv[1:]))
names = ("-0", "--image1_path", "--first", "-1", "--image2_path", "--last")
files = [given[name] for name in names if name in given]
if "--pattern" in given:
    files = [Path(given["--pattern"], n) for n in ("0.png", "1.png")]
if "--input_yuv" in given:
    w, h = map(int, given["--size"].split("x"))
    raw = np.fromfile(given["--input_yuv"], np.uint8).reshape(2, h * 3 // 2, w)
    pair = [cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_I420) for frame in raw]
elif "--video" in given:
    capture = cv2.VideoCapture(given["--video"])
    pair = [capture.read()[1] for _ in range(2)]
else:
    pair = [cv2.imread(str(f)) for f in files]
assert all(p is not None for p in pair), sys.argv
blend = lambda t: cv2.addWeighted(pair[0], 1 - t, pair[1], t, 0)

def video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = frames[:-1] if few else frames
    h, w = frames[0].shape[:2]
    encode = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{{w}}x{{h}}", "-r", "2"]
    encode += ["-i", "-", "-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p", str(path)]
    subprocess.run(encode, input=b"".join(f.tobytes() for f in frames), check=True)

if "-s" in given:
    if not (few and float(given["-s"]) > 0.7):
        cv2.imwrite(given["-o"], blend(float(given["-s"])))
elif "--pattern" in given:
    n = 2 ** int(given["--times_to_interpolate"])
    out = Path(given["--pattern"], "interpolated_frames")
    out.mkdir()
    for i in range(n + 1 - few):
        cv2.imwrite(str(out / f"frame_{{i:03d}}.png"), blend(i / n))
elif "--input_yuv" in given:
    video(Path(given["--out_dir"], "pair_LDMVFI.mp4"), [blend(t) for t in (0, 0.5, 1)])
elif "--video" in given:
    video(Path(given["--output_path"]), [blend(t) for t in (0, 0.5, 1)])
elif "--image1_path" in given:
    video(Path(given["--output_dir"], "result.mp4"), [blend(i / {gap}) for i in range({gap} + 1)])
else:
    for i in range(int(given["--count"]) - few):
        cv2.imwrite(str(Path(given["--out"], f"{{i}}.png")), blend((i + 1) / (int(given["--count"]) + 1)))
'''


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the stand-in under every name that the documented commands start."""
    for name in ("python", "python3", "rife-ncnn-vulkan"):
        script = tmp_path / name
        script.write_text(STAND_IN.format(python=sys.executable, gap=4))
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


@pytest.mark.parametrize("name", sorted(set(command_templates()) - {"minterpolate"}))
def test_a_documented_command_gives_the_frames(name: str, programs: Path) -> None:
    """The stand-in reads what the real program would be given, and answers as it would."""
    pair = window(frames=3 if command_templates()[name].recursive else 5)
    interpolated, cross_faded = (
        m(*pair.inputs(CPU), pair.times) for m in (create_external_method(f"{name}@{programs}"), CrossFade())
    )
    assert interpolated.shape == cross_faded.shape
    assert (psnr(interpolated[0], cross_faded[0]) > 28.0).all()


@pytest.mark.parametrize("name", sorted(set(command_templates()) - {"minterpolate"}))
def test_a_documented_command_that_fails_is_named(name: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = window(frames=3 if command_templates()[name].recursive else 5)
    monkeypatch.setenv("STAND_IN", "fails")
    found = measure([pair], [create_external_method(f"{name}@{programs}"), CrossFade()], device=CPU).scores
    assert "ended with code 3: out of memory" in (found[0].failed or "")
    assert found[1].psnr > 15.0
    monkeypatch.setenv("STAND_IN", "too few")
    count, wrote = (
        len(pair.times),
        len(pair.times) - 1 if name in ("framer", "motion-i2v", "rife-ncnn-vulkan") else len(pair.times) + 1,
    )
    with pytest.raises(ValueError, match=rf"{name} wrote {wrote} frames; expected {count}, or {count + 2} with both"):
        create_external_method(f"{name}@{programs}")(*pair.inputs(CPU), pair.times)


def test_documented_commands_say_where_they_are_from() -> None:
    expected = {"fcvg", "ldmvfi", "momo", "motion-i2v", "framer", "film", "rife-ncnn-vulkan", "minterpolate"}
    assert expected == set(command_templates())
    for template in command_templates().values():
        assert template.about
        assert template.source.startswith("https://")


def test_a_system_that_makes_the_middle_is_run_again_on_both_halves() -> None:
    method, pair = ExternalCommand("halves", CommandTemplate((AVERAGE,), recursive=True)), window()
    interpolated, cross_faded = (m(*pair.inputs(CPU), pair.times) for m in (method, CrossFade()))
    assert (255 * (interpolated - cross_faded).abs()).max() <= 1.5


def test_systems_that_halve_refuse_other_numbers(programs: Path) -> None:
    for name in ("film", "momo"):
        with pytest.raises(ValueError, match=r"makes 1, 3, 7, 15, \.\.\. frames, not 4"):
            create_external_method(f"{name}@{programs}")(*window(frames=6).inputs(CPU), window(frames=6).times)


@pytest.mark.parametrize(("command", "why"), [
    ("false {pair} {out}", "false ended with code 1: no output"),
    ("cp {first} {last} nowhere/{out}", "cp ended with code 1: .*nowhere"),
    ("no-such-program {pair} {out}", "there is no program no-such-program"),
    ("cp {first} {last} {out}", r"mine wrote 2 frames; expected 3, or 5 with both inputs"),
    ("true {pair} {out}", "mine wrote nothing; expected images in one folder, or one video"),
    ("ffmpeg -v error -stream_loop 2 -i {last} -i {first} -map 0 -vf scale=32:16 {out}/%d.png",
     "mine wrote frames of 32x16; expected 96x64"),
])  # fmt: skip
def test_a_program_that_fails_gets_a_row_that_says_why(command: str, why: str) -> None:
    found = measure([window()], [create_external_method(f"mine={command}"), CrossFade()], device=CPU)
    failed, cross_faded = found.scores
    assert failed.failed is not None
    assert re.search(why, failed.failed), failed.failed
    assert not failed.values
    assert cross_faded.failed is None
    assert cross_faded.psnr > 15.0


@pytest.mark.parametrize(("text", "why"), [
    ("blend", "expected name=COMMAND, name=FOLDER or name@FOLDER"),
    ("a=run {first} {last}", "must say where the frames go"),
    ("a=run {out}", "must name its inputs"),
    ("a=run {frist} {last} {out}", r"has the unknown placeholder \{frist\}; known are first, last"),
    ("flim@/tmp", "did you mean 'film'"),
])  # fmt: skip
def test_a_command_that_cannot_work_is_refused_at_once(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        create_external_method(text)
    assert external_method_name(" two words = run {pair} {out}") == "two words"
    with pytest.raises(FileNotFoundError, match="there is no folder /nowhere"):
        create_external_method("film@/nowhere")


def test_file_names_with_spaces_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = tmp_path / "a folder"
    spaced.mkdir()
    monkeypatch.setenv("TMPDIR", str(spaced))
    monkeypatch.setattr("tempfile.tempdir", None)
    method = ExternalCommand("mine", CommandTemplate(("cp {first} {last} {out}",)))
    with pytest.raises(ValueError, match="wrote 2 frames"):
        method(*window().inputs(CPU), window().times)


def test_a_folder_of_frames_is_a_method(tmp_path: Path) -> None:
    """Frames made elsewhere from the exported inputs: here the true ones, so they are perfect."""
    both = [window(0, "one"), window(8, "two/part")]
    assert export_inputs(both, tmp_path) == 2
    for pair in both:
        folder = window_folder(tmp_path, pair)
        assert sorted(path.name for path in folder.iterdir()) == ["first.png", "last.png"]
        for i, frame in enumerate(pair.frames[1:-1]):
            write_png(folder / f"made{i}.png", frame)
    assert evaluate(FrameFolder("ready", tmp_path), *both).psnr == 60.0
    (tmp_path / "two/part/000008/made1.png").unlink()
    with pytest.raises(ValueError, match="ready wrote 2 frames; expected 3"):
        evaluate(create_external_method(f"ready={tmp_path}"), *both)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*three/000004"):
        evaluate(create_external_method(f"ready={tmp_path}"), window(4, "three"))
