"""Worker processes on this host or on Ray: tasks, results, failures.

All kinds of workers have one interface: `Workers.submit` sends a task to a worker, `Workers.wait` returns the events
since the last call. A worker has at most `IN_FLIGHT` tasks, a running and a queued one, so that it is never idle.
"""

import multiprocessing
import signal
import tempfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from rdvfi.media.outputs.temporary_files import remove_stale_files
from rdvfi.video.segmented_jobs.segment_worker import SegmentWorker, TaskResult, WorkerModel

IN_FLIGHT = 2
"""Largest number of tasks of one worker."""


@dataclass(frozen=True)
class Event:
    """An event of one worker."""

    worker: int
    result: TaskResult | dict[str, str] | None = None
    """The result of its oldest task."""
    error: Exception | None = None
    """The error of its oldest task, or of its start."""
    died: str | None = None
    """Why the worker died; all its tasks are lost."""
    ready: bool = False
    """Whether it has loaded its model and accepts tasks."""


class Workers(ABC):
    """Workers, identified by numbers below ``count``."""

    count: int

    @property
    def has_placed_worker(self) -> bool:
        """Whether any worker runs somewhere, even if its model is not loaded yet."""
        return True

    @abstractmethod
    def start(self, worker: int) -> None:
        """Start a worker, or replace one that died; `wait` returns an event when it is ready."""

    @abstractmethod
    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        """Call a method of the `SegmentWorker` of a worker."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """Wait for events, at most for some seconds, and return them."""

    @abstractmethod
    def close(self) -> None:
        """Stop all workers."""


def _run_worker(pipe: Connection, model: WorkerModel) -> None:
    """The main function of a worker process, which ends when the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads of libraries may not block it
    with suppress(EOFError, OSError):
        worker = SegmentWorker(model)
        try:
            worker.load()
        except Exception as error:
            pipe.send(Event(0, error=picklable_error(error), died="it could not start"))
            return
        pipe.send(Event(0, ready=True))
        while True:
            method, *arguments = pipe.recv()
            try:
                event = Event(0, result=getattr(worker, method)(*arguments))
            except Exception as error:
                event = Event(0, error=picklable_error(error))
            pipe.send(event)


def picklable_error(error: BaseException) -> Exception:
    """An error of a built-in type with the same message, which any process can unpickle."""
    for kind in (FileNotFoundError, PermissionError, OSError, MemoryError, ValueError, ImportError, LookupError):
        if isinstance(error, kind):
            return kind(str(error))
    unknown = RuntimeError(f"{type(error).__name__}: {error}")
    unknown.add_note("".join(traceback.format_exception(error)))
    return unknown


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Processes that are started inside ignore Ctrl-C; the process that started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It would be started with the first process, and unblock the signal before that process starts (Python < 3.12).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LocalWorkers(Workers):
    """Processes of this host, one for each device.

    Args:
        model: Their model.
        devices: The device of each, as ``cuda:0``; a device may be named several times.
    """

    def __init__(self, model: WorkerModel, devices: Sequence[str]) -> None:
        self._model, self._devices = model, devices
        self.count = len(devices)
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, tuple[SpawnProcess, Connection]] = {}

    def start(self, worker: int) -> None:
        own_end, worker_end = self._context.Pipe()
        model = replace(self._model, device=self._devices[worker])
        process = self._context.Process(target=_run_worker, args=(worker_end, model), daemon=True)
        with _block_interrupts():
            process.start()
        worker_end.close()
        self._running[worker] = process, own_end

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        with suppress(OSError):  # it died: `wait` reports that
            self._running[worker][1].send((method, *arguments))

    def wait(self, seconds: float) -> list[Event]:
        pipes = {pipe: worker for worker, (_, pipe) in self._running.items()}
        events = []
        for pipe in wait(list(pipes), timeout=seconds):
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                event: Event = pipe.recv()
            except (EOFError, OSError):
                event = Event(worker, died="its process ended")
            if event.died is not None:
                process, _ = self._running.pop(worker)
                pipe.close()
                process.join()
                event = replace(event, died=f"{event.died} with code {process.exitcode}")
            events.append(replace(event, worker=worker))
        return events

    def close(self) -> None:
        for process, pipe in self._running.values():
            pipe.close()
            process.kill()
            process.join()
        self._running = {}
        remove_stale_files(Path(tempfile.gettempdir()))  # of the killed processes
