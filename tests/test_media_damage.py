"""Files as they are found: damaged, with clocks that jump, interlaced, under odd names; and two runs at once."""

import errno
import itertools
import os
import subprocess
import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
from rdvfi.media import output
from rdvfi.media.output import complete_or_nothing
from rdvfi.media.reader import ReadOptions, open_source


def _transport(path: Path, count: int, *, start: int = 0) -> bytes:
    """A transport stream of 25 frames a second, without reordering, that starts at so many seconds."""
    options = {"output_ts_offset": str(start)} if start else {}
    with av.open(str(path), "w", format="mpegts", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "g": "6"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(clips.moving(count, 48, 64)):
            pixels = np.round(picture * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + 25 * start, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("start", [20, 5])
def test_a_clock_that_jumps_back_is_repaired(tmp_path, start) -> None:
    """Two recordings, one behind the other: the second begins where the first ends."""
    joined = tmp_path / "in.ts"
    joined.write_bytes(_transport(tmp_path / "a.ts", 12, start=start) + _transport(tmp_path / "b.ts", 12))
    source = open_source(joined)
    times = [frame.stamp.time for frame in source.frames()]
    assert len(times) == 24
    assert times[0] == 0
    for step in (b - a for a, b in itertools.pairwise(times)):
        assert abs(step - Fraction(1, 25)) <= Fraction(1, 1000)


def test_times_start_at_zero_unless_they_are_to_be_kept(tmp_path) -> None:
    _transport(tmp_path / "in.ts", 4, start=3600)
    assert next(open_source(tmp_path / "in.ts").frames()).stamp.time == 0
    assert next(open_source(tmp_path / "in.ts", ReadOptions(keep_start=True)).frames()).stamp.time >= 3600


def test_damage_in_the_middle_is_passed_over_and_told(tmp_path) -> None:
    whole, broken = tmp_path / "whole.mp4", tmp_path / "in.mp4"
    clips.write_clip(whole, [np.random.default_rng(k).random((48, 64, 3)) for k in range(12)], sound=False)
    data = bytearray(whole.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    broken.write_bytes(data)
    source = open_source(broken)
    frames = list(source.frames())
    assert 6 <= len(frames) <= 12
    times = [frame.stamp.time for frame in frames]
    assert times == sorted(times)
    if len(frames) < 12:
        assert "is damaged, and what there is was used" in source.notes()[0]
        with pytest.raises(ValueError, match="is damaged: 1 place cannot be read"):
            list(open_source(broken, ReadOptions(strict=True)).frames())


def test_interlaced_frames_become_whole_ones(tmp_path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "4"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        fields = clips.moving(12, 64, 64, step=4)
        for first, second in zip(fields[::2], fields[1::2], strict=True):
            woven = first.copy()
            woven[1::2] = second[1::2]
            pixels = np.ascontiguousarray(np.round(woven * 255).astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    combed, whole = (open_source(tmp_path / "in.mkv", ReadOptions(deinterlace=each)) for each in (False, True))
    assert combed.notes() == []
    assert "is interlaced: whole frames were made of its fields" in whole.notes()[0]
    before, after = (list(source.frames()) for source in (combed, whole))
    assert [frame.stamp.time for frame in before] == [frame.stamp.time for frame in after]

    def combing(frames) -> float:
        return float(np.mean([np.abs(np.diff(f.pixels.astype(float), axis=0)).mean() for f in frames[1:-1]]))

    assert combing(after) < 0.7 * combing(before)


@pytest.mark.parametrize("name", ["12:30:05.mp4", "100%d.mp4", "-x.mp4", "x" * 251 + ".mp4"])
def test_any_name_is_a_file(tmp_path, name, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips.write_clip(tmp_path / "a.mp4", clips.moving(2, 48, 64), sound=False)
    with complete_or_nothing(Path(name), overwrite=False) as partial:
        partial.write_bytes((tmp_path / "a.mp4").read_bytes())
    assert len(list(open_source(Path(name)).frames())) == 2


def test_pipes_are_refused_at_once(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(ValueError, match=r"pipe\.mkv is a pipe or a device"):
        open_source(tmp_path / "pipe.mkv")
    with pytest.raises(ValueError, match=r"- \(standard input\) cannot be read"):
        open_source(Path("-"))


@pytest.mark.parametrize("name", ["out.mp4", "frames"])
def test_what_appeared_meanwhile_is_not_replaced(tmp_path, name) -> None:
    target = tmp_path / name

    def write(content: str) -> None:
        with complete_or_nothing(target, overwrite=False) as partial:
            inner = partial / "frame_000000.png" if partial.is_dir() else partial
            inner.write_text(content)
            if content == "first":
                write("second")  # another run ends before this one does

    with pytest.raises(FileExistsError, match=r"(exists|holds frames); replace"):
        write("first")
    assert os.listdir(tmp_path) == [name]
    assert (target / "frame_000000.png" if target.is_dir() else target).read_text() == "second"


def test_leftovers_of_killed_runs_are_removed(tmp_path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    process = int(ended.stdout)
    dead, alive = tmp_path / f".o.rdvfi-{process}-abc.part.mp4", tmp_path / f".o.rdvfi-{os.getpid()}-abc.part.mp4"
    other = tmp_path / ".o.part.mp4"
    for each in (dead, alive, other):
        each.write_text("half")
    with complete_or_nothing(tmp_path / "out.mp4") as partial:
        partial.write_text("whole")
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()


@pytest.mark.parametrize("there", [False, True])
def test_output_is_kept_where_there_are_no_hard_links(tmp_path, monkeypatch, there) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(output, "_rename_no_replace", lambda *_: False)
    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "out.mp4"
    with pytest.raises(FileExistsError) if there else nullcontext(), complete_or_nothing(target, overwrite=False) as p:
        p.write_text("whole")
        if there:
            target.write_text("another")
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert target.read_text() == ("another" if there else "whole")


def test_leftovers_that_cannot_be_removed_stop_nothing(tmp_path, monkeypatch) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = tmp_path / f".o.rdvfi-{int(ended.stdout)}-abc.part.mp4"
    dead.write_text("half")
    opened = os.open

    def guarded(path: object, *more: object) -> int:
        if Path(str(path)) == dead:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", guarded)
    with complete_or_nothing(tmp_path / "out.mp4") as partial:
        partial.write_text("whole")
    assert (tmp_path / "out.mp4").read_text() == "whole"


def test_a_file_where_a_folder_is_meant_is_refused_before_any_work(tmp_path) -> None:
    (tmp_path / "frames").write_text("a file")
    with pytest.raises(ValueError, match="means a folder of PNG images"):
        output.check_destination(tmp_path / "frames", overwrite=True)


@pytest.mark.parametrize("exchange", [True, False])
def test_new_frames_take_the_place_of_old_ones(tmp_path, monkeypatch, exchange) -> None:
    """Where a system can exchange two names, the folder is there at every moment."""
    target, renames, replace = tmp_path / "frames", [], os.replace
    target.mkdir()
    (target / "frame_000000.png").write_text("old")
    monkeypatch.setattr(os, "replace", lambda *names: (renames.append(names), replace(*names)))
    if not exchange:
        monkeypatch.setattr(output, "_renameat2", lambda *_: False)
    with complete_or_nothing(target, overwrite=True) as partial:
        (partial / "frame_000001.png").write_text("new")
    assert os.listdir(target) == ["frame_000001.png"]
    assert os.listdir(tmp_path) == ["frames"]
    assert len(renames) == (0 if exchange else 2)
