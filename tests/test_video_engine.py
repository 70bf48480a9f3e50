"""A whole clip: what comes out, what stays untouched, and that a failure leaves nothing."""

import copy
import itertools
import os
import threading
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import clips
import rdvfi
import toy
from rdvfi.interfaces import Motion, Renderer
from rdvfi.media.pixels import to_tensor
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, open_source
from rdvfi.media.writer import Sink
from rdvfi.types import Image, Times, Video
from rdvfi.video import LowConfidenceWarning, Stopped, interpolate_video
from rdvfi.video.engine import Engine
from rdvfi.video.job_options import JobOptions
from rdvfi.video.timing import Moment, Multiply


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """Real motion and real warping; its learned encoder is not used for either."""
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp").requires_grad_(
        False
    )


def _frames(path: Path) -> list[SourceFrame]:
    return list(open_source(path).frames())


def _run(source, destination, model, **options):
    return interpolate_video(source, destination, model=model, allow_untrained=True, **options)


def test_a_video_is_multiplied_with_exact_times_and_the_same_sound(tmp_path, model) -> None:
    ticks = [0, 4000, 8000, 13001, 16000]
    clips.write_clip(tmp_path / "in.mp4", clips.moving(5, 96, 128), ticks=ticks)
    report = _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, multiplier=4)
    before, after = _frames(tmp_path / "in.mp4"), _frames(tmp_path / "out.mp4")
    assert len(after) == (5 - 1) * 4 + 1 == report.frames_written
    expected = [start + j * Fraction(end - start, 4) for start, end in itertools.pairwise(ticks) for j in range(4)]
    assert [f.stamp.time for f in after] == [tick * clips.TICK for tick in (*expected, ticks[-1])]
    assert after[-1].stamp.duration == before[-1].stamp.duration
    for k, frame in enumerate(before):
        error = after[4 * k].pixels.astype(float) - frame.pixels
        assert np.sqrt((error**2).mean()) < 8  # half-size chroma and x264
        assert abs(error.mean()) < 0.75
    sound = clips.sound_packets(tmp_path / "in.mp4")
    assert len(sound) > 10
    assert clips.sound_packets(tmp_path / "out.mp4") == sound
    assert (report.frames_read, report.width, report.height) == (5, 128, 96)
    assert report.confidence > 0.7
    assert report.uncertain == ()


def test_originals_are_exact_and_new_frames_are_those_of_the_model(tmp_path, model) -> None:
    """Streaming equals the model called on each pair; nothing happens to source frames."""
    for k, picture in enumerate(clips.moving(4, 48, 64)):
        clips.write_png(tmp_path / f"{k}.png", picture)
    folder = tmp_path / "out"
    _run([tmp_path / f"{k}.png" for k in range(4)], folder, model, multiplier=3, chunk=1)
    out = [clips.read_png(path) for path in sorted(folder.iterdir())]
    images = [clips.read_png(tmp_path / f"{k}.png") for k in range(4)]
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 for image in images]
    assert len(out) == 10
    for k in range(4):
        assert np.array_equal(out[3 * k], images[k])
    for k in range(3):
        made = model(tensors[k], tensors[k + 1], [1 / 3, 2 / 3])[0]
        for j in range(2):
            expected = made[j].permute(1, 2, 0).numpy() * 255
            assert np.abs(out[3 * k + 1 + j] - expected).max() <= 1.0


def test_new_frames_are_where_the_motion_says(tmp_path, model) -> None:
    """A texture that moves 12 pixels between frames is 3, 6 and 9 pixels on the way."""
    wide = clips.texture(96, 200)
    for k in range(2):
        clips.write_png(tmp_path / f"{k}.png", wide[:, 12 * k : 12 * k + 128])
    _run([tmp_path / "0.png", tmp_path / "1.png"], tmp_path / "out", model, multiplier=4)
    for j in range(1, 4):
        made = clips.read_png(tmp_path / "out" / f"frame_{j:06d}.png") / 255
        truth = wide[:, 3 * j : 3 * j + 128]
        error = np.abs(made - truth)[:, 16:-16].mean()
        assert error < 0.25 * np.abs(wide[:, :128] - truth)[:, 16:-16].mean()


def test_deep_images_stay_deep(tmp_path, model) -> None:
    for k, picture in enumerate(clips.moving(2, 48, 64)):
        clips.write_png(tmp_path / f"{k}.png", picture, deep=True)
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    _run(images, tmp_path / "out", model, multiplier=2)
    out = [clips.read_png(path) for path in sorted((tmp_path / "out").iterdir())]
    assert all(image.dtype == np.uint16 for image in out)
    assert np.array_equal(out[0], clips.read_png(images[0]))
    assert len(np.unique(out[1] % 257)) > 200  # more than 8 bits of information
    _run(images, tmp_path / "out.mp4", model, multiplier=2)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"


def test_a_target_rate_instead_of_a_multiplier(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(4, 48, 64))
    report = _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, target_fps=29.97)
    times = [frame.stamp.time for frame in _frames(tmp_path / "out.mp4")]
    assert times == [Fraction(1001 * k, 30000) for k in range(20)]
    assert report.frames_written == 20
    assert report.notes == ()
    report = _run(tmp_path / "in.mp4", tmp_path / "few.mp4", model, target_fps=np.float32(3))
    assert report.notes == ("3 frames per second are fewer than the source's 6: about 2 frames come out of 4",)


def test_images_play_at_24_frames_per_second_unless_told_otherwise(tmp_path, model) -> None:
    images = []
    for k, picture in enumerate(clips.moving(2, 48, 64)):
        images.append(tmp_path / f"{k}.png")
        clips.write_png(images[-1], picture)
    _run(images, tmp_path / "a.mp4", model)
    times = [frame.stamp.time for frame in _frames(tmp_path / "a.mp4")]
    assert times == [Fraction(k, 24) for k in range(9)]
    _run(images, tmp_path / "b.mp4", model, multiplier=2, image_rate=5)
    times = [frame.stamp.time for frame in _frames(tmp_path / "b.mp4")]
    assert times == [Fraction(k, 10) for k in range(3)]


def _with_a_cut(path: Path, *, each: int) -> None:
    clips.write_clip(path, clips.two_scenes(each=each))


def test_a_scene_cut_is_reported_once(tmp_path, model) -> None:
    _with_a_cut(tmp_path / "in.mp4", each=3)
    with pytest.warns(LowConfidenceWarning, match=r"1 of 5 pairs .* 0\.33-0\.50 s") as caught:
        report = _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, multiplier=2)
    assert len(caught) == 1
    (pair,) = report.uncertain
    assert (pair.index, pair.start, pair.end) == (2, Fraction(1, 3), Fraction(1, 2))
    assert pair.confidence < 0.3
    assert pair.reason == f"two scenes: mean confidence {pair.confidence:.2f} is below the threshold of 0.40"


@pytest.mark.parametrize(
    ("action", "shares"),
    [
        ("blend", [0.25, 0.5, 0.75]),
        ("hold_previous", [0.0, 0.0, 0.0]),
        ("hold_nearest", [0.0, 1.0, 1.0]),
    ],
)
def test_what_is_shown_across_a_cut_can_be_chosen(tmp_path, model, action, shares) -> None:
    _with_a_cut(tmp_path / "in.mp4", each=1)
    with pytest.warns(LowConfidenceWarning):
        _run(tmp_path / "in.mp4", tmp_path / "out", model, multiplier=4, on_scene_change=action)
    first, *made, last = (clips.read_png(path).astype(float) for path in sorted((tmp_path / "out").iterdir()))
    for picture, share in zip(made, shares, strict=True):
        assert np.abs(picture - (first + share * (last - first))).max() <= 0.51


def test_a_threshold_of_zero_interpolates_across_a_cut(tmp_path, model) -> None:
    _with_a_cut(tmp_path / "in.mp4", each=1)
    report = _run(
        tmp_path / "in.mp4",
        tmp_path / "out",
        model,
        multiplier=2,
        on_scene_change="hold_previous",
        scene_threshold=0.0,
    )
    assert report.uncertain == ()
    first, made, last = (clips.read_png(path).astype(float) for path in sorted((tmp_path / "out").iterdir()))
    ends = [
        to_tensor(frame.pixels, device=torch.device("cpu"), dtype=torch.float32)
        for frame in _frames(tmp_path / "in.mp4")
    ]
    warped = 255 * model(*ends, [0.5], same_scene=True)[0, 0].permute(1, 2, 0).numpy()
    assert np.abs(made - warped).max() <= 0.51
    assert np.abs(made - (first + last) / 2).mean() > 3.0  # and that is no cross-fade


def test_unknown_scene_changes_are_refused_before_the_work(tmp_path, model) -> None:
    _with_a_cut(tmp_path / "in.mp4", each=1)
    for option, message in (
        ({"on_scene_change": "stop"}, "'stop'; expected one of blend, hold_previous"),
        ({"scene_threshold": 1.5}, r"scene_threshold must be a number in \[0, 1\]; got 1\.5"),
    ):
        with pytest.raises(ValueError, match=message):
            _run(tmp_path / "in.mp4", tmp_path / "out", model, **option)
    assert not (tmp_path / "out").exists()


def test_the_contact_sheet_shows_the_pair_that_changes_most(tmp_path, model) -> None:
    shift = [0, 1, 2, 14, 15]
    wide = clips.texture(48, 100)
    clips.write_clip(tmp_path / "in.mp4", [wide[:, s : s + 64] for s in shift])
    sheet = tmp_path / "sheet.png"
    _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, multiplier=4, contact_sheet=sheet)
    picture = clips.read_png(sheet)
    height, width = 48 + 8, 64 + 8
    assert picture.shape == (2 * height, 3 * width, 3)
    source = _frames(tmp_path / "in.mp4")
    inner = picture[30:48, 4:68]
    assert np.abs(inner.astype(int) - source[2].pixels[26:44]).max() <= 5  # through video levels and back
    last = picture[height + 30 : height + 48, width + 4 : width + 68]
    assert np.abs(last.astype(int) - source[3].pixels[26:44]).max() <= 5


class _Counted(Source):
    """A long clip that knows how many frames were taken from it."""

    def __init__(self, count: int, picture: Path) -> None:
        source = open_source([picture] * count)
        self.info = source.info
        self.taken = 0
        self._source = source

    def frames(self) -> Iterator[SourceFrame]:
        for frame in self._source.frames():
            self.taken += 1
            yield frame


class _Watching(Sink):
    """Counts frames, and how far reading is ahead."""

    def __init__(self, source: _Counted) -> None:
        self.source = source
        self.lead = 0
        self.times: list[Fraction] = []

    def write(self, pixels: np.ndarray, moment: Moment) -> None:
        self.times.append(moment.time)
        self.lead = max(self.lead, self.source.taken - len(self.times) // 2)

    def finish(self) -> None:
        pass


def test_memory_does_not_grow_with_the_length(tmp_path, model) -> None:
    clips.write_png(tmp_path / "a.png", clips.texture(32, 32))
    source = _Counted(60, tmp_path / "a.png")
    sink = _Watching(source)
    progress = []
    options = JobOptions(source=tmp_path / "a.png", destination=tmp_path / "out.mp4", multiplier=2)
    engine = Engine(model, source, Multiply(2), options, progress=lambda done, total: progress.append((done, total)))
    report = engine.run(sink)
    assert report.frames_written == len(sink.times) == 119
    assert sink.times == sorted(sink.times)
    assert sink.lead <= 12
    assert progress == [(k, 59) for k in range(60)]


class _Narrow(Renderer):
    """Runs out of memory when asked for more than two frames at once."""

    def __init__(self, inner: Renderer, room: int) -> None:
        super().__init__()
        self.inner = inner
        self.room = room

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        if len(timesteps) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(img0, img1, motion, timesteps)


def test_out_of_memory_halves_the_work_and_goes_on(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    _run(tmp_path / "in.mp4", tmp_path / "wide", model, multiplier=8)
    narrow = rdvfi.Interpolator(model.generator, model.trajectory, _Narrow(model.renderer, 2))
    report = _run(tmp_path / "in.mp4", tmp_path / "narrow", narrow, multiplier=8)
    assert report.notes == ("memory ran out on cpu: 1 frames were drawn at once from then on",)
    for path in (tmp_path / "wide").iterdir():
        assert np.array_equal(clips.read_png(path), clips.read_png(tmp_path / "narrow" / path.name))


def test_parts_that_were_trained_apart_are_noted(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    model = copy.deepcopy(model)
    model.mark_trained("backbone", "trajectory", "renderer")
    assert _run(tmp_path / "in.mp4", tmp_path / "whole", model).notes == ()
    model.save_pretrained(tmp_path / "renderer", parts=["renderer"])
    model.load_part("renderer", tmp_path / "renderer")
    (note,) = _run(tmp_path / "in.mp4", tmp_path / "apart", model).notes
    assert note.startswith("renderer learned in another model than the rest")


def test_no_room_for_one_frame_is_an_error_and_leaves_nothing(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    narrow = rdvfi.Interpolator(model.generator, model.trajectory, _Narrow(model.renderer, 0))
    with pytest.raises(MemoryError, match="not enough memory on cpu to draw a single frame"):
        _run(tmp_path / "in.mp4", tmp_path / "out.mp4", narrow)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out"])
def test_an_interrupted_run_leaves_nothing_and_no_thread(tmp_path, model, name) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(6, 48, 64))
    threads = threading.active_count()

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "in.mp4", tmp_path / name, model, multiplier=4, progress=interrupt)
    with pytest.raises(Stopped, match="stopped after 3 pairs of frames"):
        _run(tmp_path / "in.mp4", tmp_path / name, model, multiplier=4, progress=lambda done, total: done < 3)
    assert os.listdir(tmp_path) == ["in.mp4"]
    assert threading.active_count() == threads


def test_a_bad_frame_in_the_middle_leaves_nothing(tmp_path, model) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k, picture in enumerate(clips.moving(4, 48, 64)):
        clips.write_png(folder / f"{k}.png", picture)
    (folder / "2.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"2\.png is not an image"):
        _run(folder, tmp_path / "out.mp4", model)
    assert os.listdir(tmp_path) == ["in"]


def test_an_existing_output_is_replaced_only_when_allowed(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(FileExistsError, match=r"out\.mp4 exists"):
        _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model)
    assert (tmp_path / "out.mp4").read_text() == "precious"
    _run(tmp_path / "in.mp4", tmp_path / "out.mp4", model, overwrite=True)
    assert len(_frames(tmp_path / "out.mp4")) == 9
    with pytest.raises(ValueError, match="is the source itself"):
        _run(tmp_path / "in.mp4", tmp_path / "in.mp4", model, overwrite=True)
    images = [tmp_path / f"{k}.png" for k in range(2)]
    for image, picture in zip(images, clips.moving(2, 48, 64), strict=True):
        clips.write_png(image, picture)
    before = images[0].read_bytes()
    with pytest.raises(ValueError, match="is the source itself"):
        _run(images, tmp_path / "new.mp4", model, overwrite=True, contact_sheet=images[0])
    assert images[0].read_bytes() == before


def test_bad_arguments_are_refused_before_any_work(tmp_path, model) -> None:
    clip = tmp_path / "in.mp4"
    out = tmp_path / "out.mp4"
    clips.write_clip(clip, clips.moving(2, 48, 64))
    with pytest.raises(ValueError, match="untrained parts: backbone"):
        interpolate_video(clip, out, model=model)
    with pytest.raises(ValueError, match="multiplier is 0"):
        _run(clip, out, model, multiplier=0)
    for wrong in (True, np.float64("nan"), "1e9", "two"):
        with pytest.raises(ValueError, match=r"multiplier is .*; it must be a number"):
            _run(clip, out, model, multiplier=wrong)
    with pytest.raises(ValueError, match="either multiplier or target_fps"):
        _run(clip, out, model, multiplier=2, target_fps=60)
    with pytest.raises(ValueError, match="chunk is 0"):
        _run(clip, out, model, chunk=0)
    with pytest.raises(ValueError, match="device and dtype are for named models"):
        _run(clip, out, model, device="cpu")
    with pytest.raises(ValueError, match="no model named 'rdvfi-x'"):
        interpolate_video(clip, out, model="rdvfi-x")
    with pytest.raises(ValueError, match="device is 'abacus'"):
        interpolate_video(clip, out, device="abacus")
    with pytest.raises(ValueError, match="source is an empty list"):
        _run([], out, model)
    with pytest.raises(ValueError, match=r"contact_sheet is a \.png file"):
        _run(clip, out, model, contact_sheet=tmp_path / "sheet.jpg")
    with pytest.raises(ValueError, match="multiplier is 1: no new frame"):
        _run(clip, out, model, multiplier=1, contact_sheet=tmp_path / "sheet.png")
    clips.write_clip(tmp_path / "tiny.mp4", clips.moving(2, 12, 64))
    with pytest.raises(ValueError, match=r"tiny\.mp4 is 64x12 pixels"):
        _run(tmp_path / "tiny.mp4", out, model)
    assert not out.exists()


def test_multiplier_one_changes_nothing_but_the_encoding(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    _run(tmp_path / "in.mp4", tmp_path / "out.mkv", model, multiplier=1, codec="ffv1")
    pairs = zip(_frames(tmp_path / "in.mp4"), _frames(tmp_path / "out.mkv"), strict=True)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in pairs)


def test_a_learned_model_repeats_with_its_seed(tmp_path) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(3, 48, 64))
    with toy.registered(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LowConfidenceWarning)
        learned = toy.toy_model(tint=0.1)
        for name in ("a", "b"):
            _run(tmp_path / "in.mp4", tmp_path / name, learned, multiplier=3, seed=5)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("options", [{"target_fps": 20}, {"multiplier": 2, "on_scene_change": "hold_nearest"}])
def test_pairs_in_batches_give_the_frames_of_single_ones(tmp_path, model, options) -> None:
    """With a cut among them, bars, a mask, and times that differ from pair to pair."""
    pictures = [np.pad(picture[:96, :160], ((20, 20), (0, 0), (0, 0))) for picture in clips.two_scenes(each=4)]
    clips.write_clip(tmp_path / "in.mp4", pictures, sound=False)
    mask = np.zeros((136, 160, 3))
    mask[40:60, 40:90] = 1.0
    clips.write_png(tmp_path / "mask.png", mask)
    reports, frames = [], []
    for batch in (1, 3):
        with pytest.warns(LowConfidenceWarning):
            reports.append(
                _run(
                    tmp_path / "in.mp4",
                    tmp_path / f"{batch}",
                    model,
                    batch=batch,
                    mask=tmp_path / "mask.png",
                    crop_bars=True,
                    segment_frames=10,
                    **options,
                )
            )
        frames.append([clips.read_png(path) for path in sorted((tmp_path / f"{batch}").iterdir())])
    assert len(frames[0]) == len(frames[1]) == reports[0].frames_written
    for one, many in zip(*frames, strict=True):
        assert np.abs(one.astype(int) - many).max() <= 1
    told = [[(pair.index, pair.new, pair.way, pair.content) for pair in report.pairs] for report in reports]
    assert told[0] == told[1]
    assert {"interpolated", "cross-faded" if "on_scene_change" not in options else "held"} == {
        w for *_, w, _ in told[0]
    }


def test_a_frame_that_two_pairs_share_is_encoded_once(tmp_path, monkeypatch) -> None:
    sizes = ("flow.width=8", "trajectory.width=8", "renderer.width=8")
    model = rdvfi.build("rdvfi_d", "backbone.size=toy", *sizes).eval().requires_grad_(False)
    images = [tmp_path / f"{k}.png" for k in range(4)]
    for path, picture in zip(images, clips.moving(4, 48, 64), strict=True):
        clips.write_png(path, picture)
    generator, encoded = model.generator, []
    encode = generator.encode
    grey = torch.full((1, 3, 48, 64), 0.5)

    def counting(frames: torch.Tensor) -> torch.Tensor:
        encoded.extend(not torch.equal(frame[None], grey) for frame in frames)
        return encode(frames)

    monkeypatch.setattr(generator, "encode", counting)
    _run(images, tmp_path / "out", model, multiplier=2)
    assert sum(encoded) == 4
    tensors = [torch.from_numpy(clips.read_png(path).copy()).permute(2, 0, 1)[None] / 255 for path in images]
    for k in range(3):
        expected = model(tensors[k], tensors[k + 1], [0.5])[0, 0].permute(1, 2, 0).numpy()
        made = clips.read_png(tmp_path / "out" / f"frame_{2 * k + 1:06d}.png")
        assert np.abs(made - 255 * expected).max() <= 1.0


def _discs(folder: Path, count: int, *, deep: bool = False) -> None:
    """A disc that moves over nothing; what nothing would look like is magenta."""
    rows, columns = np.mgrid[:64, :96]
    folder.mkdir()
    for k in range(count):
        picture = np.full((64, 96, 4), (255, 0, 255, 0), np.uint8)
        picture[(columns - 30 - 4 * k) ** 2 + (rows - 32) ** 2 < 300] = (20, 120, 60, 255)
        cv2.imwrite(str(folder / f"{k}.png"), cv2.cvtColor(picture * (257 if deep else 1), cv2.COLOR_RGBA2BGRA))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out", {}),
        ("out.webp", {"crf": 100}),
        ("out.apng", {}),
        ("out.mov", {"codec": "prores"}),
        ("out.mkv", {"codec": "ffv1"}),
    ],
)
def test_what_is_transparent_stays_so_where_the_output_can_hold_it(tmp_path, model, name, options) -> None:
    _discs(tmp_path / "in", 3)
    report = _run(tmp_path / "in", tmp_path / name, model, multiplier=2, **options)
    assert report.notes == ()
    frames = list(open_source(tmp_path / name, ReadOptions(alpha=True)).frames())
    assert len(frames) == 5
    for k, frame in enumerate(frames):
        most = np.iinfo(frame.pixels.dtype).max
        pixels = frame.pixels / most * 255
        assert np.abs(pixels[32, 30 + 2 * k] - [20, 120, 60, 255]).max() < 4
        assert pixels[2, 90, 3] < 1
        covered = (pixels[..., 3] > 128).sum()
        assert 880 < covered < 1020, "the disc keeps its size between frames"
        solid = pixels[pixels[..., 3] > 40]
        assert np.abs(np.median(solid[:, :3], axis=0) - [20, 120, 60]).max() < 6, "no magenta and no black at the edge"


def test_what_is_transparent_is_shown_on_the_background_elsewhere(tmp_path, model) -> None:
    _discs(tmp_path / "in", 2)
    report = _run(tmp_path / "in", tmp_path / "out.mp4", model, multiplier=2, background="white")
    assert report.notes == ("transparent parts of the images are shown on white",)
    for frame in _frames(tmp_path / "out.mp4"):
        assert frame.pixels[2, 90].min() > 250
    with pytest.raises(ValueError, match="pixels, more than max_pixels=6000"):
        _run(tmp_path / "in", tmp_path / "small.mp4", model, max_pixels=6000)
    with pytest.raises(ValueError, match="pixels, more than max_pixels=6000"):
        _run(tmp_path / "out.mp4", tmp_path / "small.mp4", model, max_pixels=6000)
