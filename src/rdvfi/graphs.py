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
  the device, leave it, or have a result whose size depends on values, are named in one warning, and that stage
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

GRAPHS = 16
"""Graphs that are kept. A graph takes its inputs and results, and shares what lies between."""

_PLAIN = (str, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.Size)


class NotRecordable(Exception):
    """A stage cannot be a graph; the text says why."""


class Capture(ABC):
    """How a function becomes something to replay: `CudaCapture`, or a stand-in where tests run."""

    @abstractmethod
    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Replays the function's work, and its results, which every replay fills anew."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[Any]:
        """Work within waits for all such work before it."""


class CudaCapture(Capture):
    """Records into CUDA graphs of one memory pool."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._lock = threading.Lock()
        self._done: Any = None

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """See `Capture.record`. Runs once more before, on the stream of recording."""
        if self._stream is None or self._stream.device_index != torch.cuda.current_device():
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            run()
        graph = torch.cuda.CUDAGraph()
        # Other threads may upload frames meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = run()
        here.wait_stream(self._stream)
        return graph.replay, results

    @contextmanager
    def alone(self) -> Iterator[None]:
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
    """Runs functions by graphs, recorded when they are first needed.

    Args:
        capture: How to record; CUDA graphs by default.
        limit: Kinds of input that are kept, with a graph or without one; the one unused for longest goes first.
        reuse_results: Return the graph's own memory: the next call of that kind overwrites it.
    """

    def __init__(self, capture: Capture | None = None, *, limit: int = GRAPHS, reuse_results: bool = False) -> None:
        self._capture = capture or CudaCapture()
        self._limit, self._reuse = limit, reuse_results
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self._said: set[str] = set()

    def __len__(self) -> int:
        """Graphs that are held."""
        return sum(graph is not None for graph in self._graphs.values())

    def clear(self) -> None:
        """Forget all graphs: weights, or their place in memory, have changed."""
        if self._graphs:
            with self._capture.alone():
                self._graphs.clear()

    def run(
        self, name: str, function: Callable[..., Any], *args: Any, watched: bool = True, settings: Hashable = ()
    ) -> Any:
        """``function(*args)``, by its graph if it can have one.

        Args:
            name: Of the stage, for the warning.
            function: The stage. It keeps nothing of its arguments, and depends on nothing else that
                changes.
            args: Tensors on one device, and structures of them.
            watched: Run eagerly first and look for what no graph can hold. Compiled functions
                cannot be watched.
            settings: What else the stage's work depends on, by value.
        """
        with self._capture.alone():
            tensors = list(tensors_in(args))
            try:
                key = (name, settings, _key(args), tuple((tuple(x.shape), x.dtype, x.device) for x in tensors))
            except NotRecordable as error:
                self._say(name, str(error))
                return function(*args)
            if key not in self._graphs:
                result = self._first(name, key, function, args, watched)
                while len(self._graphs) > self._limit:
                    self._graphs.popitem(last=False)
                if result is not None:
                    return result[0]
            graph = self._graphs[key]
            self._graphs.move_to_end(key)
            if graph is None:
                return function(*args)
            for own, given in zip(graph.inputs, tensors, strict=True):
                own.copy_(given)
            graph.replay()
            return graph.results if self._reuse else map_tensors(graph.results, Tensor.clone)

    def _first(
        self, name: str, key: Hashable, function: Callable[..., Any], args: tuple[Any, ...], watched: bool
    ) -> tuple[Any] | None:
        """Record a stage for inputs of a new kind; its result, if it was run eagerly for that."""
        result, found = None, [""]
        for _ in range(2 if watched else 0):  # what is prepared at the first need is no part of a graph
            if found:
                own = map_tensors(args, lambda x: x)
                with Watch() as watch:
                    result = (function(*own),)
                found = watch.found
        if watched and found:
            self._give_up(name, key, found[0])
            return result
        try:
            _key(result)
            self._graphs[key] = self._record(function, args)
        except torch.OutOfMemoryError:
            self._give_up(name, key, "there is too little memory for one")
        except (NotRecordable, RuntimeError) as error:
            self._give_up(name, key, str(error).splitlines()[0])
        return result

    def _record(self, function: Callable[..., Any], args: tuple[Any, ...]) -> _Graph:
        with torch.inference_mode(False), torch.no_grad():
            inputs = [x.detach().clone(memory_format=torch.contiguous_format) for x in tensors_in(args)]
            # A structure of its own for every run: a stage may keep what it computed in its arguments.
            replay, results = self._capture.record(lambda: function(*_with(inputs, args)))
        return _Graph(inputs, replay, results)

    def _give_up(self, name: str, key: Hashable, reason: str) -> None:
        self._graphs[key] = None
        self._say(name, reason)

    def _say(self, name: str, reason: str) -> None:
        """One warning for each stage and reason."""
        line = f"{name} runs without a CUDA graph: {reason}"
        if line not in self._said:
            self._said.add(line)
            warnings.warn(line, RuntimeWarning, stacklevel=4)


def _key(value: Any) -> Hashable:
    """Everything that distinguishes two structures, apart from the values of their tensors."""
    if isinstance(value, Tensor):
        return Tensor
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, nn.Module):
        return value  # itself, so that no other module can take its place
    if isinstance(value, tuple | list):
        return (type(value), *map(_key, value))
    if isinstance(value, dict):
        return (dict, *((name, _key(item)) for name, item in value.items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(_key(getattr(value, field.name)) for field in dataclasses.fields(value)))
    if isinstance(value, Enum):
        return value
    raise NotRecordable(f"{type(value).__name__} is not made of tensors, dataclasses and plain values")


def _with(tensors: Sequence[Tensor], structure: Any) -> Any:
    """The structure with other tensors, in the order of `tensors_in`."""
    rest = iter(tensors)
    return map_tensors(structure, lambda _: next(rest))
