"""Frames by number: a number means the same picture wherever reading starts."""

import io
import os
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import clips
from rdvfi.media.clip import VideoClip, find_clips, open_clip, walk_folder
from rdvfi.media.reader import open_source

COUNT = 60


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    clips.write_numbered(path, range(COUNT))
    return path


@pytest.mark.parametrize("start", [0, 1, 11, 12, 13, 29, 59, 60])
def test_reading_starts_at_the_frame_asked_for(video: Path, start: int) -> None:
    clip = open_clip(video)
    assert len(clip) == COUNT
    assert clips.numbers(list(clip.frames(start))) == list(range(start, COUNT))


def test_frames_are_counted_where_timestamps_are_irregular(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mp4"
    clips.write_numbered(path, [n + n // 3 for n in range(COUNT)])
    assert clips.numbers(list(open_clip(path).frames(40))) == list(range(40, COUNT))


@pytest.mark.parametrize("name", ["grey.avi", "grey.ts", "grey.h264", "grey.mkv"])
def test_any_container_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    clips.write_numbered(tmp_path / name, range(COUNT))
    clip = open_clip(tmp_path / name)
    assert len(clip) == COUNT
    assert clips.numbers(clip.read([3, 13, 14, 40])) == [3, 13, 14, 40]
    assert clips.numbers(list(clip.frames(57))) == [57, 58, 59]


def test_a_file_in_memory_is_read_as_well(video: Path) -> None:
    clip = VideoClip(io.BytesIO(video.read_bytes()))
    assert len(clip) == COUNT
    assert clips.numbers(clip.read([20, 50])) == [20, 50]


def test_colours_keep_their_brightness_and_order(video: Path, tmp_path: Path) -> None:
    means = [frame.mean() for frame in open_clip(video).read([10, 40])]
    assert means == pytest.approx([clips.level(10), clips.level(40)], abs=0.75)
    cv2.imwrite(str(tmp_path / "0.png"), np.full((16, 16, 3), (10, 20, 200), np.uint8))
    assert next(open_clip(tmp_path).frames())[0, 0].tolist() == [200, 20, 10]


def test_ffmpegs_own_conversion_is_that_of_its_program(tmp_path: Path) -> None:
    """``conversion="ffmpeg"`` gives what PyAV, and to a step FFmpeg's program, give by default; "exact" is brighter."""
    rng, path = np.random.default_rng(0), tmp_path / "noise.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(3):
            picture = cv2.resize(rng.integers(0, 256, (8, 12, 3), np.uint8), (96, 64))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        own = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    read = open_clip(path, conversion="ffmpeg").read([0, 1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(read, own, strict=True))
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), str(tmp_path / "%d.png")], check=True)
    written = [cv2.imread(str(tmp_path / f"{i}.png"))[..., ::-1].astype(int) for i in (1, 2, 3)]
    assert max(np.abs(a - b).max() for a, b in zip(read, written, strict=True)) <= 1
    exact = open_clip(path).read([0, 1, 2])
    assert 0.5 < np.mean(exact) - np.mean(read) < 2.0


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in range(12):
        picture = np.full((60, 80, 3), clips.level(number), np.uint8)
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), picture)
    (tmp_path / "notes.txt").write_text("not a frame")
    clip = open_clip(tmp_path)
    assert len(clip) == 12
    assert clips.numbers(list(clip.frames(2))) == list(range(2, 12))
    assert clips.numbers(clip.read([1, 10])) == [1, 10]


def test_an_error_names_what_is_not_a_clip(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such clip: .*gone\.mp4"):
        open_clip(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="holds no images"):
        open_clip(tmp_path)
    with pytest.raises(ValueError, match="holds no clips"):
        find_clips(tmp_path)
    for content in (b"", b"not a video" * 100):
        (tmp_path / "text.mp4").write_bytes(content)
        with pytest.raises(ValueError, match=r"text\.mp4 is not a video that can be read"):
            open_clip(tmp_path / "text.mp4")


def test_unusable_frames_and_numbers_are_named(tmp_path: Path, video: Path) -> None:
    with pytest.raises(ValueError, match="start is -1; frames are numbered from 0"):
        open_clip(video).frames(-1)
    with pytest.raises(ValueError, match=r"grey\.mp4 is damaged: frames \[59, 60\] cannot be read"):
        open_clip(video).read([59, 60])
    for number, width in enumerate((64, 64, 66)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, width, 3), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png is 66x48; the ones before it are 64x48"):
        list(open_clip(tmp_path).frames())
    (tmp_path / "1.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(ValueError, match=r"1\.png is truncated"):
        open_clip(tmp_path).read([1])


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_opens_no_other_file(tmp_path, name) -> None:
    clips.write_clip(tmp_path / "secret.mp4", clips.moving(3, 64, 64), sound=False)
    text = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
    }
    (tmp_path / name).write_text(text[name])
    with pytest.raises(ValueError, match=r"list\.\w+ is (a playlist that refers to other files|not a video)"):
        open_source(tmp_path / name)


def test_everything_below_a_folder_is_found_and_what_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.mp4").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    wanted = [tmp_path, *(tmp_path / name for name in ("a", "a/b", "a/b/c.mp4", "round"))]
    assert walk_folder(tmp_path) == wanted
    scandir = os.scandir

    def gone(folder):
        if str(folder).endswith("b"):
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", gone)
    assert walk_folder(tmp_path) == [path for path in wanted if path.suffix != ".mp4"]
    assert f"{tmp_path / 'a' / 'b'} is left out: No such file or directory" in caplog.text
