"""Laws of the output schedule: exact counts and spans, no drift, originals in place."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdvfi.video.timing import (
    Multiply,
    Resample,
    Stamp,
    choose_retiming,
    exact_rate,
    intervals,
    schedule,
)

TIME_BASES = st.sampled_from([Fraction(1, 24), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000)])


@st.composite
def sources(draw: st.DrawFn, most: int = 40) -> tuple[list[Stamp], Fraction]:
    """Variable-rate source timestamps in whole ticks, and their tick."""
    tick = draw(TIME_BASES)
    gaps = draw(st.lists(st.integers(1, 50), min_size=0, max_size=most))
    start = draw(st.integers(-100, 100_000))
    times = list(itertools.accumulate(gaps, initial=start))
    lengths = [*gaps, draw(st.integers(1, 50))]
    return [Stamp(t * tick, d * tick) for t, d in zip(times, lengths, strict=True)], tick


@given(sources(), st.integers(1, 24))
def test_multiplying_keeps_count_span_and_every_original(source, m) -> None:
    stamps, tick = source
    moments = [moment for _, part in schedule(stamps, Multiply(m)) for moment in part]
    n = len(stamps)
    assert len(moments) == (n - 1) * m + 1
    assert Multiply(m).count(n, stamps[-1].time - stamps[0].time, stamps[-1].duration) == len(moments)
    assert moments[0].time == stamps[0].time
    assert moments[-1].time == stamps[-1].time
    assert moments[-1].duration == stamps[-1].duration
    for i, stamp in enumerate(stamps):
        assert (moments[i * m].source, moments[i * m].timestep) == (i, 0)
        assert moments[i * m].time == stamp.time
    base = Multiply(m).time_base(tick)
    assert all((moment.time / base).denominator == 1 for moment in moments)


@given(sources(), st.integers(1, 24))
def test_multiplied_frames_are_seamless_and_divide_their_interval(source, m) -> None:
    stamps, _ = source
    moments = [moment for _, part in schedule(stamps, Multiply(m)) for moment in part]
    for now, after in itertools.pairwise(moments):
        assert now.time + now.duration == after.time
        assert now.duration > 0
    for i in range(len(stamps) - 1):
        steps = {moment.duration for moment in moments[i * m : (i + 1) * m]}
        assert steps == {(stamps[i + 1].time - stamps[i].time) / m}
        assert [moment.timestep for moment in moments[i * m : (i + 1) * m]] == [Fraction(j, m) for j in range(m)]


RATES = st.sampled_from([Fraction(24), Fraction(30000, 1001), Fraction(60), Fraction(1, 2)])


@given(sources(), RATES)
def test_resampling_is_regular_and_ends_with_the_source(source, fps) -> None:
    stamps, tick = source
    rule = Resample(fps)
    moments = [moment for _, part in schedule(stamps, rule) for moment in part]
    origin, end = stamps[0].time, stamps[-1].time + stamps[-1].duration
    assert len(moments) == rule.count(len(stamps), stamps[-1].time - origin, stamps[-1].duration)
    assert [moment.time for moment in moments] == [origin + k / fps for k in range(len(moments))]
    if moments[-1].source == len(stamps) - 1:
        assert moments[-1].time + moments[-1].duration == end
    else:  # slower than the source: the last frame shown covers the end
        assert moments[-1].time + moments[-1].duration >= end
    base = rule.time_base(tick)
    assert all((moment.time / base).denominator == 1 for moment in moments)
    for moment in moments:
        start = stamps[moment.source].time
        assert 0 <= moment.timestep < 1
        if moment.source + 1 < len(stamps):
            after = stamps[moment.source + 1].time
            assert start + moment.timestep * (after - start) == moment.time
        else:
            assert moment.timestep == 0


def test_a_long_film_does_not_drift() -> None:
    tick = Fraction(1001, 24000)
    frames = 20_000
    stamps = (Stamp(k * tick, tick) for k in range(frames))
    last = None
    for _, part in schedule(stamps, Multiply(5)):
        *_, last = part
    assert last is not None
    assert last.time == (frames - 1) * tick
    assert last.time + last.duration == frames * tick


def test_schedule_needs_only_the_next_frame() -> None:
    seen = []

    def source():
        for k in range(5):
            seen.append(k)
            yield Stamp(Fraction(k), Fraction(1))

    plan = schedule(source(), Multiply(2))
    interval, part = next(plan)
    assert seen == [0, 1]
    assert interval.index == 0
    assert [moment.time for moment in part] == [0, Fraction(1, 2)]


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (24.0, Fraction(24)),
        (60, Fraction(60)),
        (12.5, Fraction(25, 2)),
        (0.5, Fraction(1, 2)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
    ],
)
def test_decimal_rates_mean_the_broadcast_fractions(rate, exact) -> None:
    assert exact_rate(rate) == exact


def test_bad_timing_is_refused() -> None:
    with pytest.raises(ValueError, match="multiplier is 0"):
        Multiply(0)
    with pytest.raises(ValueError, match="target_fps is -1"):
        Resample(Fraction(-1))
    with pytest.raises(ValueError, match="either multiplier or target_fps"):
        choose_retiming(None, None)
    with pytest.raises(ValueError, match="either multiplier or target_fps"):
        choose_retiming(2, 60)
    with pytest.raises(ValueError, match="finite"):
        exact_rate(float("nan"))
    one = Fraction(1)
    with pytest.raises(ValueError, match="source frame 1 is at 1"):
        list(intervals([Stamp(one, one), Stamp(one, one)]))
    with pytest.raises(ValueError, match="last source frame lasts 0 s"):
        list(intervals([Stamp(one, Fraction(0))]))
