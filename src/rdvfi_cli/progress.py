"""Progress: a bar on a terminal, occasional lines elsewhere.

Work is counted in pairs of frames, which cost about the same; frames come in bursts. The time left
is the mean time of a pair times the number of pairs left. The first pair, which also warms up, does
not count as soon as there are others.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

_LINE_EVERY = 10.0
"""Seconds between two lines."""


def remaining(times: list[float], total: int) -> float | None:
    """Seconds left, from the moments at which 0, 1, 2, ... pairs were done; None if unknown."""
    done = len(times) - 1
    if done < 1:
        return None
    first = 1 if done > 1 else 0
    return (times[-1] - times[first]) / (done - first) * max(0, total - done)


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss."""
    if seconds is None:
        return "-:--:--"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def memory() -> int | None:
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
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def write_line(stream: TextIO, values: dict[str, object]) -> None:
    """A line of JSON, at once."""
    stream.write(json.dumps(values, ensure_ascii=False) + "\n")
    stream.flush()


class Progress:
    """Shows progress on the error stream; `show` is what the library calls.

    Args:
        quiet: Show nothing.
        lines: Instead, where a line of JSON goes for every pair.
    """

    def __init__(self, *, quiet: bool = False, lines: TextIO | None = None) -> None:
        self._quiet, self._lines = quiet, lines
        self._times: list[float] = []
        self._said = 0.0
        self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def aside(self, tell: Callable[..., None], *arguments: object, **options: object) -> None:
        """Tell something while work goes on: the bar makes room."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        tell(*arguments, **options)

    def show(self, done: int, total: int) -> None:
        """So many pairs are done, of so many."""
        now = time.monotonic()
        if done == 0:  # of many jobs, the next one begins
            self._times = []
        # A call that skips pairs counts as if they had been done one after the other.
        last = self._times[-1] if self._times else now
        steps = max(1, done + 1 - len(self._times))
        self._times += [last + (now - last) * (k + 1) / steps for k in range(steps)]
        if self._lines is not None:
            seconds = remaining(self._times, total)
            values = {"event": "progress", "done": done, "total": total, "seconds": round(now - self._times[0], 3)}
            left = None if seconds is None else round(seconds, 3)
            write_line(self._lines, {**values, "left": left, "fps": self._rate(), "memory": memory()})
            return
        if self._quiet:
            return
        left = clock(remaining(self._times, total))
        if sys.stderr.isatty():
            self._draw(done, total, left)
        elif 0 < done < total and now - max(self._said, self._times[0]) >= _LINE_EVERY:
            self._said = now
            spent = clock(now - self._times[0])
            sys.stderr.write(f"pair {done} of {total}, {spent} spent, {left} left\n")
            sys.stderr.flush()

    def _rate(self) -> float | None:
        """Source frames that are done per second."""
        spent = self._times[-1] - self._times[0]
        return round((len(self._times) - 1) / spent, 3) if spent > 0 else None

    def _draw(self, done: int, total: int, left: str) -> None:
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
        held, rate = memory(), self._rate()
        self._bar.update(
            self._task,
            completed=done,
            total=total,
            left=left,
            fps="-" if rate is None else f"{rate:.2g}",
            memory="" if held is None else f"{held / 2**30:.1f} GiB",
        )
