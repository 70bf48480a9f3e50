"""Workers on Ray: actors that keep the model, on this machine or a cluster.

Only Ray's core is used: actors and their results. `rdvfi.video.segmented_jobs.dispatch` assigns tasks, retries those of
actors that die, and limits the number of tasks, for all kinds of workers.
"""

import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any, cast

from rdvfi.video.segmented_jobs.segment_worker import SegmentWorker, WorkerModel
from rdvfi.video.segmented_jobs.workers import Event, Workers, picklable_error

_CONNECT_TIMEOUT = 5.0
"""Seconds after which a cluster that does not answer is unreachable."""


class RayWorkers(Workers):
    """Actors of a Ray cluster.

    Args:
        model: Their model.
        address: Of the cluster: ``host:port``, ``auto`` for one that runs on this host, ``local`` or None to start a
            temporary one on this host.
        count: Number of actors; by default one for each GPU of the cluster, or for each CPU if it has none.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If the cluster cannot be reached, or has no resources for a worker.
    """

    def __init__(self, model: WorkerModel, *, address: str | None = None, count: int | None = None) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("Ray is not installed: pip install 'rdvfi[ray]'") from error
        self._ray: Any = ray
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            _connect(ray, address)
        self._gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0)) if model.device in (None, "cuda") else 0.0
        resources = ray.cluster_resources()
        self.count = count or int(resources.get("GPU", 0) if self._gpus else resources.get("CPU", 1)) or 1
        self._model = ray.put(model)
        self._actors: dict[int, Any] = {}
        self._pending: dict[int, deque[Any]] = {}
        self._starting: dict[Any, int] = {}
        self._loading: dict[Any, int] = {}

    def start(self, worker: int) -> None:
        options = {"num_gpus": self._gpus} if self._gpus else {"num_cpus": 1}
        actor = self._ray.remote(cast(Any, SegmentWorker)).options(max_restarts=0, **options).remote(self._model)
        self._actors[worker], self._pending[worker] = actor, deque()
        self._starting[actor.__ray_ready__.remote()] = worker

    @property
    def has_placed_worker(self) -> bool:
        """See `Workers.has_placed_worker`; an actor is not placed until a node has the resources."""
        return len(self._starting) < len(self._actors)

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        self._pending[worker].append(getattr(self._actors[worker], method).remote(*arguments))

    def wait(self, seconds: float) -> list[Event]:
        waiting = {queue[0]: worker for worker, queue in self._pending.items() if queue}
        refs = {**self._starting, **self._loading, **waiting}
        if not refs:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=seconds)
        return [event for ref in ready for event in self._collect(ref, refs[ref])]

    def _collect(self, ref: Any, worker: int) -> list[Event]:
        has_started, has_loaded = self._starting.pop(ref, None) is not None, self._loading.pop(ref, None) is not None
        is_task = not (has_started or has_loaded)
        if is_task:
            self._pending[worker].popleft()
        errors = self._ray.exceptions
        try:
            result = self._ray.get(ref)
        except (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError) as error:
            self._drop_actor(worker)
            return [Event(worker, died=" ".join(str(error).split())[-300:])]
        except errors.RayTaskError as error:
            cause = picklable_error(getattr(error, "cause", None) or error)
            if is_task:
                return [Event(worker, error=cause)]
            self._drop_actor(worker)
            return [Event(worker, died="it could not start", error=cause)]
        if has_started:
            self._loading[self._actors[worker].load.remote()] = worker
            return []
        return [Event(worker, result=result) if is_task else Event(worker, ready=True)]

    def _drop_actor(self, worker: int) -> None:
        self._pending[worker].clear()
        for refs in (self._starting, self._loading):
            for ref in [ref for ref, owner in refs.items() if owner == worker]:
                del refs[ref]
        with suppress(Exception):
            self._ray.kill(self._actors.pop(worker))

    def close(self) -> None:
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor)
        self._actors = {}
        if self._owns_cluster:
            self._ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    """Start a cluster, or connect to one; raises ConnectionError if that fails."""
    start_local = address in (None, "local")
    if not start_local and address != "auto":
        _check_reachable(str(address))
    try:
        ray.init(
            address="local" if start_local else address,
            log_to_driver=False,
            include_dashboard=False if start_local else None,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise ConnectionError(f"address is {address!r}; no Ray cluster can be reached there: {text}") from error


def _check_reachable(address: str) -> None:
    """Raise ConnectionError if nothing answers at an address; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ConnectionError(f"address is {address!r}; expected host:port of a Ray cluster, auto or local")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT).close()
    except OSError as error:
        raise ConnectionError(f"address is {address!r}; no Ray cluster can be reached there: {error}") from error
