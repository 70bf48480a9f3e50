"""Outputs under faults: the final name holds the old file, nothing, or the whole new one."""

import itertools
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
import faults
from rdvfi.media.outputs import atomic_rename
from rdvfi.media.outputs.output import atomic_output, check_destination
from rdvfi.media.outputs.temporary_files import create_backup_folder, create_partial
from rdvfi.media.reader import open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink
from rdvfi.video import interpolate_video

FRAMES = 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("in") / "in.mkv"
    clips.write_clip(path, clips.moving(FRAMES, 48, 64))
    opened = open_source(path)
    return opened.info, list(opened.frames())


def _write(source, target: Path, *, overwrite: bool) -> None:
    """What a run does with its output, without the model."""
    info, frames = source
    check_destination(target, overwrite=overwrite)
    options = dict(tick=info.tick, rate=Fraction(24), overwrite=overwrite)
    with open_sink(target, info, SinkOptions(), **options) as sink:
        for frame in frames:
            sink.write(frame.pixels, Moment(0, Fraction(0), frame.stamp.time, frame.stamp.duration))


def _state(target: Path) -> str:
    """What is under the final name."""
    if not os.path.lexists(target):
        return "nothing"
    if target.is_dir():
        names = sorted(path.name for path in target.iterdir())
        if names == ["frame_000000.png"] and (target / names[0]).read_bytes() == b"old":
            return "old"
        whole = names == [f"frame_{k:06d}.png" for k in range(FRAMES)]
        return "new" if whole and open_source(target).info.frames == FRAMES else f"broken {names}"
    if target.read_bytes() == b"old":
        return "old"
    try:
        with av.open(str(target)) as container:
            return "new" if sum(1 for _ in container.decode(video=0)) == FRAMES else "broken"
    except av.error.FFmpegError:
        return "broken"


def _prepare(folder: Path, name: str, *, old: bool) -> Path:
    target = folder / name
    if old and target.suffix:
        target.write_bytes(b"old")
    elif old:
        target.mkdir()
        (target / "frame_000000.png").write_bytes(b"old")
    return target


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.gif", "frames"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("modern", [True, False])
def test_any_fault_at_any_step_breaks_no_output(tmp_path, source, monkeypatch, name, old, modern) -> None:
    _check_every_fault(tmp_path, source, monkeypatch, name, old, modern, tuple(faults.FAULTS))


@pytest.mark.parametrize(
    ("name", "old", "modern"), [("out.mp4", False, False), ("frames", True, True), ("frames", True, False)]
)
def test_the_usual_faults_at_any_step_break_no_output(tmp_path, source, monkeypatch, name, old, modern) -> None:
    _check_every_fault(tmp_path, source, monkeypatch, name, old, modern, ("kill -9", "SIGTERM", "full disk"))


def _check_every_fault(tmp_path, source, monkeypatch, name, old, modern, kinds) -> None:
    if not modern:  # no system call that never replaces, and none that exchanges two names
        monkeypatch.setattr(atomic_rename, "_renameat2", lambda *_: False)
    (tmp_path / "count").mkdir()
    counted = _prepare(tmp_path / "count", name, old=old)
    steps = faults.operations(lambda: _write(source, counted, overwrite=old), tmp_path)
    assert steps > 4
    assert _state(counted) == "new"
    for step, fault in itertools.product(range(1, steps + 1), kinds):
        folder = tmp_path / f"{step}-{fault}"
        folder.mkdir()
        target = _prepare(folder, name, old=old)
        ending = faults.run(lambda to=target: _write(source, to, overwrite=old), folder, fault=fault, at=step)
        state, where = _state(target), f"{fault} at step {step} of {steps}: {ending}, {os.listdir(folder)}"
        assert ending not in ("hang", "traceback"), where
        if ending == "done":
            assert state == "new", f"{state} after {where}"
        # Without the system's exchange, a kill between two renames leaves the old frames in a hidden folder.
        allowed = {"old", "new"} if old else {"nothing", "new"}
        between = not modern and name == "frames" and fault == "kill -9"
        assert state in (allowed | {"nothing"} if between else allowed) or _is_empty(target, old, modern), (
            f"{state} after {where}"
        )
        if fault != "kill -9" and state != "new":  # what is left of the old one goes with the next run
            assert set(os.listdir(folder)) <= {name}, f"left after {where}"
        kept = state == "nothing" and old
        with atomic_output(folder / "next.mp4") as partial:
            partial.write_text("whole")
        assert set(os.listdir(folder)) <= {name, "next.mp4"}, f"still there after {where}"
        if kept:
            assert _state(target) == "old", f"frames were lost after {where}"


def _is_empty(target: Path, old: bool, modern: bool) -> bool:
    """Where no system call helps, a new folder is made before its frames are moved in."""
    return not old and not modern and target.is_dir() and not any(target.iterdir())


@pytest.mark.parametrize(
    "name", ["out.mp4", "frames", *(pytest.param(n, marks=pytest.mark.slow) for n in ("o.mkv", "o.gif"))]
)
@pytest.mark.parametrize("old", [False, True])
def test_a_disk_that_is_full_at_any_byte_breaks_no_output(tmp_path, source, name, old) -> None:
    whole = _prepare(tmp_path, "whole" + name, old=False)
    _write(source, whole, overwrite=False)
    size = max(path.stat().st_size for path in ([*whole.iterdir()] if whole.is_dir() else [whole]))
    for at in range(0, size, max(1, size // 8)):
        folder = tmp_path / str(at)
        folder.mkdir()
        target = _prepare(folder, name, old=old)
        ending = faults.run(lambda to=target: _write(source, to, overwrite=old), folder, fault="no room", at=at)
        assert ending == "error", f"{ending} at {at} of {size} bytes"
        assert _state(target) == ("old" if old else "nothing")
        assert os.listdir(folder) == ([name] if old else [])


@pytest.mark.parametrize("name", ["out.mp4", "frames"])
def test_a_second_run_into_one_output_is_refused_while_the_first_is_running(tmp_path, name) -> None:
    program = "import sys, pathlib; from rdvfi.media.outputs.output import atomic_output as begin\n"
    program += "with begin(pathlib.Path(sys.argv[1])): print('begun', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"begun\n"
        with pytest.raises(FileExistsError, match=f"another run is writing .*{name}; wait for it"):
            check_destination(tmp_path / name, overwrite=True)
        for other in ("out.mkv", "out", "frames.mp4"):
            check_destination(tmp_path / other, overwrite=False)
        first.kill()
    check_destination(tmp_path / name, overwrite=False)


def test_frames_that_were_moved_aside_are_put_back(tmp_path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    made = create_backup_folder(tmp_path / "frames")
    kept = made.rename(str(made).replace(f"-{os.getpid()}-", f"-{int(ended.stdout)}-"))
    (kept / "frames").mkdir()
    (kept / "frames" / "frame_000000.png").write_bytes(b"old")
    with atomic_output(tmp_path / "another.mp4") as partial:
        partial.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["another.mp4", "frames"]
    assert _state(tmp_path / "frames") == "old"


def test_leftovers_go_also_if_their_number_is_that_of_a_living_process(tmp_path) -> None:
    """In containers every run has the same number."""
    fresh, stale = create_partial(tmp_path / "a.mp4", folder=False), create_partial(tmp_path / "b", folder=True)
    os.utime(stale, (time.time() - 3600,) * 2)
    with atomic_output(tmp_path / "out.mp4") as partial:
        os.utime(partial, (time.time() - 3600,) * 2)  # what is locked stays, however old
        with atomic_output(tmp_path / "out2.mp4"):
            assert partial.exists()
    assert fresh.exists()
    assert not stale.exists()


def test_sources_are_never_replaced(tmp_path, source) -> None:
    target = tmp_path / "frames"
    _write(source, target, overwrite=False)
    before = sorted(os.listdir(target))
    with pytest.raises(ValueError, match=r"is inside .*frames, which would be replaced"):
        interpolate_video([target / name for name in before[:2]], target, overwrite=True)
    assert sorted(os.listdir(target)) == before


def test_links_are_followed_and_dangling_ones_named(tmp_path, source) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real" / "out.mp4")
    _write(source, tmp_path / "link.mp4", overwrite=False)
    assert (tmp_path / "link.mp4").is_symlink()
    assert _state(tmp_path / "real" / "out.mp4") == "new"
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "none" / "out.mp4")
    with pytest.raises(FileNotFoundError, match=r"none of .*lost\.mp4 does not exist"):
        check_destination(tmp_path / "lost.mp4", overwrite=False)


def test_two_runs_into_one_output_never_both_succeed(tmp_path) -> None:
    target = tmp_path / "out.mp4"
    with atomic_output(target, overwrite=False) as first:
        first.write_text("first")
        with atomic_output(target, overwrite=False) as second:
            second.write_text("second")
        assert target.read_text() == "second"
        with (
            pytest.raises(FileExistsError, match=r"out\.mp4 exists"),
            atomic_output(target, overwrite=False) as third,
        ):
            third.write_text("third")
        target.unlink()
    assert target.read_text() == "first"
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize(
    "name",
    [
        "a:b.mp4",
        "100%d.mp4",
        "-x.mp4",
        " .mp4",
        "a\nb.mkv",
        "\u65e5\u672c.mkv",
        "x" * 251 + ".mp4",
        os.fsdecode(b"a\xff.mkv"),
    ],
)
def test_any_name_is_taken(tmp_path, source, name) -> None:
    _write(source, tmp_path / name, overwrite=False)
    assert os.listdir(tmp_path) == [name]
    assert _state(tmp_path / name) == "new"
    assert np.isfinite(open_source(tmp_path / name).info.frames)
