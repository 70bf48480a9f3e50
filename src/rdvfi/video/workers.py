"""Workers in processes of their own, on this host or on Ray: they get tasks, they answer, they may die.

Whatever they run on, they look alike from here: `submit` gives a task to one of them, `wait` returns
what has happened since. Nobody gets more than `IN_FLIGHT` tasks at a time, one that it works on and one
that waits, so that neither workers idle nor results pile up.
"""

import multiprocessing
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from rdvfi.video.segment_worker import Made, SegmentWorker, Task, WorkerModel

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

    @abstractmethod
    def start(self, worker: int) -> None:
        """Start a worker, or a new one in place of one that died; `wait` says when it is ready."""

    @abstractmethod
    def submit(self, worker: int, method: str, argument: Any) -> None:
        """Have a worker call a method of `SegmentWorker`."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """What happened, as soon as something did."""

    @abstractmethod
    def close(self) -> None:
        """End all of them."""


def _serve(pipe: Connection, model: WorkerModel) -> None:
    """What the process of a worker does."""
    try:
        worker = SegmentWorker(model)
    except Exception as error:
        pipe.send(Event(0, error=_portable(error), died="it could not start"))
        return
    pipe.send(Event(0, ready=True))
    while (call := pipe.recv()) is not None:
        method, argument = call
        try:
            pipe.send(Event(0, made=getattr(worker, method)(argument)))
        except Exception as error:
            pipe.send(Event(0, error=_portable(error)))


def _portable(error: Exception) -> Exception:
    """The error as one that can be sent: with its message, of a kind that everybody has."""
    for kind in (FileNotFoundError, PermissionError, OSError, MemoryError, ValueError, ImportError, LookupError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError("".join(traceback.format_exception(error)))


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
        """See `Workers.start`."""
        here, there = self._context.Pipe()
        model = replace(self._model, device=self._devices[worker])
        process = self._context.Process(target=_serve, args=(there, model), daemon=True)
        process.start()
        there.close()
        self._running[worker] = process, here

    def submit(self, worker: int, method: str, argument: Any) -> None:
        """See `Workers.submit`."""
        try:
            self._running[worker][1].send((method, argument))
        except OSError:
            pass  # it is dead, as `wait` will find

    def wait(self, seconds: float) -> list[Event]:
        """See `Workers.wait`."""
        pipes = {pipe: worker for worker, (_, pipe) in self._running.items()}
        events = []
        for pipe in wait(list(pipes), timeout=seconds):
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                event: Event = pipe.recv()
            except (EOFError, OSError):
                process, _ = self._running.pop(worker)
                pipe.close()
                process.join()
                event = Event(worker, died=f"its process ended with code {process.exitcode}")
            events.append(replace(event, worker=worker))
        return events

    def close(self) -> None:
        """See `Workers.close`."""
        for process, pipe in self._running.values():
            pipe.close()
            process.kill()
            process.join()
        self._running = {}


__all__ = ["IN_FLIGHT", "Event", "LocalWorkers", "Task", "Workers"]
