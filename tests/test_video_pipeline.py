"""Threads beside the computation: order, bounds, errors, and that none is left behind."""

import threading
import time

import pytest

from rdvfi.video.pipeline import Background, Prefetch


def test_prefetch_keeps_order_and_runs_only_a_few_steps_ahead() -> None:
    made = []

    def numbers():
        for k in range(50):
            made.append(k)
            yield k

    seen = []
    with Prefetch(numbers(), 3) as items:
        for item in items:
            time.sleep(0.001)
            seen.append(item)
            assert len(made) <= len(seen) + 3 + 2
    assert seen == list(range(50))


def test_background_keeps_order_and_finishes_everything() -> None:
    seen = []

    def slow(item: int) -> None:
        time.sleep(0.001)
        seen.append(item)

    with Background(slow, 3) as sink:
        for k in range(30):
            sink.put(k)
        sink.finish()
    assert seen == list(range(30))


def test_an_error_while_reading_reaches_the_reader() -> None:
    def broken():
        yield 1
        raise ValueError("bad frame")

    def read() -> list[int]:
        with Prefetch(broken(), 2) as items:
            return list(items)

    with pytest.raises(ValueError, match="bad frame"):
        read()


def test_an_error_while_writing_reaches_the_writer() -> None:
    def full(item: int) -> None:
        raise OSError("disk full")

    def write() -> None:
        with Background(full, 2) as sink:
            for k in range(100):
                sink.put(k)
            sink.finish()

    with pytest.raises(OSError, match="disk full"):
        write()


def test_leaving_early_ends_the_threads_and_closes_the_source() -> None:
    before = threading.active_count()
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def interrupted() -> None:
        with Prefetch(endless(), 2) as items, Background(time.sleep, 2) as sink:
            for item in items:
                sink.put(item)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert closed.is_set()
    assert threading.active_count() == before
