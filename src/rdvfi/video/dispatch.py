"""Hands segments of many jobs to workers, and writes each output when all its segments are there.

Workers fail and vanish; what they have done is in the segment store, and what they have not is done
again by others. A segment appears in the store in one step and depends on the job alone, so one that was
made twice is there once. Each output has one writer, in this process, which only copies packets.

Jobs are taken in order, and a job's segments in order: workers that go forward read a file once. The
number of segments is known when somebody meets the end of the clip; until then no more are handed out
than are expected.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rdvfi.video.engine import Stopped
from rdvfi.video.segment_worker import Made, Task
from rdvfi.video.workers import IN_FLIGHT, Event, Workers

_LOGGER = logging.getLogger(__name__)

_MOST_DEATHS = 3
"""Workers that may die over one segment before its job is given up."""
_PATIENCE = 120.0
"""Seconds for which no worker may be ready before the work is given up."""
_WRITERS = 2
"""Outputs that are written at a time."""


@dataclass
class Distributed:
    """A job whose segments are made by workers."""

    index: int
    given: dict[str, Any]
    place: str
    expected: int
    """Segments, about."""
    prepare: Callable[[dict[str, str]], frozenset[int]]
    """Is given what the job is; returns the segments that are there already."""
    write: Callable[[int], Any]
    """Writes the output of so many segments."""
    name: str
    identity: dict[str, str] | None = None
    count: int | None = None
    handed_out: int = 0
    there: set[int] = field(default_factory=set)
    asked: bool = False
    result: Any = None
    error: Exception | None = None
    writing: Future[Any] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to be handed out."""
        return self.error is not None or self.writing is not None


@dataclass
class _Call:
    method: str
    argument: Any
    job: int
    number: int = -1
    """Of the segment; -1 asks what the job is."""


class Dispatcher:
    """One run over many jobs.

    Args:
        jobs: What is to be done.
        workers: Who does it.
        progress: Is told of segments that are done and expected; False stops the work.
    """

    def __init__(
        self, jobs: list[Distributed], workers: Workers, progress: Callable[[int, int], bool | None] | None = None
    ) -> None:
        self._jobs, self._workers, self._progress = jobs, workers, progress
        self._again: deque[_Call] = deque()
        self._under_way: dict[int, deque[_Call]] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._starts: Counter[int] = Counter()
        self._calls = self._next_calls()
        self._idle = 0.0

    def run(self) -> None:
        """Do all of it; what became of each job is in its ``result`` or ``error``.

        Raises:
            ConnectionError: If no worker becomes ready.
            Stopped: If ``progress`` returned False.
        """
        for worker in range(self._workers.count):
            self._workers.start(worker)
        with ThreadPoolExecutor(_WRITERS) as pool:
            while not all(job.over for job in self._jobs):
                self._feed()
                self._handle(self._workers.wait(1.0))
                self._write(pool)
                self._tell()
            for job in self._jobs:
                self._collect(job)

    def _next_calls(self) -> Iterator[_Call | None]:
        """What is to be done next; None while nothing can be."""
        while True:
            yield next(self._possible(), None)

    def _possible(self) -> Iterator[_Call]:
        for job in self._jobs:
            if job.over:
                continue
            if job.identity is None:
                if not job.asked:
                    job.asked = True
                    yield _Call("identity", job.given, job.index)
                continue
            limit = job.count if job.count is not None else max(job.expected, len(job.there) + 1)
            while job.handed_out < limit:
                number, job.handed_out = job.handed_out, job.handed_out + 1
                if number not in job.there:
                    yield self._segment(job, number)

    def _segment(self, job: Distributed, number: int) -> _Call:
        assert job.identity is not None
        return _Call("make", Task(job.index, number, job.given, job.identity, job.place), job.index, number)

    def _feed(self) -> None:
        """Give every worker what it may have, the idle ones first."""
        for room in range(IN_FLIGHT):
            for worker, calls in self._under_way.items():
                if len(calls) > room:
                    continue
                call = self._take()
                if call is None:
                    return
                calls.append(call)
                self._workers.submit(worker, call.method, call.argument)

    def _take(self) -> _Call | None:
        while self._again:
            call = self._again.popleft()
            job = self._jobs[call.job]
            if not job.over and call.number not in job.there:
                return call
        return next(self._calls)

    def _handle(self, events: list[Event]) -> None:
        self._idle = 0.0 if events or any(self._under_way.values()) else self._idle + 1.0
        if self._idle > _PATIENCE and not self._under_way:
            raise ConnectionError(f"no worker became ready within {_PATIENCE:g} s: is there a free device?")
        for event in events:
            if event.died is not None:
                self._bury(event)
            elif event.ready:
                self._under_way[event.worker] = deque()
            else:
                self._answered(self._under_way[event.worker].popleft(), event)

    def _answered(self, call: _Call, event: Event) -> None:
        job = self._jobs[call.job]
        if event.error is not None:
            self._fail(job, event.error)
        elif isinstance(event.made, dict):
            self._prepare(job, event.made)
        elif isinstance(event.made, Made):
            if event.made.count is not None:
                job.count = event.made.count
            if job.count is None or call.number < job.count:
                job.there.add(call.number)

    def _prepare(self, job: Distributed, identity: dict[str, str]) -> None:
        try:
            job.there = set(job.prepare(identity))
        except Exception as error:
            self._fail(job, error)
        job.identity = identity

    def _bury(self, event: Event) -> None:
        """A worker is gone: another one takes its place, and its tasks are done again."""
        lost = self._under_way.pop(event.worker, None)
        if lost is None:  # it never became ready
            self._starts[event.worker] += 1
            if self._starts[event.worker] >= _MOST_DEATHS or event.error is not None:
                raise event.error or ConnectionError(f"a worker could not start: {event.died}")
        else:
            self._starts[event.worker] = 0
        for k, call in enumerate(lost or ()):
            self._deaths[call.job, call.number] += k == 0  # the others only waited
            if self._deaths[call.job, call.number] >= _MOST_DEATHS:
                what = f"segment {call.number}" if call.number >= 0 else "what it is"
                self._fail(
                    self._jobs[call.job],
                    RuntimeError(f"workers died {_MOST_DEATHS} times over {what} of it, the last because {event.died}"),
                )
            else:
                self._again.append(call)
        _LOGGER.info("worker %d died (%s); another one takes its place", event.worker, event.died)
        self._workers.start(event.worker)

    def _fail(self, job: Distributed, error: Exception) -> None:
        job.error = job.error or error

    def _write(self, pool: ThreadPoolExecutor) -> None:
        for job in self._jobs:
            if not job.over and job.count is not None and job.there >= set(range(job.count)):
                job.writing = pool.submit(job.write, job.count)

    def _collect(self, job: Distributed) -> None:
        if job.writing is not None:
            try:
                job.result = job.writing.result()
            except Exception as error:
                self._fail(job, error)

    def _tell(self) -> None:
        if self._progress is None:
            return
        expected = sum(job.count or max(job.expected, len(job.there)) for job in self._jobs)
        if self._progress(sum(len(job.there) for job in self._jobs), expected) is False:
            raise Stopped("stopped; finished segments are kept")
