"""Cuts of a film, by one rule."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rdvfi.media.scene_cuts import FLOOR, RATIO, REACH, find_cuts, has_cut, step_differences


def _textured_picture(seed: int, shift: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 12, 3), np.uint8)
    picture = cv2.resize(noise, (192, 96), interpolation=cv2.INTER_CUBIC)
    return np.roll(picture, shift, axis=1)


@pytest.mark.parametrize("gap", [2, 8, 9])
def test_a_cut_is_found_and_steady_motion_is_not_one(gap: int) -> None:
    for step in (0, 1, 3):
        moving = [_textured_picture(0, step * i) for i in range(gap + 1)]
        assert not has_cut(np.stack(moving))
        for cut in (1, gap):
            after = [_textured_picture(1, step * i) for i in range(cut, gap + 1)]
            assert has_cut(np.stack(moving[:cut] + after))


def test_a_dissolve_is_kept() -> None:
    first, last = _textured_picture(0, 0).astype(float), _textured_picture(1, 0).astype(float)
    frames = [(first + (last - first) * i / 8).astype(np.uint8) for i in range(9)]
    assert not has_cut(np.stack(frames))


def test_cuts_of_a_film_are_numbered() -> None:
    """Also two in a row; what is thrice as fast, what fades, and the first and last frame are none."""
    shots = [[_textured_picture(seed, 2 * i) for i in range(count)] for seed, count in enumerate((9, 1, 7, 12))]
    fast = [_textured_picture(3, 24 + 6 * i) for i in range(8)]
    fading = [(picture * (1.0 - i / 8)).astype(np.uint8) for i, picture in enumerate([fast[-1]] * 9)]
    film = [*shots[0], *shots[1], *shots[2], *shots[3], *fast, *fading]
    assert find_cuts(step_differences(iter(film))) == [9, 10, 17]


def test_a_cut_is_what_the_rule_says_near_its_border() -> None:
    """Against the rule in SciPy, on windows whose one large step grows through the threshold."""
    rng = np.random.default_rng(0)
    expected = []
    for jump in range(2, 60, 4):
        level = 60 + rng.integers(-2, 3, 9) + jump * (np.arange(9) >= 4)
        window = np.clip(level[:, None, None, None] + rng.integers(-30, 31, (9, 54, 96, 3)), 0, 255)
        small = window.astype(np.uint8).reshape(9, 27, 2, 48, 2, 3).mean((2, 4)).round() / 255.0
        smooth = gaussian_filter(small, (0, 1, 1, 0), mode="mirror", truncate=4.0)
        steps = np.abs(np.diff(smooth, axis=0)).mean((1, 2, 3))
        np.testing.assert_allclose(step_differences(window.astype(np.uint8)), steps, atol=1e-3)
        around = np.array(
            [np.median(np.delete(steps[max(0, i - REACH) : i + REACH + 1], min(i, REACH))) for i in range(8)]
        )
        expected.append(bool((steps >= np.maximum(FLOOR, RATIO * around)).any()))
        assert has_cut(window.astype(np.uint8)) == expected[-1], jump
    assert {*expected} == {True, False}
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"a window of {count} frames; at least 3"):
            has_cut(np.zeros((count, 16, 16, 3), np.uint8))
