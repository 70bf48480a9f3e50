"""Clips and Vimeo-90K: real frames at their real times, all treated alike."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from skimage import data

from rdvfi.data.datasets.clip_folder import ClipWindows
from rdvfi.data.datasets.vimeo import Vimeo90K
from rdvfi.media.clip import Clip, FolderClip, VideoClip, find_clips
from rdvfi.media.scene_cuts import has_cut

H, W = 48, 80
NUMBER = 4
"""Frames carry their number as brightness, in steps of this."""


def _numbered(count: int) -> list[np.ndarray]:
    return [np.full((H, W, 3), NUMBER * i + 20, np.uint8) for i in range(count)]


def _write_folder(folder: Path, frames: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i}.png"), frame[..., ::-1])


def _write_video(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips")
    _write_folder(place / "a" / "frames", _numbered(50))
    _write_video(place / "b.mp4", _numbered(40))
    return place


def test_clips_are_found_and_read_anywhere(folder: Path) -> None:
    clips = find_clips(folder)
    assert {name: len(clip) for name, clip in clips.items()} == {"a/frames": 50, "b.mp4": 40}
    assert isinstance(clips["a/frames"], FolderClip)
    assert isinstance(clips["b.mp4"], VideoClip)
    for clip in clips.values():
        for numbers in ([0, 1], [13, 25, 39], [38]):
            means = [frame.mean() for frame in clip.read(numbers)]
            np.testing.assert_allclose(means, [NUMBER * n + 20 for n in numbers], atol=1.6)


@pytest.mark.parametrize("knots", [True, False])
def test_frames_are_true_at_their_times(folder: Path, knots: bool) -> None:
    """Brightness is linear in time, so it tells each frame's true time, forwards or backwards."""
    windows = ClipWindows(find_clips(folder), (32, 48), knots=knots)
    spans = set()
    for seed in range(12):
        sample = windows.sample(np.random.default_rng(seed))
        times, level = sample["times"], sample["frames"].mean((1, 2, 3))
        fixed = 9 if knots else 2
        assert sample["frames"].shape == (fixed + 3, 32, 48, 3)
        np.testing.assert_allclose(times[:fixed], np.linspace(0, 1, fixed), atol=1e-6)
        first, last = level[0], level[fixed - 1]
        np.testing.assert_allclose(level, first + (last - first) * times, atol=2.5)
        spans.add(bool(last > first))
        if not knots:  # no time is a knot unless a frame truly falls there
            assert ((times[2:] > 0) & (times[2:] < 1)).all()
    assert spans == {True, False}


def test_batches_start_anywhere(folder: Path) -> None:
    source = ClipWindows(find_clips(folder), (32, 48)).source(workers=0)
    stream = source.batches(2, 5)
    next(stream)
    assert torch.equal(next(stream)["frames"], next(source.batches(2, 5, start=1))["frames"])


def test_windows_across_a_cut_are_never_drawn(tmp_path: Path) -> None:
    pan = [data.astronaut()[50:98, 2 * i : 2 * i + W] for i in range(30)]
    other = [data.coffee()[50:98, 2 * i : 2 * i + W] for i in range(30)]
    _write_folder(tmp_path / "cut", pan + other)
    assert not has_cut(pan)
    assert has_cut(pan[-5:] + other[:5])
    windows = ClipWindows(find_clips(tmp_path), (32, 48), strides=(1,))
    for seed in range(20):
        frames = windows.sample(np.random.default_rng(seed))["frames"][:9].astype(float)
        steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
        assert steps.max() < 4.0 * np.median(steps)
    _write_folder(tmp_path / "all" / "cuts", [f for pair in zip(pan, other, strict=True) for f in pair])
    alternating = ClipWindows({"x": _Flashing()}, (32, 48), strides=(1,))
    with pytest.raises(ValueError, match="no window without a scene cut in 50 draws"):
        alternating.sample(np.random.default_rng(0))


class _Flashing(Clip):
    """Sixteen like frames, then another scene, over and over: every window of 8 to 16 has a cut."""

    def __len__(self) -> int:
        return 60

    def _decode(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return (np.full((H, W, 3), 250 * ((n // 7) % 2), np.uint8) for n in numbers)


def test_bad_folders_and_clips_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_clips(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no clips"):
        find_clips(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match=r"broken\.mp4 is not a video that can be read"):
        find_clips(tmp_path)
    _write_folder(tmp_path / "short" / "clip", _numbered(6))
    with pytest.raises(ValueError, match="9 frames are needed, and the longest, clip, has 6"):
        ClipWindows(find_clips(tmp_path / "short"))
    (tmp_path / "short" / "clip" / "3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"3\.png is empty"):
        find_clips(tmp_path / "short")["clip"].read([3])


@pytest.fixture
def vimeo(tmp_path: Path) -> Path:
    for prefix, length in (("tri", 3), ("sep", 7)):
        root = tmp_path / prefix
        for name in ("00001/0001", "00001/0002"):
            place = root / "sequences" / name
            place.mkdir(parents=True)
            for i in range(length):
                cv2.imwrite(str(place / f"im{i + 1}.png"), np.full((H, W, 3), 30 * i + 10, np.uint8))
        (root / f"{prefix}_trainlist.txt").write_text("00001/0001\n00001/0002\n\n")
        (root / f"{prefix}_testlist.txt").write_text("00001/0002\n")
    return tmp_path


@pytest.mark.parametrize(("prefix", "layout", "count"), [("tri", "triplet", 3), ("sep", "septuplet", 7)])
def test_vimeo_is_read_in_its_own_layout(vimeo: Path, prefix: str, layout: str, count: int) -> None:
    vimeo90k = Vimeo90K(vimeo / prefix, layout, size=(32, 64))
    assert len(vimeo90k) == 2
    assert len(Vimeo90K(vimeo / prefix, layout, split="test")) == 1
    batch = next(vimeo90k.source(workers=0).batches(4, 0))
    assert batch["frames"].shape == (4, count, 3, 32, 64)
    level = batch["frames"].mean((2, 3, 4)) * 255.0
    first, last = level[:, :1], level[:, 1:2]
    torch.testing.assert_close(level, first + (last - first) * batch["times"], rtol=0, atol=1e-2)


def test_what_vimeo_lacks_is_named(vimeo: Path) -> None:
    root = vimeo / "sep"
    with pytest.raises(ValueError, match="no layout 'quad'"):
        Vimeo90K(root, "quad")
    with pytest.raises(ValueError, match="no split 'valid'"):
        Vimeo90K(root, split="valid")
    with pytest.raises(FileNotFoundError, match=r"tri_trainlist\.txt is missing"):
        Vimeo90K(root, "triplet")
    (root / "sequences" / "00001" / "0001" / "im4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"im4\.png"):
        Vimeo90K(root).frames(0)
    (root / "sep_testlist.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"sep_testlist\.txt names no sequences"):
        Vimeo90K(root, split="test")
