"""CUDA graphs without a compiler: a stage is captured once per kind of input, then replayed.

Small models are limited by kernel launches: RDVFI-S starts hundreds of kernels that take microseconds each.
A CUDA graph launches them all at once. `Recorder` keeps one graph per stage, size, type and number of
times: captured when that kind of input occurs for the first time, discarded when it is the least recently
used of too many.

* Inputs are copied into memory of the graph. Results are copied out of it, so that a later call
  does not overwrite them, unless ``reuse_results`` is set.
* All graphs of a device share one memory pool. They never run at the same time: a lock orders threads, an event
  orders streams.
* The first call runs eagerly under `rdvfi.graph_watch.Watch`. Operations that cannot be captured, because they wait for
  the device, use another one, or have a result whose size depends on values, are named in one warning, and that stage
  continues eagerly.

Stages take and return tensors, plain values, and dataclasses, tuples, lists and dictionaries of them.
Modules in between (a basis) count as constants.
"""

import dataclasses
import threading
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from rdvfi.graph_watch import Watch, tensors_in
from rdvfi.types import map_tensors

MAX_GRAPHS = 16
"""Number of graphs that are kept. Each has its own inputs and results; intermediate memory is shared."""

_PLAIN_TYPES = (str, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.Size)


class NotRecordable(Exception):
    """A stage cannot be recorded as a graph; the message gives the reason."""


class Capture(ABC):
    """How a function is recorded and replayed: `CudaCapture`, or another implementation for tests."""

    @abstractmethod
    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """A function that replays the computation, and its results, which every replay overwrites."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[Any]:
        """A context in which work waits for all earlier work of such contexts."""


class CudaCapture(Capture):
    """Records CUDA graphs that share one memory pool."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._lock = threading.Lock()
        self._done: Any = None

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """See `Capture.record`. The function runs once before, to warm up, on the stream that records."""
        if self._stream is None or self._stream.device_index != torch.cuda.current_device():
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            run()
        graph = torch.cuda.CUDAGraph()
        # "thread_local", since other threads may upload frames at the same time.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = run()
        here.wait_stream(self._stream)
        return graph.replay, results

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            stream = torch.cuda.current_stream()
            if self._done is not None:
                stream.wait_event(self._done)
            yield
            self._done = stream.record_event()


@dataclasses.dataclass(frozen=True, eq=False)
class _Graph:
    """One recorded stage."""

    inputs: list[Tensor]
    replay: Callable[[], None]
    results: Any


class Recorder:
    """Runs functions by graphs that are recorded at their first use.

    Args:
        capture: How to record; CUDA graphs by default.
        limit: Number of kinds of input that are kept; the least recently used one is discarded first.
        reuse_results: Return memory of the graph, which the next call of that kind overwrites, instead of copies.
    """

    def __init__(self, capture: Capture | None = None, *, limit: int = MAX_GRAPHS, reuse_results: bool = False) -> None:
        self._capture = capture or CudaCapture()
        self._limit, self._reuse_results = limit, reuse_results
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self._warned: set[str] = set()

    def __len__(self) -> int:
        """Number of graphs."""
        return sum(graph is not None for graph in self._graphs.values())

    def clear(self) -> None:
        """Discard all graphs, after weights or their memory addresses have changed."""
        if self._graphs:
            with self._capture.exclusive():
                self._graphs.clear()

    def run(
        self, name: str, function: Callable[..., Any], *args: Any, watched: bool = True, settings: Hashable = ()
    ) -> Any:
        """``function(*args)``, by replaying a graph if the function can be recorded.

        Args:
            name: Name of the stage, for the warning.
            function: The stage. It must not keep its arguments, and its result must depend on nothing but them
                and the settings.
            args: Tensors on one device, and structures of them.
            watched: Run eagerly first to find operations that cannot be recorded. Compiled functions
                cannot be watched.
            settings: Plain values that the result depends on in addition.
        """
        with self._capture.exclusive():
            tensors = list(tensors_in(args))
            try:
                key = (
                    name,
                    settings,
                    _structure_key(args),
                    tuple((tuple(x.shape), x.dtype, x.device) for x in tensors),
                )
            except NotRecordable as error:
                self._warn_once(name, str(error))
                return function(*args)
            if key not in self._graphs:
                result = self._record_first(name, key, function, args, watched)
                while len(self._graphs) > self._limit:
                    self._graphs.popitem(last=False)
                if result is not None:
                    return result[0]
            graph = self._graphs[key]
            self._graphs.move_to_end(key)
            if graph is None:
                return function(*args)
            for graph_input, tensor in zip(graph.inputs, tensors, strict=True):
                graph_input.copy_(tensor)
            graph.replay()
            return graph.results if self._reuse_results else map_tensors(graph.results, Tensor.clone)

    def _record_first(
        self, name: str, key: Hashable, function: Callable[..., Any], args: tuple[Any, ...], watched: bool
    ) -> tuple[Any] | None:
        """Record a stage for a new kind of input; returns its result in a tuple if it was run eagerly, else None."""
        result, problems = None, [""]
        for _ in range(2 if watched else 0):  # twice, since stages compute their constants in the first call
            if problems:
                copies = map_tensors(args, lambda x: x)
                with Watch() as watch:
                    result = (function(*copies),)
                problems = watch.problems
        if watched and problems:
            self._give_up(name, key, problems[0])
            return result
        try:
            _structure_key(result)
            self._graphs[key] = self._record(function, args)
        except torch.OutOfMemoryError:
            self._give_up(name, key, "there is too little memory for one")
        except (NotRecordable, RuntimeError) as error:
            self._give_up(name, key, str(error).splitlines()[0])
        return result

    def _record(self, function: Callable[..., Any], args: tuple[Any, ...]) -> _Graph:
        with torch.inference_mode(False), torch.no_grad():
            inputs = [x.detach().clone(memory_format=torch.contiguous_format) for x in tensors_in(args)]
            # A new structure for every run, since a stage may store results in its arguments.
            replay, results = self._capture.record(lambda: function(*_replace_tensors(inputs, args)))
        return _Graph(inputs, replay, results)

    def _give_up(self, name: str, key: Hashable, reason: str) -> None:
        self._graphs[key] = None
        self._warn_once(name, reason)

    def _warn_once(self, name: str, reason: str) -> None:
        line = f"{name} runs without a CUDA graph: {reason}"
        if line not in self._warned:
            self._warned.add(line)
            warnings.warn(line, RuntimeWarning, stacklevel=4)


def _structure_key(value: Any) -> Hashable:
    """A key of a structure: its types and plain values, without the values of its tensors."""
    if isinstance(value, Tensor):
        return Tensor
    if isinstance(value, _PLAIN_TYPES):
        return value
    if isinstance(value, nn.Module):
        return value  # itself, which keeps it alive, so that no other module can get its identity
    if isinstance(value, tuple | list):
        return (type(value), *map(_structure_key, value))
    if isinstance(value, dict):
        return (dict, *((name, _structure_key(item)) for name, item in value.items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(_structure_key(getattr(value, field.name)) for field in dataclasses.fields(value)))
    if isinstance(value, Enum):
        return value
    raise NotRecordable(f"{type(value).__name__} is not made of tensors, dataclasses and plain values")


def _replace_tensors(tensors: Sequence[Tensor], structure: Any) -> Any:
    """A structure with other tensors, in the order of `tensors_in`."""
    rest = iter(tensors)
    return map_tensors(structure, lambda _: next(rest))
