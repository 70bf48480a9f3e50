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
import cv2
import numpy as np
import pytest
import skimage.data
import skimage.transform

import clips
from rdvfi.media.outputs import atomic_rename, output
from rdvfi.media.outputs.output import atomic_output
from rdvfi.media.reader import ReadOptions, open_source
from rdvfi.media.video_files.scheduling import preserve_scheduling
from test_media_encoding import _transcode


def _transport_stream(path: Path, count: int, *, start: int = 0, size: tuple[int, int] = (48, 64)) -> bytes:
    """A transport stream of 25 frames a second, without reordering, that starts at so many seconds."""
    options = {"output_ts_offset": str(start)} if start else {}
    with av.open(str(path), "w", format="mpegts", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "g": "6"})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for number, picture in enumerate(clips.moving(count, *size)):
            pixels = np.round(picture * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + 25 * start, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_damaged_sound_is_left_out_and_counted(tmp_path) -> None:
    """Four sound packets of a transport stream lose their header, without which MP4 cannot hold them."""
    clips.write_clip(tmp_path / "whole.ts", clips.moving(12, 48, 64))
    data = bytearray((tmp_path / "whole.ts").read_bytes())
    with av.open(str(tmp_path / "whole.ts")) as container:
        heads = [bytes(packet)[:7] for packet in container.demux(audio=0) if packet.size][4:8]
    for head in heads:
        at = data.index(head)
        data[at : at + 2] = b"\0\0"
    (tmp_path / "in.ts").write_bytes(data)
    source = open_source(tmp_path / "in.ts")
    notes = _transcode(tmp_path / "in.ts", tmp_path / "o.mp4")
    assert len(list(source.frames())) == 12
    assert any("of audio track #1 was left out" in note for note in notes), notes
    assert clips.sound_packets(tmp_path / "o.mp4")


def test_frames_that_are_missing_in_a_steady_film_are_counted(tmp_path) -> None:
    times = [1000 * k for k in range(40) if k not in (12, 13, 30)]
    clips.write_clip(tmp_path / "in.mkv", clips.moving(len(times), 48, 64), ticks=times, sound=False)
    (note,) = open_source(tmp_path / "in.mkv").notes()
    assert "3 frames seem to be missing in" in note
    assert note.endswith("from 0.50 s on")
    with pytest.raises(ValueError, match=r"3 frames seem to be missing in .*in\.mkv"):
        open_source(tmp_path / "in.mkv", ReadOptions(strict=True))
    varied = np.cumsum(np.random.default_rng(0).integers(400, 4000, 40)).tolist()
    clips.write_clip(tmp_path / "vary.mkv", clips.moving(40, 48, 64), ticks=varied, sound=False)
    assert open_source(tmp_path / "vary.mkv").notes() == []
    assert open_source(tmp_path / "vary.mkv").info.shortest_step == min(
        round(Fraction(b, 24)) - round(Fraction(a, 24)) for a, b in itertools.pairwise(varied)
    ) * Fraction(1, 1000)


@pytest.mark.parametrize("strict", [False, True])
def test_frames_that_the_decoder_drops_silently_are_counted(tmp_path, strict) -> None:
    """So it is with AV1 of which a part was overwritten."""
    with preserve_scheduling(), av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libsvtav1", rate=25, options={"preset": "12", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for picture in clips.moving(30, 64, 64):
            pixels = np.round(picture * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray((tmp_path / "in.mkv").read_bytes())
    with av.open(str(tmp_path / "in.mkv")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[10:14]:
        place = data.index(packet)
        data[place : place + len(packet)] = bytes(len(packet))
    (tmp_path / "in.mkv").write_bytes(data)
    source = open_source(tmp_path / "in.mkv", ReadOptions(strict=strict))
    if strict:
        with pytest.raises(ValueError, match="is damaged"):
            list(source.frames())
        return
    frames = len(list(source.frames()))
    assert frames < 29
    assert f"{30 - frames} frames are missing" in source.notes()[0]


def test_a_recording_that_lost_its_index_is_named(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mov", clips.moving(12, 48, 64))
    data = (tmp_path / "in.mov").read_bytes()
    (tmp_path / "in.mov").write_bytes(data[: data.index(b"moov")])
    with pytest.raises(ValueError, match=r"its index \(moov\) is missing"):
        open_source(tmp_path / "in.mov")


@pytest.mark.parametrize("start", [20, 5])
def test_a_clock_that_jumps_back_is_repaired(tmp_path, start) -> None:
    """Two recordings, one behind the other: the second begins where the first ends."""
    joined = tmp_path / "in.ts"
    joined.write_bytes(_transport_stream(tmp_path / "a.ts", 12, start=start) + _transport_stream(tmp_path / "b.ts", 12))
    source = open_source(joined)
    times = [frame.stamp.time for frame in source.frames()]
    assert len(times) == 24
    assert times[0] == 0
    for step in (b - a for a, b in itertools.pairwise(times)):
        assert abs(step - Fraction(1, 25)) <= Fraction(1, 1000)


@pytest.mark.parametrize("size", [(96, 128), (32, 48)])
def test_frames_of_another_size_are_scaled_to_the_first_and_counted(tmp_path, size) -> None:
    parts = _transport_stream(tmp_path / "a.ts", 6) + _transport_stream(tmp_path / "b.ts", 6, size=size)
    (tmp_path / "in.ts").write_bytes(parts)
    source = open_source(tmp_path / "in.ts")
    frames = [frame.pixels for frame in source.frames()]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 12
    scaled = cv2.resize(next(open_source(tmp_path / "b.ts").frames()).pixels, (64, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(frames[6].astype(int) - scaled).mean() < 6
    (note,) = [note for note in source.notes() if "frame size" in note]
    assert note.endswith("changes its frame size: 6 frames were scaled to 64x48")
    with pytest.raises(ValueError, match=r"in\.ts (changes its frame size from 64x48 to|is damaged)"):
        list(open_source(tmp_path / "in.ts", ReadOptions(strict=True)).frames())


def test_times_start_at_zero_unless_they_are_to_be_kept(tmp_path) -> None:
    _transport_stream(tmp_path / "in.ts", 4, start=3600)
    assert next(open_source(tmp_path / "in.ts").frames()).stamp.time == 0
    assert next(open_source(tmp_path / "in.ts", ReadOptions(keep_start=True)).frames()).stamp.time >= 3600


def test_damage_in_the_middle_is_skipped_and_reported(tmp_path) -> None:
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
        assert "is damaged; frames that could be decoded were used" in source.notes()[0]
        with pytest.raises(ValueError, match="is damaged: 1 place cannot be read"):
            list(open_source(broken, ReadOptions(strict=True)).frames())


def _write_interlaced(path: Path, fields, *, marked: bool, head: int = 0) -> None:
    """A film of two fields a frame, and before them ``head`` whole frames."""
    options = {"crf": "4", "g": "8"} | ({"flags": "+ildct+ilme", "x264-params": "tff=1"} if marked else {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = fields[0].shape[1], fields[0].shape[0], "yuv420p"
        frames = list(fields[:head])
        for first, second in zip(fields[head::2], fields[head + 1 :: 2], strict=True):
            woven = first.copy()
            woven[1::2] = second[1::2]
            frames.append(woven)
        for picture in frames:
            pixels = np.ascontiguousarray(np.round(picture * 255).astype(np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _moving_pictures(count: int, *, step: int = 2) -> list[np.ndarray]:
    """A photograph that moves."""
    photograph = skimage.transform.resize(skimage.data.coffee(), (96, 128 + step * count), anti_aliasing=True)
    return [photograph[:, step * k : step * k + 128] for k in range(count)]


def _telecine(film: list[np.ndarray]) -> list[np.ndarray]:
    """Fields of film, each frame for two of them and for three in turn."""
    return [picture for k, picture in enumerate(film) for _ in range(2 + k % 2)]


@pytest.mark.parametrize(("kind", "choice", "says"), [
    ("marked", "auto", "is interlaced and was deinterlaced"),
    ("marked", "off", "is interlaced and was not deinterlaced"),
    ("unmarked", "auto", "looks interlaced but is not marked as such; use deinterlace=on"),
    ("unmarked", "on", "is interlaced and was deinterlaced"),
    ("telecined", "auto", "is telecined: 24 film frames are spread over 30"),
    ("whole", "auto", None),
    ("still", "auto", None),
])  # fmt: skip
def test_interlaced_and_telecined_video_is_reported(tmp_path, kind, choice, says) -> None:
    film = _moving_pictures(48)
    fields = {"telecined": _telecine(film), "whole": [p for p in film[:24] for _ in range(2)], "still": film[:1] * 48}
    _write_interlaced(tmp_path / "in.mp4", fields.get(kind, film), marked=kind == "marked")
    source = open_source(tmp_path / "in.mp4", ReadOptions(deinterlace=choice))
    frames = list(source.frames())
    assert len(frames) == len(fields.get(kind, film)) // 2
    notes = source.notes()
    assert [says is not None and says in note for note in notes] == ([] if says is None else [True])


def test_frames_that_are_interlaced_later_on_become_whole_ones(tmp_path) -> None:
    """As where a film is joined of parts: only these frames are changed."""
    _write_interlaced(tmp_path / "whole.ts", _moving_pictures(8), marked=False, head=8)
    _write_interlaced(tmp_path / "woven.ts", _moving_pictures(16, step=4), marked=True)
    (tmp_path / "in.ts").write_bytes((tmp_path / "whole.ts").read_bytes() + (tmp_path / "woven.ts").read_bytes())
    made, left = (list(open_source(tmp_path / "in.ts", ReadOptions(deinterlace=c)).frames()) for c in ("auto", "off"))
    assert [frame.stamp for frame in made] == [frame.stamp for frame in left]
    changed = [not np.array_equal(a.pixels, b.pixels) for a, b in zip(made, left, strict=True)]
    assert changed == [False] * 8 + [True] * 8


def test_interlaced_frames_become_whole_ones(tmp_path) -> None:
    _write_interlaced(tmp_path / "in.mkv", clips.moving(12, 64, 64, step=4), marked=True)
    combed, whole = (open_source(tmp_path / "in.mkv", ReadOptions(deinterlace=each)) for each in ("off", "auto"))
    before, after = (list(source.frames()) for source in (combed, whole))
    assert [frame.stamp.time for frame in before] == [frame.stamp.time for frame in after]

    def combing(frames) -> float:
        return float(np.mean([np.abs(np.diff(f.pixels.astype(float), axis=0)).mean() for f in frames[1:-1]]))

    assert combing(after) < 0.7 * combing(before)


@pytest.mark.parametrize("name", ["12:30:05.mp4", "100%d.mp4", "-x.mp4", "x" * 251 + ".mp4"])
def test_any_name_is_a_file(tmp_path, name, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips.write_clip(tmp_path / "a.mp4", clips.moving(2, 48, 64), sound=False)
    with atomic_output(Path(name), overwrite=False) as partial:
        partial.write_bytes((tmp_path / "a.mp4").read_bytes())
    assert len(list(open_source(Path(name)).frames())) == 2


def test_pipes_are_refused_at_once(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(ValueError, match=r"pipe\.mkv is a pipe or a device"):
        open_source(tmp_path / "pipe.mkv")


@pytest.mark.parametrize("name", ["out.mp4", "frames"])
def test_what_appeared_meanwhile_is_not_replaced(tmp_path, name) -> None:
    target = tmp_path / name

    def write(content: str) -> None:
        with atomic_output(target, overwrite=False) as partial:
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
    with atomic_output(tmp_path / "out.mp4") as partial:
        partial.write_text("whole")
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()


@pytest.mark.parametrize("there", [False, True])
def test_output_is_kept_where_there_are_no_hard_links(tmp_path, monkeypatch, there) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic_rename, "_renameat2", lambda *_: False)
    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "out.mp4"
    with pytest.raises(FileExistsError) if there else nullcontext(), atomic_output(target, overwrite=False) as p:
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
    with atomic_output(tmp_path / "out.mp4") as partial:
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
        monkeypatch.setattr(atomic_rename, "_renameat2", lambda *_: False)
    with atomic_output(target, overwrite=True) as partial:
        (partial / "frame_000001.png").write_text("new")
    assert os.listdir(target) == ["frame_000001.png"]
    assert os.listdir(tmp_path) == ["frames"]
    assert len(renames) == (0 if exchange else 2)


def test_a_film_that_begins_after_an_hour_is_whole(tmp_path) -> None:
    """What Matroska calls the duration counts from zero."""
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(5):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = 3600 * 25 + k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_source(tmp_path / "in.mkv", ReadOptions(strict=True))
    assert [frame.stamp.time for frame in source.frames()] == [Fraction(k, 25) for k in range(5)]
    assert source.notes() == []
