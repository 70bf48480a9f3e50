"""Decoding and encoding in threads of their own, beside the computation, with bounded queues.

Decoders, encoders and torch all release the interpreter while they work, so threads are enough to
overlap them. Each queue holds a few frames; a fast stage waits for a slow one. An exception in a
thread appears in the main thread at its next step, and leaving a block always ends its thread.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.1
"""Seconds between looks at the stop flag while a queue is full or empty."""


class _End:
    """Marks the end of a stream, and the exception that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Worker(Generic[T]):
    """A thread and its queue; the thread lives as long as the block."""

    def __init__(self, depth: int) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        raise NotImplementedError

    def _put(self, item: T | _End) -> bool:
        """Queue an item; False if the worker was stopped meanwhile."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    def _get(self) -> T | _End:
        """The next item; the end if the worker was stopped meanwhile."""
        while not self._stop.is_set():
            try:
                return self._queue.get(timeout=_POLL)
            except queue.Empty:
                continue
        return _End()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


class Prefetch(_Worker[T]):
    """Iterates over ``items`` a few steps ahead, in a thread."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        super().__init__(depth)
        self._items = items

    def __enter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
            self._put(_End())
        except BaseException as error:
            self._put(_End(error))
        finally:
            # A generator releases its file in the thread that reads it.
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return


class Background(_Worker[T]):
    """Calls ``consume`` for every item that is put, in order, in a thread."""

    def __init__(self, consume: Callable[[T], None], depth: int) -> None:
        super().__init__(depth)
        self._consume = consume
        self._error: BaseException | None = None

    def __enter__(self) -> "Background[T]":
        self._thread.start()
        return self

    def _work(self) -> None:
        try:
            while not isinstance(item := self._get(), _End):
                self._consume(item)
        except BaseException as error:
            self._error = error
            self._stop.set()

    def put(self, item: T) -> None:
        """Hand over one item; waits while the queue is full."""
        if not self._put(item):
            self._raise()

    def finish(self) -> None:
        """Wait until everything that was put is consumed."""
        self._put(_End())
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
