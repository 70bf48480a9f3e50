"""Scheduling of the segments of many jobs on workers, and assembly of the outputs.

Workers may fail or vanish: finished segments are in the segment store, and unfinished ones are made again by other
workers. A segment appears in the store in one step and depends on the job alone, so making one twice does no harm. Each
output is written in this process, which only copies packets.

Jobs are processed in order, and so are the segments of a job: workers that read a source forwards need not open it
again. The next job is opened when a worker is idle. If timestamps are known without decoding, segments are planned.
Otherwise their number is known once a worker reaches the end of the clip; until then, no more segments are submitted
than expected.
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
from rdvfi.video.segmented_jobs.segment_worker import Task, TaskResult
from rdvfi.video.segmented_jobs.workers import IN_FLIGHT, Event, Workers

_LOGGER = logging.getLogger(__name__)

_MAX_DEATHS = 3
"""Number of workers that may die while they make one segment, before its job fails."""
_PLACEMENT_TIMEOUT = 120.0
"""Seconds for which no worker may be placed before the work is given up; loading a model does not count."""
_MAX_OPEN_JOBS = 2
"""Largest number of jobs that are opened, or outputs that are written, at a time."""
_POLL_SECONDS = 0.1
"""Interval at which these are checked."""


@dataclass
class JobState:
    """The progress of one job."""

    index: int
    options: JobOptions
    """With absolute paths."""
    place: str
    """Folder or URL of its segments."""
    open_job: Callable[[], DistributedJob]
    """Opens the job, which may take a while."""
    opening: Future[DistributedJob] | None = None
    job: DistributedJob | None = None
    identity_requested: bool = False
    identity: dict[str, str] | None = None
    segment_count: int | None = None
    next_segment: int = 0
    """Number of the next segment to submit."""
    finished: set[int] = field(default_factory=set)
    """Numbers of the stored segments."""
    plan_failed: bool = False
    """Whether the frames differ from the plan, so that the source must be read from its beginning."""
    notes: dict[str, None] = field(default_factory=dict)
    writing: Future[Any] | None = None
    result: Any = None
    error: Exception | None = None

    @property
    def is_submitted(self) -> bool:
        """Whether no more segments are to be submitted."""
        return self.error is not None or self.writing is not None

    @property
    def is_done(self) -> bool:
        """Whether its result or error is known."""
        return self.error is not None or self.result is not None

    @property
    def is_busy(self) -> bool:
        """Whether it is being opened or written."""
        return not self.is_done and (self.writing is not None or (self.opening is not None and self.job is None))

    def restart(self) -> None:
        """Take the number of segments from the plans, and submit from the first one."""
        assert self.job is not None
        self.segment_count = None if self.job.plans is None else len(self.job.plans)
        self.next_segment = 0


@dataclass
class _Call:
    method: str
    arguments: tuple[Any, ...]
    job: int
    segment: int = -1
    """-1 for the call that requests the identity of the job."""


class Dispatcher:
    """One run over many jobs.

    Args:
        jobs: The jobs.
        workers: Make the segments.
        progress: Called with the numbers of finished and of expected segments; returns False to stop.
        done: Called with every job that is done.
    """

    def __init__(
        self,
        jobs: list[JobState],
        workers: Workers,
        progress: Callable[[int, int], bool | None] | None = None,
        done: Callable[[JobState], None] = lambda job: None,
    ) -> None:
        self._jobs, self._workers, self._progress, self._done = jobs, workers, progress, done
        self._reported: set[int] = set()
        self._retries: deque[_Call] = deque()
        self._in_flight: dict[int, deque[_Call]] = {}
        self._unavailable: set[int] = set()
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._failed_starts: Counter[int] = Counter()
        self._last_placed = time.monotonic()

    def run(self) -> None:
        """Run all jobs; each has its ``result`` or ``error`` afterwards.

        Raises:
            ConnectionError: If no worker can be placed or started.
            Stopped: If ``progress`` returned False.
        """
        for worker in range(self._workers.count):
            self._workers.start(worker)
        pool = ThreadPoolExecutor(_MAX_OPEN_JOBS)
        for job in self._jobs[:_MAX_OPEN_JOBS]:  # errors in a job are found before any worker is ready
            job.opening = pool.submit(job.open_job)
        try:
            while not all(job.is_done for job in self._jobs):
                self._submit_calls(pool)
                any_busy = any(job.is_busy for job in self._jobs)
                self._handle_events(self._workers.wait(_POLL_SECONDS if any_busy else 1.0))
                self._advance_jobs(pool)
                self._report_progress()
        except BaseException as error:
            complete = sum(job.result is not None for job in self._jobs)
            kept = sum(len(job.finished) for job in self._jobs if job.result is None)
            error.add_note(
                f"{complete} of {len(self._jobs)} outputs are complete, and {kept} segments of others are kept"
            )
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit_calls(self, pool: ThreadPoolExecutor) -> None:
        """Submit calls to workers with fewer than `IN_FLIGHT` of them, idle workers first."""
        for pending in range(IN_FLIGHT):
            for worker, calls in self._in_flight.items():
                if len(calls) > pending:
                    continue
                call = self._next_call(pool)
                if call is None:
                    return
                calls.append(call)
                self._workers.submit(worker, call.method, *call.arguments)

    def _next_call(self, pool: ThreadPoolExecutor) -> _Call | None:
        while self._retries:
            call = self._retries.popleft()
            job = self._jobs[call.job]
            if not job.is_submitted and not job.plan_failed and call.segment not in job.finished:
                return call
        opening = 0
        for job in self._jobs:
            if job.is_submitted or job.plan_failed:
                continue
            if job.job is None:
                job.opening = job.opening or pool.submit(job.open_job)
                opening += 1
                if opening == _MAX_OPEN_JOBS:
                    return None
            elif job.identity is None:
                if not job.identity_requested:
                    job.identity_requested = True
                    return _Call("identity", (job.index, job.options), job.index)
            elif (call := next(self._segment_calls(job), None)) is not None:
                return call
        return None

    def _segment_calls(self, job: JobState) -> Iterator[_Call]:
        assert job.job is not None
        assert job.identity is not None
        limit = job.segment_count
        if limit is None:
            limit = max(job.job.expected_segments, len(job.finished) + 1)
        while job.next_segment < limit:
            number, job.next_segment = job.next_segment, job.next_segment + 1
            if number not in job.finished:
                plan = None if job.job.plans is None else job.job.plans[number]
                task = Task(job.index, number, job.options, job.identity, job.place, plan)
                yield _Call("make", (task,), job.index, number)

    def _handle_events(self, events: list[Event]) -> None:
        if self._in_flight or self._workers.has_placed_worker:
            self._last_placed = time.monotonic()
        elif time.monotonic() - self._last_placed > _PLACEMENT_TIMEOUT:
            raise ConnectionError(f"no worker got a place within {_PLACEMENT_TIMEOUT:g} s: is there a free device?")
        for event in events:
            if event.died is not None:
                self._handle_death(event)
            elif event.ready:
                self._in_flight[event.worker] = deque()
            else:
                self._handle_result(self._in_flight[event.worker].popleft(), event)

    def _handle_result(self, call: _Call, event: Event) -> None:
        job = self._jobs[call.job]
        if job.is_submitted:
            return
        if event.error is not None:
            job.error = event.error
        elif isinstance(event.result, dict):
            self._start_job(job, event.result)
        elif isinstance(event.result, TaskResult):
            self._record_segment(job, call.segment, event.result)

    def _start_job(self, job: JobState, identity: dict[str, str]) -> None:
        assert job.job is not None
        try:
            job.finished = job.job.open_store(identity)
        except Exception as error:
            job.error = error
        job.identity = identity
        job.restart()

    def _record_segment(self, job: JobState, number: int, result: TaskResult) -> None:
        if not result.kept and result.count is None:
            _LOGGER.info("%s is not what its index says: it is read from its beginning", job.options.source)
            job.plan_failed = True  # calls in flight are waited for
            return
        job.segment_count = result.count if result.count is not None else job.segment_count
        job.notes |= dict.fromkeys(result.notes)
        if result.kept:
            job.finished.add(number)

    def _handle_death(self, event: Event) -> None:
        """Retry the calls of a worker that died, and start another one in its place."""
        lost = self._in_flight.pop(event.worker, None)
        self._failed_starts[event.worker] = self._failed_starts[event.worker] + 1 if lost is None else 0
        for k, call in enumerate(lost or ()):
            self._deaths[call.job, call.segment] += k == 0  # the others were only queued
            if self._deaths[call.job, call.segment] >= _MAX_DEATHS:
                work = f"segment {call.segment}" if call.segment >= 0 else "what it is"
                text = f"workers died {_MAX_DEATHS} times over {work} of it, the last because {event.died}"
                self._jobs[call.job].error = self._jobs[call.job].error or RuntimeError(text)
            else:
                self._retries.append(call)
        if lost is None and (event.error is not None or self._failed_starts[event.worker] >= _MAX_DEATHS):
            self._drop_worker(event)
            return
        _LOGGER.info("worker %d died (%s); another one takes its place", event.worker, event.died)
        self._workers.start(event.worker)

    def _drop_worker(self, event: Event) -> None:
        """Continue without a worker that cannot start; raises its error if it was the last one."""
        self._unavailable.add(event.worker)
        error = event.error or ConnectionError(f"a worker could not start: {event.died}")
        if len(self._unavailable) == self._workers.count:
            raise error
        _LOGGER.warning("worker %d could not start, and the others do its work: %s", event.worker, error)

    def _advance_jobs(self, pool: ThreadPoolExecutor) -> None:
        """Advance every job whose next step is possible, and report those that are done."""
        running = {call.job for calls in self._in_flight.values() for call in calls}
        for job in self._jobs:
            try:
                self._advance(job, pool, running=job.index in running)
            except Exception as error:
                job.error = job.error or error
            if job.is_done and job.index not in self._reported:
                self._reported.add(job.index)
                if job.job is not None:
                    job.job.close()
                self._done(job)

    def _advance(self, job: JobState, pool: ThreadPoolExecutor, *, running: bool) -> None:
        if job.is_done:
            return
        if job.writing is not None:
            job.result = job.writing.result() if job.writing.done() else None
        elif job.job is None:
            if job.opening is not None and job.opening.done():
                job.job = job.opening.result()
        elif job.plan_failed and not running:
            job.job.discard_plans()
            self._retries = deque(call for call in self._retries if call.job != job.index)
            job.plan_failed, job.finished, job.notes = False, set(), {}
            job.restart()
        elif job.segment_count is not None and not job.plan_failed and job.finished >= set(range(job.segment_count)):
            job.writing = pool.submit(job.job.write, job.segment_count, job.notes)

    def _report_progress(self) -> None:
        if self._progress is None:
            return
        known = [
            job.segment_count or max(job.job.expected_segments, len(job.finished))
            for job in self._jobs
            if job.job is not None
        ]
        unknown = len(self._jobs) - len(known)
        expected = sum(known) + round(unknown * sum(known) / len(known)) if known else unknown
        if self._progress(sum(len(job.finished) for job in self._jobs), expected) is False:
            raise Stopped("stopped; finished segments are kept")
