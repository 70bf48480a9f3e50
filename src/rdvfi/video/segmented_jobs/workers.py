"""Worker processes on this host or on Ray: task queue, results, failures.

Whatever they run on, they look alike from here: `submit` gives a task to one of them, `wait` returns
what has happened since. Nobody gets more than `IN_FLIGHT` tasks at a time, one that it works on and one
that waits, so that neither workers idle nor results pile up.
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
from rdvfi.video.segmented_jobs.segment_worker import Made, SegmentWorker, WorkerModel

IN_FLIGHT = 2
"""Tasks that a worker has at a time."""


@dataclass(frozen=True)
class Event:
    """Something that a worker did."""

    worker: int
    made: Made | dict[str, str] | None = None
    """What came of its oldest task."""
    error: Exception | None = None
    """Why its oldest task failed."""
    died: str | None = None
    """Why the worker is gone; all its tasks are lost."""
    ready: bool = False
    """Whether it has its model, and takes tasks."""


class Workers(ABC):
    """Some workers by number."""

    count: int

    @property
    def placed(self) -> bool:
        """Whether any of them has a place where it runs, even if its model is not loaded yet."""
        return True

    @abstractmethod
    def start(self, worker: int) -> None:
        """Start a worker, or a new one in place of one that died; `wait` says when it is ready."""

    @abstractmethod
    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        """Have a worker call a method of `SegmentWorker`."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """What happened, as soon as something did."""

    @abstractmethod
    def close(self) -> None:
        """End all of them."""


def _serve(pipe: Connection, model: WorkerModel) -> None:
    """What the process of a worker does, until nobody is at the other end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads of libraries may not have it blocked
    with suppress(EOFError, OSError):
        worker = SegmentWorker(model)
        try:
            worker.load()
        except Exception as error:
            pipe.send(Event(0, error=portable(error), died="it could not start"))
            return
        pipe.send(Event(0, ready=True))
        while True:
            method, *arguments = pipe.recv()
            try:
                event = Event(0, made=getattr(worker, method)(*arguments))
            except Exception as error:
                event = Event(0, error=portable(error))
            pipe.send(event)


def portable(error: BaseException) -> Exception:
    """The error as one that can be sent: with its message, of a kind that everybody has."""
    for kind in (FileNotFoundError, PermissionError, OSError, MemoryError, ValueError, ImportError, LookupError):
        if isinstance(error, kind):
            return kind(str(error))
    unknown = RuntimeError(f"{type(error).__name__}: {error}")
    unknown.add_note("".join(traceback.format_exception(error)))
    return unknown


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started inside never get Ctrl-C: whoever started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It is started with the first process, and unblocks the signal before that process begins (until Python 3.12).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LocalWorkers(Workers):
    """Processes of this host, one for each device.

    Args:
        model: Which model they keep.
        devices: Where each of them works, as ``cuda:0``; one may be named several times.
    """

    def __init__(self, model: WorkerModel, devices: Sequence[str]) -> None:
        self._model, self._devices = model, devices
        self.count = len(devices)
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, tuple[SpawnProcess, Connection]] = {}

    def start(self, worker: int) -> None:
        here, there = self._context.Pipe()
        model = replace(self._model, device=self._devices[worker])
        process = self._context.Process(target=_serve, args=(there, model), daemon=True)
        with _without_interrupts():
            process.start()
        there.close()
        self._running[worker] = process, here

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        with suppress(OSError):  # it is dead, as `wait` will find
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
        remove_stale_files(Path(tempfile.gettempdir()))  # what they were writing
