"""Scheduling of the segments of many jobs on workers, and assembly of the outputs.

Workers fail and vanish; what they have done is in the segment store, and what they have not is done
again by others. A segment appears in the store in one step and depends on the job alone, so one that was
made twice is there once. Each output has one writer, in this process, which only copies packets.

Jobs are taken in order, and a job's segments in order: workers that go forward need not enter a file anew.
The next job is read when a worker has nothing else to do. Where the times of frames are known, so are the
segments. Else their number is known when somebody meets the end of the clip; until then no more are handed
out than are expected.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rdvfi.video.engine import Stopped
from rdvfi.video.job_options import JobOptions
from rdvfi.video.segmented_jobs.distributed_job import DistributedJob
from rdvfi.video.segmented_jobs.segment_worker import Made, Task
from rdvfi.video.segmented_jobs.workers import IN_FLIGHT, Event, Workers

_LOGGER = logging.getLogger(__name__)

_MOST_DEATHS = 3
"""Workers that may die over one segment before its job is given up."""
_PATIENCE = 120.0
"""Seconds for which no worker may have a place before the work is given up; loading a model does not count."""
_THREADS = 2
"""Jobs that are read, or outputs that are written, at a time."""
_POLL = 0.1
"""Seconds between looks at these."""


@dataclass
class JobState:
    """How far a job is."""

    index: int
    options: JobOptions
    """With absolute paths."""
    place: str
    """Of its segments."""
    begin: Callable[[], DistributedJob]
    """Reads it, which may take a while."""
    reading: Future[DistributedJob] | None = None
    job: DistributedJob | None = None
    identity: dict[str, str] | None = None
    asked: bool = False
    count: int | None = None
    handed_out: int = 0
    there: set[int] = field(default_factory=set)
    unplanned: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    writing: Future[Any] | None = None
    result: Any = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to be handed out."""
        return self.error is not None or self.writing is not None

    @property
    def done(self) -> bool:
        """Whether it is known what became of it."""
        return self.error is not None or self.result is not None

    @property
    def in_pool(self) -> bool:
        """Whether it is being read or written."""
        return not self.done and (self.writing is not None or (self.reading is not None and self.job is None))

    def plan(self) -> None:
        """The number of segments, and none handed out."""
        assert self.job is not None
        self.count, self.handed_out = None if self.job.parts is None else len(self.job.parts), 0


@dataclass
class _Call:
    method: str
    arguments: tuple[Any, ...]
    job: int
    number: int = -1
    """Of the segment; -1 asks what the job is."""


class Dispatcher:
    """One run over many jobs.

    Args:
        jobs: What is to be done.
        workers: Who does it.
        progress: Is told of segments that are done and expected; False stops the work.
        done: Is told of every job of which it is known what became.
    """

    def __init__(
        self,
        jobs: list[JobState],
        workers: Workers,
        progress: Callable[[int, int], bool | None] | None = None,
        done: Callable[[JobState], None] = lambda job: None,
    ) -> None:
        self._jobs, self._workers, self._progress, self._done = jobs, workers, progress, done
        self._told: set[int] = set()
        self._again: deque[_Call] = deque()
        self._under_way: dict[int, deque[_Call]] = {}
        self._absent: set[int] = set()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._starts: Counter[int] = Counter()
        self._since = time.monotonic()

    def run(self) -> None:
        """Do all of it; what became of each job is in its ``result`` or ``error``.

        Raises:
            ConnectionError: If no worker has a place, or can start.
            Stopped: If ``progress`` returned False.
        """
        for worker in range(self._workers.count):
            self._workers.start(worker)
        pool = ThreadPoolExecutor(_THREADS)
        for job in self._jobs[:_THREADS]:  # what is wrong with a job is known before any worker is ready
            job.reading = pool.submit(job.begin)
        try:
            while not all(job.done for job in self._jobs):
                self._feed(pool)
                self._handle(self._workers.wait(_POLL if any(job.in_pool for job in self._jobs) else 1.0))
                self._advance(pool)
                self._tell()
        except BaseException as error:
            error.add_note(self._kept())
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(self) -> str:
        complete = sum(job.result is not None for job in self._jobs)
        kept = sum(len(job.there) for job in self._jobs if job.result is None)
        return f"{complete} of {len(self._jobs)} outputs are complete, and {kept} segments of others are kept"

    def _next_call(self, pool: ThreadPoolExecutor) -> _Call | None:
        """What is to be done next; None while nothing can be."""
        reading = 0
        for job in self._jobs:
            if job.over or job.unplanned:
                continue
            if job.job is None:
                job.reading = job.reading or pool.submit(job.begin)
                reading += 1
                if reading == _THREADS:
                    return None
            elif job.identity is None:
                if not job.asked:
                    job.asked = True
                    return _Call("identity", (job.index, job.options), job.index)
            elif (call := next(self._segments(job), None)) is not None:
                return call
        return None

    def _segments(self, job: JobState) -> Iterator[_Call]:
        assert job.job is not None
        assert job.identity is not None
        limit = job.count if job.count is not None else max(job.job.expected, len(job.there) + 1)
        while job.handed_out < limit:
            number, job.handed_out = job.handed_out, job.handed_out + 1
            if number not in job.there:
                part = None if job.job.parts is None else job.job.parts[number]
                task = Task(job.index, number, job.options, job.identity, job.place, part)
                yield _Call("make", (task,), job.index, number)

    def _feed(self, pool: ThreadPoolExecutor) -> None:
        """Give every worker what it may have, the idle ones first."""
        for room in range(IN_FLIGHT):
            for worker, calls in self._under_way.items():
                if len(calls) > room:
                    continue
                call = self._take(pool)
                if call is None:
                    return
                calls.append(call)
                self._workers.submit(worker, call.method, *call.arguments)

    def _take(self, pool: ThreadPoolExecutor) -> _Call | None:
        while self._again:
            call = self._again.popleft()
            job = self._jobs[call.job]
            if not job.over and not job.unplanned and call.number not in job.there:
                return call
        return self._next_call(pool)

    def _handle(self, events: list[Event]) -> None:
        if self._under_way or self._workers.placed:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _PATIENCE:
            raise ConnectionError(f"no worker got a place within {_PATIENCE:g} s: is there a free device?")
        for event in events:
            if event.died is not None:
                self._bury(event)
            elif event.ready:
                self._under_way[event.worker] = deque()
            else:
                self._answered(self._under_way[event.worker].popleft(), event)

    def _answered(self, call: _Call, event: Event) -> None:
        job = self._jobs[call.job]
        if job.over:
            return
        if event.error is not None:
            job.error = event.error
        elif isinstance(event.made, dict):
            self._prepare(job, event.made)
        elif isinstance(event.made, Made):
            self._made(job, call.number, event.made)

    def _made(self, job: JobState, number: int, made: Made) -> None:
        if not made.kept and made.count is None:
            _LOGGER.info("%s is not what its index says: it is read from its beginning", job.options.source)
            job.unplanned = True  # what others are making of it now is waited for
            return
        job.count = made.count if made.count is not None else job.count
        job.notes |= dict.fromkeys(made.notes)
        if made.kept:
            job.there.add(number)

    def _prepare(self, job: JobState, identity: dict[str, str]) -> None:
        assert job.job is not None
        try:
            job.there = job.job.prepare(identity)
        except Exception as error:
            job.error = error
        job.identity = identity
        job.plan()

    def _bury(self, event: Event) -> None:
        """A worker is gone: another one takes its place, and its tasks are done again."""
        lost = self._under_way.pop(event.worker, None)
        self._starts[event.worker] = self._starts[event.worker] + 1 if lost is None else 0
        for k, call in enumerate(lost or ()):
            self._deaths[call.job, call.number] += k == 0  # the others only waited
            if self._deaths[call.job, call.number] >= _MOST_DEATHS:
                what = f"segment {call.number}" if call.number >= 0 else "what it is"
                text = f"workers died {_MOST_DEATHS} times over {what} of it, the last because {event.died}"
                self._jobs[call.job].error = self._jobs[call.job].error or RuntimeError(text)
            else:
                self._again.append(call)
        if lost is None and (event.error is not None or self._starts[event.worker] >= _MOST_DEATHS):
            self._do_without(event)
            return
        _LOGGER.info("worker %d died (%s); another one takes its place", event.worker, event.died)
        self._workers.start(event.worker)

    def _do_without(self, event: Event) -> None:
        """A worker cannot start: the others do its work, if there are any."""
        self._absent.add(event.worker)
        error = event.error or ConnectionError(f"a worker could not start: {event.died}")
        if len(self._absent) == self._workers.count:
            raise error
        _LOGGER.warning("worker %d could not start, and the others do its work: %s", event.worker, error)

    def _advance(self, pool: ThreadPoolExecutor) -> None:
        """What follows for each job from what has happened."""
        busy = {call.job for calls in self._under_way.values() for call in calls}
        for job in self._jobs:
            try:
                self._advance_one(job, pool, busy=job.index in busy)
            except Exception as error:
                job.error = job.error or error
            if job.done and job.index not in self._told:
                self._told.add(job.index)
                if job.job is not None:
                    job.job.close()
                self._done(job)

    def _advance_one(self, job: JobState, pool: ThreadPoolExecutor, *, busy: bool) -> None:
        if job.done:
            return
        if job.writing is not None:
            job.result = job.writing.result() if job.writing.done() else None
        elif job.job is None:
            if job.reading is not None and job.reading.done():
                job.job = job.reading.result()
        elif job.unplanned and not busy:
            job.job.walk()
            self._again = deque(call for call in self._again if call.job != job.index)  # they were of the plan
            job.unplanned, job.there, job.notes = False, set(), {}
            job.plan()
        elif job.count is not None and not job.unplanned and job.there >= set(range(job.count)):
            job.writing = pool.submit(job.job.write, job.count, job.notes)

    def _tell(self) -> None:
        if self._progress is None:
            return
        known = [job.count or max(job.job.expected, len(job.there)) for job in self._jobs if job.job is not None]
        unknown = len(self._jobs) - len(known)
        expected = sum(known) + round(unknown * sum(known) / len(known)) if known else unknown
        if self._progress(sum(len(job.there) for job in self._jobs), expected) is False:
            raise Stopped("stopped; finished segments are kept")
