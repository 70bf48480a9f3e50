"""CUDA graphs without a compiler: a stage is captured once per kind of input, then replayed.

Small models are limited by kernel launches: RDVFI-S starts hundreds of kernels that take microseconds each.
A CUDA graph launches them all at once. `Recorder` keeps one graph per stage, size, type and number of
times: captured when that kind of input occurs for the first time, discarded when it is the least recently
used of too many.

* Inputs are copied into memory of the graph. Results are copied out of it, so that a later call
  does not overwrite them, unless ``reuse_results`` is set.
* All graphs of a device share one memory pool. They never run at the same time: a lock orders threads, an event
  orders streams.
* The first call runs eagerly under `Watch`. Operations that cannot be captured, because they wait for the device, leave
  it, or have a result whose size depends on values, are named in one warning, and that stage continues eagerly.

Stages take and return tensors, plain values, and dataclasses, tuples, lists and dictionaries of them.
Modules in between (a basis) count as constants.
"""

import dataclasses
import threading
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rdvfi.ops.inference import KERNELS

GRAPHS = 16
"""Graphs that are kept. A graph takes its inputs and results, and shares what lies between."""

_PLAIN = (str, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.Size)


_NO_WORK = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::lift_fresh", "aten::detach")
"""Operations that start no kernel, beside views."""


class NotRecordable(Exception):
    """A stage cannot be a graph; the text says why."""


class Watch:
    """Records, while operations run within it, those that a CUDA graph cannot capture.

    Attributes:
        found: One line for each such operation: its name and what is wrong with it.
        count: Work that operations start on the device, by name: kernels of our own operators, else operations.

    Args:
        device: Kind of the device. "meta" traces without one.
    """

    def __init__(self, device: str = "cuda") -> None:
        self.found: list[str] = []
        self.count: dict[str, int] = {}
        self._modes = ExitStack()
        self._device = device

    def __enter__(self) -> "Watch":
        """Begin to watch."""
        self._modes.enter_context(_Operations(self))
        self._modes.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        """Watch no longer."""
        self._modes.close()

    def operation(self, func: Any, given: list[Tensor], made: list[Tensor]) -> None:
        """Record one operation by its inputs and outputs."""
        name = func.name()
        here = [x for x in (*given, *made) if x.device.type == self._device]
        if here and not func.is_view and not name.startswith(_NO_WORK):
            own = KERNELS.get(name.removeprefix("rdvfi::"))
            self.count[name] = self.count.get(name, 0) + (own.launches if own else 1)
        if here and (reason := self._reason(func, given, made)):
            self.found.append(f"{name} {reason}")

    def copied(self, name: str, made: Any) -> None:
        """Note a tensor that was made of numbers of Python."""
        if isinstance(made, Tensor) and made.device.type == self._device:
            self.found.append(f"{name} copies from the CPU")

    def _reason(self, func: Any, given: list[Tensor], made: list[Tensor]) -> str | None:
        if getattr(torch.Tag, "cudagraph_unsafe", None) in func.tags:
            return "works outside of the device"
        if torch.Tag.data_dependent_output in func.tags:
            return "waits for a value of the device"
        # An index of whole numbers has a result of known size, one of yes and no has not.
        by_index = func.name().startswith("aten::index")
        if torch.Tag.dynamic_output_shape in func.tags and not by_index:
            return "makes a result whose size depends on values"
        if by_index and any(x.dtype in (torch.bool, torch.uint8) for x in given[1:]):
            return "makes a result whose size depends on values"
        places = {x.device.type for x in given}, {x.device.type for x in made}
        if func.name() in ("aten::_to_copy", "aten::copy_") and {"cpu", self._device} <= places[0] | places[1]:
            return "copies between the CPU and the device"
        other = self._device != "cpu" and self._device in places[0]
        if other and any(x.device.type == "cpu" and x.dim() > 0 for x in given):
            return "reads a tensor of the CPU"
        return None


class _Operations(TorchDispatchMode):
    """Shows every operation to a `Watch`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._watch.operation(func, list(_tensors((args, kwargs or {}))), list(_tensors(result)))
        return result


class _Calls(TorchFunctionMode):
    """Shows a `Watch` tensors made of numbers: no operation tells of their way to the device."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made_of = args[-1] if args else None
        if func in (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor) and not isinstance(
            made_of, Tensor
        ):
            self._watch.copied(f"torch.{func.__name__}", result)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self._watch.copied("an index that is a list", args[0])
        return result


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
            tensors = list(_tensors(args))
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
            return graph.results if self._reuse else _copied(graph.results)

    def _first(
        self, name: str, key: Hashable, function: Callable[..., Any], args: tuple[Any, ...], watched: bool
    ) -> tuple[Any] | None:
        """Record a stage for inputs of a new kind; its result, if it was run eagerly for that."""
        result, found = None, [""]
        for _ in range(2 if watched else 0):  # what is prepared at the first need is no part of a graph
            if found:
                own = _mapped(args, iter(list(_tensors(args))).__next__)
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
            inputs = [x.detach().clone(memory_format=torch.contiguous_format) for x in _tensors(args)]
            # A structure of its own for every run: a stage may keep what it computed in its arguments.
            replay, results = self._capture.record(lambda: function(*_mapped(args, iter(inputs).__next__)))
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


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a structure, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _mapped(value: Any, new: Callable[[], Tensor]) -> Any:
    """The structure with ``new()`` in the place of each tensor, in the order of `_tensors`."""
    if isinstance(value, Tensor):
        return new()
    if isinstance(value, list):
        return [_mapped(item, new) for item in value]
    if isinstance(value, tuple):
        items = [_mapped(item, new) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {name: _mapped(item, new) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: _mapped(getattr(value, field.name), new) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    return value


def _copied(results: Any) -> Any:
    """Results in memory of their own."""
    return _mapped(results, iter([x.clone() for x in _tensors(results)]).__next__)
