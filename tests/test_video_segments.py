"""An interrupted job goes on where it stopped, and gives the bytes of one that was not interrupted."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clips
import interrupted
import rdvfi
from rdvfi.media.outputs.temporary_files import remove_stale_files
from rdvfi.media.reader import SourceFrame
from rdvfi.media.timestamps import Moment, Stamp
from rdvfi.video import OtherJob, Stopped, interpolate_video
from rdvfi.video.job_options import JobOptions
from rdvfi.video.playback import PlaybackStep
from rdvfi.video.segmented_jobs import segment_worker
from rdvfi.video.segmented_jobs.segment_store import FolderStore, ObjectStore, SegmentStore, default_segments
from rdvfi.video.segmented_jobs.segments import settle_durations, split_segments
from rdvfi.video.timing import Interval
from rdvfi.video.video_job import read_job


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model and a clip of 13 frames, 16 to a segment when it is multiplied by 4."""
    folder = tmp_path_factory.mktemp("jobs")
    interrupted.save_model(folder / "model")
    clips.write_clip(folder / "in.mp4", clips.moving(13, 48, 64))
    return folder


@pytest.fixture(scope="module")
def model(folder) -> rdvfi.Interpolator:
    return rdvfi.create_model(folder / "model")


OPTIONS = {"multiplier": 4, "segment_frames": 16}


def _bytes(path: Path) -> list[bytes]:
    return [each.read_bytes() for each in sorted(path.iterdir())] if path.is_dir() else [path.read_bytes()]


class _Counting:
    """Counts the pairs whose motion is estimated."""

    def __init__(self, model: rdvfi.Interpolator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs = 0
        estimate = model.estimate

        def counted(*arguments, **options):
            self.pairs += 1
            return estimate(*arguments, **options)

        monkeypatch.setattr(model, "estimate", counted)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.gif", "out"])
def test_a_resumed_job_does_the_rest_and_gives_the_same_bytes(tmp_path, folder, model, monkeypatch, name) -> None:
    source, counting = folder / "in.mp4", _Counting(model, monkeypatch)
    whole = interpolate_video(source, tmp_path / f"whole{Path(name).suffix}", model=model, **OPTIONS)
    assert counting.pairs == 12
    store = default_segments(tmp_path / name)
    with pytest.raises(Stopped) as caught:
        interpolate_video(
            source, tmp_path / name, model=model, resume=True, progress=lambda done, total: done < 7, **OPTIONS
        )
    assert caught.value.__notes__ == [f"1 finished segments are kept in {store}; resume goes on from there"]
    assert sorted(os.listdir(store)) == ["000000.segment", "job.json"]
    assert sorted(os.listdir(tmp_path)) == sorted([store.name, f"whole{Path(name).suffix}"])
    counting.pairs = 0
    told = []
    report = interpolate_video(
        source,
        tmp_path / name,
        model=model,
        resume=True,
        progress=lambda done, total: told.append(done),
        **OPTIONS,
    )
    assert counting.pairs == 12 - 4
    assert told == list(range(13))
    assert _bytes(tmp_path / name) == _bytes(tmp_path / f"whole{Path(name).suffix}")
    assert (report.frames_written, report.frames_read) == (49, 13)
    assert report.confidence == whole.confidence
    assert not store.exists()


def test_uncertain_pairs_of_kept_segments_are_reported(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.two_scenes(each=2))
    options = {"model": model, "multiplier": 2, "segment_frames": 2}
    with pytest.warns(rdvfi.video.LowConfidenceWarning):
        whole = interpolate_video(tmp_path / "in.mp4", tmp_path / "a.mp4", **options)
    with pytest.raises(Stopped):
        interpolate_video(
            tmp_path / "in.mp4", tmp_path / "b.mp4", resume=True, progress=lambda done, total: done < 3, **options
        )
    with pytest.warns(rdvfi.video.LowConfidenceWarning):
        resumed = interpolate_video(tmp_path / "in.mp4", tmp_path / "b.mp4", resume=True, **options)
    assert len(whole.uncertain) == 1
    assert resumed.uncertain == whole.uncertain


def test_without_resume_nothing_is_kept(tmp_path, folder, model) -> None:
    with pytest.raises(Stopped):
        interpolate_video(
            folder / "in.mp4", tmp_path / "out.mp4", model=model, progress=lambda done, total: done < 9, **OPTIONS
        )
    assert os.listdir(tmp_path) == []


def _interrupt(source: Path, destination: Path, model, **options) -> None:
    with pytest.raises(Stopped):
        interpolate_video(
            source,
            destination,
            model=model,
            resume=True,
            progress=lambda done, total: done < 9,
            **{**OPTIONS, **options},
        )


def test_segments_of_another_job_are_refused_and_named(tmp_path, folder, model) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    shutil.copy(folder / "in.mp4", source)
    _interrupt(source, out, model)
    other = rdvfi.build("rdvfi_s", *interrupted.SMALL[:-1], "renderer=blend")
    other.mark_trained("backbone", "trajectory", "renderer")
    for used, options, message in (
        (model, {"multiplier": 2}, "of another job: multiplier was 4 and is 2"),
        (model, {"crf": 30}, "crf was None and is 30"),
        (model, {"segment_frames": 8}, "segment_frames was 16 and is 8"),
        (other, {}, "the model was"),
    ):
        with pytest.raises(OtherJob, match=message):
            interpolate_video(source, out, model=used, resume=True, **{**OPTIONS, **options})
    clips.write_clip(source, clips.moving(13, 48, 64, seed=1))
    with pytest.raises(OtherJob, match="the source was"):
        interpolate_video(source, out, model=model, resume=True, **OPTIONS)
    assert len(os.listdir(default_segments(out))) == 3  # they stay until somebody decides
    assert not out.exists()


def test_segments_of_another_version_are_refused(tmp_path, folder, model, monkeypatch) -> None:
    _interrupt(folder / "in.mp4", tmp_path / "out.mp4", model)
    monkeypatch.setattr(rdvfi, "__version__", "0.3.0")
    with pytest.raises(OtherJob, match=r"the version of rdvfi was .* and is 0\.3\.0"):
        interpolate_video(folder / "in.mp4", tmp_path / "out.mp4", model=model, resume=True, **OPTIONS)


def test_a_job_that_starts_anew_replaces_the_segments_of_another(tmp_path, folder, model, caplog) -> None:
    _interrupt(folder / "in.mp4", tmp_path / "out.mp4", model)
    place = default_segments(tmp_path / "out.mp4")
    caplog.clear()
    with pytest.raises(Stopped):
        interpolate_video(
            folder / "in.mp4",
            tmp_path / "out.mp4",
            model=model,
            segments=place,
            progress=lambda done, total: done < 9,
            multiplier=8,
            segment_frames=32,
        )
    assert "2 finished segments of an interrupted run" in caplog.text
    with pytest.raises(OtherJob, match="multiplier was 8 and is 4"):
        interpolate_video(folder / "in.mp4", tmp_path / "out.mp4", model=model, resume=True, **OPTIONS)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_segment_is_made_again(tmp_path, folder, model, harm, caplog) -> None:
    interpolate_video(folder / "in.mp4", tmp_path / "whole.mp4", model=model, **OPTIONS)
    _interrupt(folder / "in.mp4", tmp_path / "out.mp4", model)
    segment = default_segments(tmp_path / "out.mp4") / "000001.segment"
    data = bytearray(segment.read_bytes())
    if harm == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 3] ^= 0xFF
    segment.write_bytes(data)
    interpolate_video(folder / "in.mp4", tmp_path / "out.mp4", model=model, resume=True, **OPTIONS)
    assert "segment 1" in caplog.text
    assert _bytes(tmp_path / "out.mp4") == _bytes(tmp_path / "whole.mp4")


def test_a_full_disk_leaves_the_finished_segments(tmp_path, folder, model, monkeypatch) -> None:
    """A real one: a file system in memory with room for two segments."""
    interpolate_video(folder / "in.mp4", tmp_path / "whole.mkv", model=model, codec="ffv1", **OPTIONS)
    room = 16 * 2**10 + int(1.3 * (tmp_path / "whole.mkv").stat().st_size)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        options = {"model": model, "codec": "ffv1", **OPTIONS}
        with pytest.raises((OSError, ValueError), match="No space left on device") as caught:
            interpolate_video(folder / "in.mp4", small / "out.mkv", resume=True, **options)
        assert "finished segments are kept" in caught.value.__notes__[0]
        assert os.listdir(small) == [".out.mkv.segments"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        interpolate_video(folder / "in.mp4", small / "out.mkv", resume=True, **options)
        assert _bytes(small / "out.mkv") == _bytes(tmp_path / "whole.mkv")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _killed(tmp_path: Path, folder: Path, *, times: int, seed: int) -> None:
    """Kill runs at random moments; every one that goes on after them gives the same file."""
    options = {"model": str(folder / "model"), **OPTIONS}
    with interrupted.process(interrupted.run_job, folder / "in.mp4", tmp_path / "whole.mp4", options) as child:
        child.join()  # which also warms up
    begun = time.monotonic()
    with interrupted.process(interrupted.run_job, folder / "in.mp4", tmp_path / "warm.mp4", options) as child:
        child.join()
    length, expected = time.monotonic() - begun, _bytes(tmp_path / "whole.mp4")
    draw = random.Random(seed)
    resumed = {**options, "resume": True}
    for number in range(times):
        out = tmp_path / f"{number}.mp4"
        tries = 0
        while not out.exists():
            tries += 1  # where the machine has become slower since, later ones last longer
            with interrupted.process(interrupted.run_job, folder / "in.mp4", out, resumed) as child:
                child.join(length * draw.uniform(0.2, 1.1) * max(1, tries / 4))
                interrupted.end(child, signal.SIGKILL)
        assert _bytes(out) == expected
        out.unlink()
    interpolate_video(folder / "in.mp4", tmp_path / "last.mp4", **options)
    # A kill after the output is there and before its segments are gone leaves these; nothing else is left.
    left = [name for name in os.listdir(tmp_path) if not name.endswith(".segments")]
    assert sorted(left) == ["last.mp4", "warm.mp4", "whole.mp4"]


def test_killed_runs_go_on_to_the_same_bytes(tmp_path, folder) -> None:
    _killed(tmp_path, folder, times=3, seed=0)


@pytest.mark.slow
def test_fifty_kills_give_fifty_equal_files(tmp_path, folder) -> None:
    _killed(tmp_path, folder, times=50, seed=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_names_the_one_that_goes_on(tmp_path, folder, number) -> None:
    source = folder / "in.mp4"
    arguments = ["interpolate", str(source), str(tmp_path / "out.mp4"), "--model", str(folder / "model"), "-x", "4"]
    arguments += ["--segment-frames", "16"]
    said = tmp_path / "said"
    with interrupted.process(interrupted.run_command, arguments, said) as child:
        interrupted.wait_for(default_segments(tmp_path / "out.mp4") / "000000.segment", child)
        code = interrupted.end(child, number)
    assert code == (130 if number == signal.SIGINT else 128 + number)
    line = said.read_text().splitlines()[-1]
    assert line.startswith("rdvfi: interrupted; ")
    assert line.endswith(f"To go on: rdvfi {' '.join(arguments)} --resume")
    with interrupted.process(interrupted.run_command, [*arguments, "--resume"], said) as child:
        child.join()
        assert child.exitcode == 0
    interpolate_video(source, tmp_path / "whole.mp4", model=folder / "model", **OPTIONS)
    assert _bytes(tmp_path / "out.mp4") == _bytes(tmp_path / "whole.mp4")


@pytest.fixture(params=["folder", "object store"])
def store(request, tmp_path) -> SegmentStore:
    def job() -> dict[str, str]:
        return {"multiplier": "4"}

    if request.param == "folder":
        return FolderStore(tmp_path / "segments", job)
    return ObjectStore(f"memory://{tmp_path.name}/segments", job)


def test_a_store_gives_back_what_it_got(store) -> None:
    assert store.finished() == frozenset()
    assert store.record(0) is None
    pieces = [b"", b"abc", bytes(1000)]
    for number in (3, 0):
        file = store.create()
        for piece in pieces:
            file.add(piece)
        file.close({"frames": number})
        store.publish(number, file)
    assert store.finished() == {0, 3}
    assert list(store.pieces(3)) == pieces
    assert store.record(3) == {"frames": 3}
    store.check()
    store.remove()
    assert store.finished() == frozenset()


def test_what_is_being_written_stays_however_old_and_goes_with_its_process(tmp_path) -> None:
    store = FolderStore(tmp_path / "segments", dict)
    file = store.create()
    os.utime(file.path, (1, 1))
    remove_stale_files(tmp_path)
    assert file.path.exists()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".segment.rdvfi-{int(dead.stdout)}-abc.part"
    left.write_bytes(b"half")
    FolderStore(tmp_path / "others", dict)
    assert os.listdir(tmp_path) == [file.path.name]
    file.abandon()
    assert os.listdir(tmp_path) == []


def test_a_store_removes_its_own_files_alone(tmp_path) -> None:
    place = tmp_path / "deep" / "segments"
    store = FolderStore(place, lambda: {"multiplier": "4"}, tmp_path)
    file = store.create()
    file.close({})
    store.publish(0, file)
    others = {".out.rdvfi-1-abc.part.mp4", "film.segment", "frame_000001.png"}
    for name in (*others, ".000001.rdvfi-1-abc.part.segment", ".job.rdvfi-1-abc.part.json"):
        (place / name).touch()
    store.remove()
    assert set(os.listdir(place)) == others


def test_a_segment_file_depends_on_its_content_alone(tmp_path) -> None:
    store = FolderStore(tmp_path / "segments", dict)
    for number in (0, 1):
        file = store.create()
        file.add(b"abc")
        file.close({})
        store.publish(number, file)
        time.sleep(0.01)
    one, two = (tmp_path / "segments" / f"00000{number}.segment" for number in (0, 1))
    assert one.read_bytes() == two.read_bytes()


FORMATS = {
    "closed.mp4": "-bf 3 -g 9",
    "open.mkv": "-bf 3 -g 9 -x264-params open-gop=1:b-pyramid=normal",
    "refresh.mp4": "-bf 0 -g 9 -intra-refresh 1",
    "late.mp4": "-bf 2 -g 7 -ss 0.2",
    "stream.ts": "-bf 3 -g 9",
    "pictures": "",
    "overlay.mp4": "-bf 3 -g 9",
}


@pytest.mark.parametrize("name", FORMATS)
def test_workers_that_enter_a_file_anywhere_make_the_segments_of_those_that_read_it_all(
    tmp_path, folder, name, monkeypatch
) -> None:
    """With frames that are sent out of order, groups of pictures that refer to others, and times with gaps."""
    monkeypatch.setattr(segment_worker, "_MAX_SKIPPED_FRAMES", 0)
    source = tmp_path / name
    if name == "pictures":
        source.mkdir()
    film = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1,select='not(between(n\\,15\\,17))'"]
    coding = ["-fps_mode", "passthrough", "-c:v", "libx264", "-pix_fmt", "yuv420p", *FORMATS[name].split()]
    target = source / "%03d.png" if name == "pictures" else source
    command = ["ffmpeg", "-v", "error", "-nostdin", *film, *(coding if name != "pictures" else []), str(target)]
    subprocess.run(command, check=True)
    given = {"source": source, "destination": tmp_path / "out.mkv", "multiplier": "5/2", "segment_frames": 12}
    given |= {"mask": "auto"} if name == "overlay.mp4" else {}  # which looks at pairs before a segment too
    options = JobOptions(**given)
    plans = read_job(options).plan_segments()
    assert (plans is None) == name.endswith(".ts")  # a clock that may jump
    worker = segment_worker.SegmentWorker(segment_worker.WorkerModel(folder / "model"))
    worker.load()
    task = segment_worker.Task(0, 0, options, {"a": "job"}, str(tmp_path / "read"), None)
    count = 0
    while (made := worker.make(replace(task, number=count))).kept:
        count += 1
    assert made.count == count == (count if plans is None else len(plans))
    for number in random.Random(0).sample(range(count), count) if plans else ():
        entered = replace(task, number=number, plan=plans[number], place=str(tmp_path / "entered"))
        assert worker.make(entered).kept
    if plans is not None:
        assert _bytes(tmp_path / "entered") == _bytes(tmp_path / "read")
        later = tuple(
            (index, start + Fraction(1, 25), end + Fraction(1, 25)) for index, start, end in plans[1].intervals
        )
        assert not worker.make(replace(task, number=1, plan=replace(plans[1], intervals=later))).kept


def _step(index: int, count: int) -> PlaybackStep:
    """What lies within a step is right, how long its last frame is shown is not known yet."""
    begin = Fraction(index)
    lasts = [*(Fraction(1, count) for _ in range(count - 1)), Fraction(1, 9)]
    moments = tuple(Moment(index, Fraction(j, count), begin + Fraction(j, count), lasts[j]) for j in range(count))
    frame = SourceFrame(np.zeros((1, 1, 3), np.uint8), Stamp(begin, Fraction(1)))
    return PlaybackStep(frame, frame, Interval(index, begin, begin + 1, False), moments)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_segments_hold_every_step_once_and_end_when_they_are_full(counts, length) -> None:
    segments = []
    for segment in split_segments(
        settle_durations(iter([_step(k, count) for k, count in enumerate(counts)]), to_end=True), length
    ):
        assert segment.number == len(segments)
        segments.append(list(segment.steps))
        assert segment.last == (sum(len(part) for part in segments) == len(counts))
    sizes = [[len(step.moments) for step in part] for part in segments]
    for size in sizes:
        assert sum(size[:-1]) < length
    assert all(sum(size) >= length for size in sizes[:-1])
    assert sorted(step.interval.index for part in segments for step in part) == list(range(len(counts)))
    moments = [moment for part in segments for step in part for moment in step.moments]
    for now, after in itertools.pairwise(moments):
        assert now.time + now.duration == after.time
    if moments:
        assert moments[-1].time + moments[-1].duration == len(counts)
