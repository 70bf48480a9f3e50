"""Curves of speed: exact places, and files of key points."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdvfi.media.timestamps import Stamp
from rdvfi.video.speed_curve import SpeedCurve, SpeedRamp, read_speed_curve
from rdvfi.video.timing import Multiply, plan

SPEEDS = st.fractions(min_value=-3, max_value=4, max_denominator=20)


POINTS = st.lists(st.tuples(st.fractions(0, 10, max_denominator=30), SPEEDS), min_size=1, max_size=6)


def _curve(points: list[tuple[Fraction, Fraction]]) -> SpeedCurve:
    return SpeedCurve(tuple(sorted(points)))


@given(POINTS, st.fractions(0, 12, max_denominator=50))
def test_the_place_is_the_integral_of_the_speed(points, time) -> None:
    """Summed in small steps by the midpoint rule, which is exact where the speed is straight."""
    curve = _curve(points)
    marks = sorted({Fraction(0), time, *(t for t, _ in curve.points if t < time)})
    total = sum((b - a) * curve.speed((a + b) / 2) for a, b in pairwise(marks))
    assert curve.position(time) == total


@given(POINTS)
def test_the_place_is_continuous_and_starts_at_zero(points) -> None:
    curve = _curve(points)
    assert curve.position(Fraction(0)) == 0
    tiny = Fraction(1, 10**6)
    for time, _ in curve.points:
        if time > tiny:
            assert abs(curve.position(time) - curve.position(time - tiny)) <= 5 * tiny


def test_a_constant_curve_is_a_multiplier() -> None:
    stamps = [Stamp(Fraction(k, 24), Fraction(1, 24)) for k in range(25)]
    moments = list(plan(stamps, Multiply(4)))
    curve = SpeedRamp(Fraction(24), SpeedCurve(((Fraction(0), Fraction(1, 4)),)))
    for moment, (k, place, speed) in zip(moments, curve.positions(Fraction(0)), strict=False):
        assert (place, speed, moment.time * 4) == (moment.time, Fraction(1, 4), Fraction(k, 24))
    assert curve.count(25, Fraction(1), Fraction(1, 24)) == 100


def test_files_of_key_points(tmp_path) -> None:
    path = tmp_path / "ramp.txt"
    path.write_text("# time speed\n0 1\n0:01.5, 25%  # slow\n\n2;1/2\n2 -1\n")
    curve = read_speed_curve(path)
    assert curve.points == (
        (Fraction(0), Fraction(1)),
        (Fraction(3, 2), Fraction(1, 4)),
        (Fraction(2), Fraction(1, 2)),
        (Fraction(2), Fraction(-1)),
    )
    assert curve.has_reverse
    assert not curve.starts_at_end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs at least one key point"),
        ("0 1 2\n", "line 1 is '0 1 2'; expected a time and a speed"),
        ("0 fast\n", "line 1: speed is 'fast'; it must be a number"),
        ("1 1\n0 1\n", "must be in order of time"),
        ("-1 1\n", "times begin at 0"),
        ("0 9999999\n", "expected at most 1000000"),
        ("1:2:3:4 1\n", "expected seconds, or h:mm:ss"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, text, message) -> None:
    path = tmp_path / "ramp.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_speed_curve(path)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"none\.txt does not exist"):
        read_speed_curve(tmp_path / "none.txt")
