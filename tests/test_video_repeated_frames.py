"""Repeated pictures: found on films with known repeats, not where there are none, and replaced in place."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import clips
import rdvfi
from rdvfi.media.reader import open_source
from rdvfi.video import interpolate_video
from rdvfi.video.repeated_frames import brightness, change, find_repeats, is_telecine


def _changes(numbers: np.ndarray, *, noise: float, seed: int = 0) -> list[float]:
    """Of a film that shows these pictures of a texture that moves, with new noise in every frame."""
    rng, wide = np.random.default_rng(seed), clips.texture(60, 520, seed=seed)
    places, frames = np.cumsum(np.round(4 + 2 * np.sin(np.arange(64) / 5 + seed))).astype(int), []
    for k in numbers:
        place = places[int(k)]
        picture = 255 * wide[:, place : place + 120] + rng.normal(0, noise, (60, 120, 3))
        frames.append(brightness(np.clip(picture + 0.5, 0, 255).astype(np.uint8)))
    return [change(a, b) for a, b in pairwise(frames)]


PATTERNS = {
    "twos": np.arange(64) // 2,
    "threes": np.arange(64) // 3,
    "telecine": np.arange(64) * 4 // 5,
    "stutter": np.arange(64) - np.isin(np.arange(64), (9, 22, 40, 51)),
}


@pytest.mark.parametrize("noise", [0, 3, 7])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_repeats_are_found_and_nothing_else(pattern: str, noise: float) -> None:
    right = wrong = missed = 0
    for seed in range(3):
        numbers = PATTERNS[pattern]
        truth = np.concatenate(([False], numbers[1:] == numbers[:-1]))
        found = np.array(find_repeats(_changes(numbers, noise=noise, seed=seed)))
        right, wrong, missed = (
            right + (found & truth).sum(),
            wrong + (found & ~truth).sum(),
            missed + (~found & truth).sum(),
        )
    # Single ones among much that moves have to be clearer than others.
    assert right / (right + missed) >= (0.7 if pattern == "stutter" else 0.95)
    assert wrong / (right + wrong) <= 0.01


@pytest.mark.parametrize("noise", [0, 5])
def test_still_shots_and_motion_without_repeats_have_none(noise: float) -> None:
    still = _changes(np.zeros(40), noise=noise)
    moving = _changes(np.arange(64), noise=noise)
    assert not any(find_repeats(still))
    assert not any(find_repeats(moving))
    pause = np.concatenate((np.arange(20), np.full(15, 19), np.arange(19, 40)))
    assert not any(find_repeats(_changes(pause, noise=noise)))


def test_the_longest_run_can_be_chosen() -> None:
    threes = _changes(PATTERNS["threes"], noise=2)
    assert sum(find_repeats(threes, 3)) == 42
    assert not any(find_repeats(threes, 2))
    assert find_repeats([]) == [False]
    assert find_repeats([1.0]) == [False, False]


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    parts = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
    return rdvfi.build("rdvfi_s", *parts).requires_grad_(False)


def _steps(path: Path) -> list[float]:
    frames = [frame.pixels.astype(float) for frame in open_source(path).frames()]
    return [float(np.abs(b - a).mean()) for a, b in pairwise(frames)]


def test_animation_on_twos_moves_evenly_in_the_same_time(tmp_path, model) -> None:
    wide = clips.texture(48, 120)
    pictures = [wide[:, 4 * (k // 2) : 4 * (k // 2) + 64] for k in range(12)]
    clips.write_clip(tmp_path / "in.mp4", pictures)
    outputs = {}
    for dedup in ("off", "auto", 2):
        out = tmp_path / f"{dedup}.mkv"
        report = interpolate_video(
            tmp_path / "in.mp4", out, model=model, allow_untrained=True, multiplier=2, dedup=dedup, codec="ffv1"
        )
        outputs[dedup] = report, _steps(out), [frame.stamp.time for frame in open_source(out).frames()]
    assert outputs["off"][2] == outputs["auto"][2] == outputs[2][2]
    assert len(outputs["auto"][2]) == 23
    moving = outputs["auto"][1][:20]
    assert min(outputs["off"][1]) < 0.1 * max(outputs["off"][1])
    assert min(moving) > 0.4 * max(moving)
    assert "6 of 12 frames repeat the one before: new frames take their places" in outputs["auto"][0].notes
    # What is a picture of its own stays in its place.
    source = [frame.pixels.astype(float) for frame in open_source(tmp_path / "in.mp4").frames()]
    made = [frame.pixels.astype(float) for frame in open_source(tmp_path / "auto.mkv").frames()]
    for k in range(0, 12, 2):
        assert np.abs(made[2 * k] - source[k]).max() <= 1


@pytest.mark.parametrize("wrong", ["on", "1", 1, "2.5", Fraction(1, 2), "1001"])
def test_bad_choices_are_refused(tmp_path, model, wrong) -> None:
    clips.write_clip(tmp_path / "in.mp4", clips.moving(2, 48, 64))
    with pytest.raises(ValueError, match=r"dedup is .*; it must be off, auto, or the most times"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "out.mp4", model=model, allow_untrained=True, dedup=wrong)


@pytest.mark.parametrize(
    ("cycle", "expected"),
    [
        ("aabcd", True),
        ("abcdd", True),
        ("aaabb", True),
        ("abbcc", False),
        ("aabb", False),
        ("aab", False),
        ("a", False),
    ],
)
def test_telecine_is_told_from_other_repeats(cycle, expected) -> None:
    repeated = [k % len(cycle) > 0 and cycle[k % len(cycle)] == cycle[k % len(cycle) - 1] for k in range(60)]
    assert is_telecine(repeated) == expected
    repeated[23] = not repeated[23]  # one is missed, or wrongly found
    assert is_telecine(repeated) == expected
    assert not is_telecine(repeated[:12])
