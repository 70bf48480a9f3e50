"""Whole clips on another clock: parts, loops, slow motion, curves of speed, listed times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.reader import ReadOptions, Source, open_source
from rdvfi.media.source_parts import LoopedSource, TrimmedSource
from rdvfi.video import interpolate_video


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    """Cross-fades, which tell which frames they are made of."""
    return rdvfi.build("rdvfi_s", "backbone=ends", "coarse=dis", "renderer=blend").requires_grad_(False)


LEVELS = [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Twelve grey frames, 20 levels apart, at 6 frames per second, with sound; every time has its own grey."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    texture = clips.texture(32, 32)[..., :1] * 0.1
    pictures = [np.repeat(level / 255 + 0.1 * texture, 3, axis=2) for level in LEVELS]
    clips.write_clip(path, pictures)
    return path


def _levels(path: Path) -> list[float]:
    """The place in the source that every frame shows, in frames."""
    grey = [float(frame.pixels.mean()) for frame in open_source(path).frames()]
    return grey


def _run(clip: Path, out: Path, model: rdvfi.Interpolator, **options: object) -> list[tuple[Fraction, float]]:
    """Times and places of the output; a place is a number of frames of the source."""
    report = interpolate_video(clip, out, model=model, allow_untrained=True, scene_threshold=0.0, **options)
    base = _levels(clip)
    step = (base[-1] - base[0]) / (len(base) - 1)
    frames = list(open_source(out).frames())
    assert report.frames_written == len(frames)
    return [(frame.stamp.time, (float(frame.pixels.mean()) - base[0]) / step) for frame in frames]


def _expect(shown: list[tuple[Fraction, float]], places: list[float]) -> None:
    assert [round(place, 1) for _, place in shown] == pytest.approx(places, abs=0.11)


def test_a_fraction_as_multiplier(clip, tmp_path, model) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, multiplier="2.5")
    _expect(shown, [min(k / 2.5, 11) for k in range(29)])
    times = [float(time) for time, _ in shown]
    assert times == pytest.approx([k / 15 for k in range(29)], abs=1e-6)


def test_slow_motion_keeps_the_rate_and_stretches_time(clip, tmp_path, model) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, slow=4)
    _expect(shown, [k / 4 for k in range(45)])
    assert [float(time) for time, _ in shown] == pytest.approx([k / 6 for k in range(45)], abs=1e-6)
    shown = _run(clip, tmp_path / "out2.mp4", model, slow=2, target_fps=6)
    _expect(shown, [min(k / 2, 11) for k in range(24)])


def test_parts_begin_at_zero_and_hold_what_they_say(clip, tmp_path, model) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, start="0.5", end="0:01.2", multiplier=2)
    _expect(shown, [3 + k / 2 for k in range(9)])
    assert shown[0][0] == 0
    shown = _run(clip, tmp_path / "out2.mp4", model, start="0.5", multiplier=1, keep_start=True)
    _expect(shown, [3, 4, 5, 6, 7, 8, 9, 10, 11])
    kept = open_source(tmp_path / "out2.mp4", ReadOptions(keep_start=True)).frames()
    assert next(kept).stamp.time == Fraction(1, 2)


def test_sound_of_a_part_is_that_of_the_part(tmp_path, model) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(12, 32, 48))
    whole = clips.sound_packets(tmp_path / "in.mp4")
    interpolate_video(
        tmp_path / "in.mp4", tmp_path / "out.mp4", model=model, allow_untrained=True, multiplier=1, start=0.5, end=1.5
    )
    part = clips.sound_packets(tmp_path / "out.mp4")
    assert 0.4 < len(part) / len(whole) < 0.6
    data = [packet[-1] for packet in whole]
    assert [packet[-1] for packet in part] == data[(k := data.index(part[0][-1])) : k + len(part)]


@pytest.mark.parametrize(("slow", "suffix"), [("4", ".mp4"), ("0.4", ".mkv"), (Fraction(3, 2), ".webm")])
def test_sound_is_stretched_at_the_same_pitch(tmp_path, model, slow, suffix) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(12, 32, 48))  # two seconds of 440 Hz
    out = tmp_path / f"out{suffix}"
    report = interpolate_video(tmp_path / "in.mp4", out, model=model, allow_untrained=True, slow=slow)
    assert any(f"stretched {float(Fraction(slow)):g} times at the same pitch" in note for note in report.notes)
    with av.open(str(out)) as container:
        frames = list(container.decode(audio=0))
        begin, rate = frames[0].pts * frames[0].time_base, frames[0].sample_rate
    wave = np.concatenate([frame.to_ndarray()[0].astype(float) for frame in frames])
    assert abs(float(begin)) < 0.05
    assert len(wave) / rate == pytest.approx(2 * float(Fraction(slow)), abs=0.1)
    middle = wave[len(wave) // 4 : 3 * len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * rate / len(middle) == pytest.approx(440, abs=4)
    quiet = interpolate_video(
        tmp_path / "in.mp4", tmp_path / "quiet.mp4", model=model, allow_untrained=True, slow=4, audio=False
    )
    assert "audio track #1 is left out, as asked" in quiet.notes
    with av.open(str(tmp_path / "quiet.mp4")) as container:
        assert not container.streams.audio


def test_a_loop_leads_back_to_the_first_frame(clip, tmp_path, model) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, loop=True, multiplier=2)
    _expect(shown, [*(k / 2 for k in range(23)), 5.5])


def test_listed_times_are_shown_at_their_times(clip, tmp_path, model) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, timestamps=[0.25, "1/3", 1.5])
    _expect(shown, [1.5, 2, 9])
    assert [float(time) for time, _ in shown] == pytest.approx([0.25, 1 / 3, 1.5], abs=1e-6)


@pytest.mark.parametrize(
    ("points", "places"),
    [
        ([(0, -1)], list(range(11, -1, -1))),
        ([(0, 1), (1, 1), (1, -1)], [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]),
        ([(0, 1), ("0.5", 1), ("0.5", 0), (1, 0), (1, 2)], [0, 1, 2, 3, 3, 3, 3, 5, 7, 9, 11]),
        ([(0, "0.5"), (2, "0.5"), (2, 0)], [k / 2 for k in range(12)]),
        ([(0, 1), (11, 1), (11, -1)], list(range(12))),
        (
            [(0, "0.25"), (1, "0.25"), (1, "-0.25"), (2, "-0.25"), (2, 1)],
            [*(k / 4 for k in (0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1)), *range(12)],
        ),
    ],
    ids=["reverse", "there-and-back", "freeze", "stops", "runs out", "turns between frames"],
)
def test_curves_of_speed_ramp_freeze_and_reverse(clip, tmp_path, model, points, places) -> None:
    shown = _run(clip, tmp_path / "out.mp4", model, speed=points)
    _expect(shown, places)
    assert [float(time) for time, _ in shown] == pytest.approx([k / 6 for k in range(len(places))], abs=1e-6)


def test_a_curve_runs_backwards_through_a_small_window(clip, tmp_path, model, monkeypatch) -> None:
    monkeypatch.setattr("rdvfi.video.playback._WINDOW_BYTES", 1)
    shown = _run(clip, tmp_path / "out.mp4", model, speed=[(0, 1), ("1.5", 1), ("1.5", -1), (2, -1), (2, 1)])
    _expect(shown, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 7, 8, 9, 10, 11])


def _times(source: Source, since: Fraction | None = None) -> list[Fraction]:
    return [frame.stamp.time for frame in source.frames(since)]


def test_every_source_can_be_read_from_a_time_on(clip, tmp_path) -> None:
    clips.write_clip(tmp_path / "long.mp4", clips.moving(40, 32, 48))
    for path in (clip, tmp_path / "long.mp4"):
        source = open_source(path)
        for kind in (source, TrimmedSource(source, Fraction(1, 2), Fraction(3, 2)), LoopedSource(source)):
            whole = _times(kind)
            for since in (whole[0], whole[-1], whole[3] + Fraction(1, 100), whole[-1] + 5):
                earlier = [k for k, time in enumerate(whole) if time <= since]
                assert _times(kind, since) == whole[earlier[-1] :]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slow": 0}, "slow is 0; it must be greater than 0"),
        ({"slow": 2, "speed": [(0, 1)]}, "give either slow or speed, not both"),
        ({"start": 9}, "start is 9 s; the last frame of .* is earlier"),
        ({"start": -1}, "start is -1; it must be at least 0 s"),
        ({"start": 1, "end": 1}, "end is 1; it must be later than start, 1 s"),
        ({"start": "soon"}, "start is 'soon'; it must be a number"),
        ({"timestamps": [5]}, r"timestamps\[0\] is 5 s; .* goes from 0 to 2 s"),
        ({"timestamps": [1, 1]}, r"timestamps\[1\] is 1, not after 1; timestamps must rise"),
        ({"timestamps": []}, "timestamps is empty"),
        ({"timestamps": [1], "multiplier": 2}, "give either multiplier or target_fps"),
        ({"speed": [(0, 1), ("0.5", -1), (3, -1), (4, 2)]}, "runs back before the first frame"),
        ({"speed": []}, "needs at least one key point"),
        ({"multiplier": "10000000"}, "frames would come out, which is more than"),
    ],
)
def test_bad_times_are_refused_and_leave_nothing(clip, tmp_path, model, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        _run(clip, tmp_path / "out.mp4", model, **options)
    assert list(tmp_path.iterdir()) == []
