"""How far the work is: a bar on a terminal, now and then a line elsewhere.

Work is counted in pairs of frames, which cost about the same; frames come in bursts. The time left
is the mean time of a pair times the number of pairs left. The first pair, which also warms up, does
not count as soon as there are others.
"""

import sys
import time

_LINE_EVERY = 10.0
"""Seconds between two lines."""


def remaining(times: list[float], total: int) -> float | None:
    """Seconds left, from the moments at which 0, 1, 2, ... pairs were done; None if nobody knows yet."""
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


class Progress:
    """Shows progress on the error stream; `show` is what the library calls.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._times: list[float] = []
        self._said = 0.0
        self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """So many pairs are done, of so many."""
        now = time.monotonic()
        # A call that skips pairs counts as if they had been done one after the other.
        last = self._times[-1] if self._times else now
        steps = max(1, done + 1 - len(self._times))
        self._times += [last + (now - last) * (k + 1) / steps for k in range(steps)]
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
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("pairs", total=total, left=left)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, left=left)
