"""Laws of the output schedule: exact counts and spans, no drift, originals in place."""

import collections
import itertools
import time
import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdvfi.video.timing import (
    ListedTimes,
    Moment,
    Multiply,
    Resample,
    Stamp,
    choose_retiming,
    exact_number,
    exact_rate,
    intervals,
    plan,
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


FACTORS = st.fractions(min_value=Fraction(1, 8), max_value=24, max_denominator=1001)


@given(sources(), FACTORS)
def test_any_fraction_keeps_span_order_and_the_originals_it_meets(source, m) -> None:
    stamps, tick = source
    rule, n = Multiply(m), len(stamps)
    moments = list(plan(stamps, rule))
    end = stamps[-1].time + stamps[-1].duration
    assert len(moments) == rule.count(n, Fraction(0), Fraction(0))
    assert moments[0].time == stamps[0].time
    assert moments[-1].time + moments[-1].duration == end
    assert all(now.time + now.duration == after.time for now, after in itertools.pairwise(moments))
    for k, moment in enumerate(moments):
        place = k / m  # in frames
        i = min(int(place), n - 1)
        assert moment.source == i
        if place <= n - 1:
            assert moment.timestep == place - i
            after = stamps[i + 1].time if i + 1 < n else end
            assert moment.time == stamps[i].time + (place - i) * (after - stamps[i].time)
        else:  # what follows the last frame is the last frame
            assert moment.timestep == 0
    base = rule.time_base(tick)
    assert all((moment.time / base).denominator == 1 for moment in moments)


@given(sources(), FACTORS, st.data())
def test_repeats_leave_count_and_times_as_they_are(source, m, data) -> None:
    """Frames that are repeats give the same plan of times; only what is shown differs."""
    stamps, _ = source
    marked = [s._replace(repeat=k > 0 and data.draw(st.booleans())) for k, s in enumerate(stamps)]
    real = [k for k, s in enumerate(marked) if not s.repeat]
    plain, moments = list(plan(stamps, Multiply(m))), list(plan(marked, Multiply(m)))
    assert [(a.time, a.duration) for a in plain] == [(b.time, b.duration) for b in moments]
    for moment in moments:
        assert moment.source in real
        if moment.source == real[-1]:
            assert moment.timestep == 0
        else:
            begin, after = stamps[moment.source].time, stamps[real[real.index(moment.source) + 1]].time
            assert begin + moment.timestep * (after - begin) == moment.time


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(60), Fraction(25)])
def test_film_to_another_rate_and_back_is_the_film(fps) -> None:
    film = Fraction(24000, 1001)
    stamps = [Stamp(k / film, 1 / film) for k in range(500)]
    there = list(plan(stamps, Resample(fps)))
    back = list(plan([Stamp(m.time, m.duration) for m in there], Resample(film)))
    assert len(back) in (500, 501)  # the last slot of the other rate may reach beyond the end
    assert [moment.time for moment in back[:500]] == [stamp.time for stamp in stamps]


def test_three_hours_are_planned_in_a_second_without_drift() -> None:
    """648,000 moments, counted in the time of the processor, which others' work does not lengthen by much."""
    rate, frames = Fraction(24), 3 * 3600 * 24
    held = []
    for length in (100, 1000):
        tracemalloc.start()
        moments = plan((Stamp(k / rate, 1 / rate) for k in range(length)), Resample(Fraction(60)))
        assert sum(1 for _ in moments) == 5 * length // 2
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert held[1] < held[0] + 4000
    begun = time.process_time()
    step = 1 / rate
    moments = plan((Stamp(Fraction(k, 24), step) for k in range(frames)), Resample(Fraction(60)))
    ((count, last),) = collections.deque(enumerate(moments, start=1), maxlen=1)
    assert time.process_time() - begun < 2.5
    assert (count, last) == (648_000, Moment(frames - 1, Fraction(0), Fraction(647_999, 60), Fraction(1, 60)))


@given(sources(), st.lists(st.fractions(0, 1), min_size=1, max_size=30, unique=True))
def test_listed_times_are_met_exactly(source, shares) -> None:
    stamps, _ = source
    end = stamps[-1].time + stamps[-1].duration
    times = tuple(stamps[0].time + share * (end - stamps[0].time) for share in sorted(shares))
    moments = list(plan(stamps, ListedTimes(times)))
    assert [moment.time for moment in moments] == [each for each in times if each < end]
    for moment in moments:
        begin = stamps[moment.source].time
        if moment.source + 1 < len(stamps):
            assert begin + moment.timestep * (stamps[moment.source + 1].time - begin) == moment.time
        else:
            assert moment.timestep == 0


@given(sources(), st.integers(1, 6))
def test_a_loop_has_as_many_frames_as_its_intervals_and_no_end(source, m) -> None:
    stamps, _ = source
    end = stamps[-1].time + stamps[-1].duration
    round_ = [*stamps, Stamp(end, Fraction(1))]
    moments = [moment for _, part in schedule(round_, Multiply(m), loop=True) for moment in part]
    assert len(moments) == len(stamps) * m
    assert moments[-1].time + moments[-1].duration == end
    assert moments[-1].source == len(stamps) - 1


def test_numbers_of_any_kind_are_exact() -> None:
    for given_, exact in ((2, 2), (2.5, Fraction(5, 2)), ("24000/1001", Fraction(24000, 1001)), (0.1, Fraction(1, 10))):
        assert exact_number("slow", given_) == exact
    for wrong in ("", "two", "1e99999999", "1/0", True, float("inf"), "nan"):
        with pytest.raises(ValueError, match=r"slow is .*; it must be a number"):
            exact_number("slow", wrong)


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


def test_a_long_gap_is_one_frame_at_a_constant_rate() -> None:
    """Hours between two frames are not hundreds of thousands of frames."""
    stamps = [Stamp(Fraction(k), Fraction(1)) for k in (0, 1, 7201, 7202)]
    moments = list(plan(stamps, Resample(Fraction(30)), max_gap=Fraction(10)))
    assert len(moments) == 30 + 1 + 30 + 30
    assert (moments[30].time, moments[30].duration, moments[30].timestep) == (1, 7200, 0)
    assert all(a.time + a.duration == b.time for a, b in itertools.pairwise(moments))
    assert len(list(plan(stamps[:2], Resample(Fraction(30)), max_gap=Fraction(10)))) == 60
