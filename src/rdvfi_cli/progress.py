"""Progress: a bar on a terminal, occasional lines elsewhere.

Work is counted in pairs of frames, whose cost is about equal. The remaining time is the mean time of a pair times the
number of remaining pairs. The first pair, which includes warming up, is ignored as soon as there are others.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

_LINE_INTERVAL = 10.0
"""Least seconds between two lines."""


def estimate_remaining(times: list[float], total: int) -> float | None:
    """Remaining seconds, given the times at which 0, 1, 2, ... pairs were done; None if unknown."""
    done = len(times) - 1
    if done < 1:
        return None
    first = 1 if done > 1 else 0
    return (times[-1] - times[first]) / (done - first) * max(0, total - done)


def format_duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss."""
    if seconds is None:
        return "-:--:--"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def resident_memory() -> int | None:
    """Resident memory of this process, in bytes; None where it cannot be determined."""
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_line(stream: TextIO, values: dict[str, object]) -> None:
    """Write a line of JSON, and flush it."""
    stream.write(json.dumps(values, ensure_ascii=False) + "\n")
    stream.flush()


class Progress:
    """Shows progress on standard error; pass `show` to the library.

    Args:
        quiet: Show nothing.
        lines: Stream for a line of JSON per pair, instead.
    """

    def __init__(self, *, quiet: bool = False, lines: TextIO | None = None) -> None:
        self._quiet, self._json_stream = quiet, lines
        self._times: list[float] = []
        self._last_line = 0.0
        self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def print_between(self, print_: Callable[..., None], *arguments: object, **options: object) -> None:
        """Call a function that prints something while the work goes on; the bar is removed before."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        print_(*arguments, **options)

    def show(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` pairs are done."""
        now = time.monotonic()
        self._record_time(done, now)
        remaining, elapsed = estimate_remaining(self._times, total), now - self._times[0]
        if self._json_stream is not None:
            values = {"event": "progress", "done": done, "total": total, "seconds": round(elapsed, 3)}
            values["left"] = None if remaining is None else round(remaining, 3)
            write_line(self._json_stream, {**values, "fps": self._rate(), "memory": resident_memory()})
        elif self._quiet:
            return
        elif sys.stderr.isatty():
            self._update_bar(done, total, format_duration(remaining))
        elif 0 < done < total and now - max(self._last_line, self._times[0]) >= _LINE_INTERVAL:
            self._last_line = now
            times = f"{format_duration(elapsed)} spent, {format_duration(remaining)} left"
            sys.stderr.write(f"pair {done} of {total}, {times}\n")
            sys.stderr.flush()

    def _record_time(self, done: int, now: float) -> None:
        """Record the time at which ``done`` pairs were done; skipped pairs are spread evenly since the last call."""
        if done == 0:  # the next of several jobs begins
            self._times = []
        last = self._times[-1] if self._times else now
        steps = max(1, done + 1 - len(self._times))
        self._times += [last + (now - last) * (k + 1) / steps for k in range(steps)]

    def _rate(self) -> float | None:
        """Source frames per second."""
        elapsed = self._times[-1] - self._times[0]
        return round((len(self._times) - 1) / elapsed, 3) if elapsed > 0 else None

    def _update_bar(self, done: int, total: int, left: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            self._bar = Bar(
                TextColumn("pairs"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left {task.fields[left]}"),
                TextColumn("{task.fields[fps]} fps  {task.fields[memory]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("pairs", total=total, left=left, fps="-", memory="")
            self._bar.start()
        memory, rate = resident_memory(), self._rate()
        self._bar.update(
            self._task,
            completed=done,
            total=total,
            left=left,
            fps="-" if rate is None else f"{rate:.2g}",
            memory="" if memory is None else f"{memory / 2**30:.1f} GiB",
        )
