"""Decoding and encoding in threads of their own, in parallel with the computation, with bounded queues.

Decoders, encoders and torch all release the interpreter while they work, so threads are enough to
overlap them. Each queue holds a few frames; a fast stage waits for a slow one. An exception in a
thread is raised in the main thread at its next step, and leaving a block always ends its thread.

Ctrl-C and SIGTERM raise an exception between any two instructions of the main thread. Locks of Python's own
code (`queue.Queue`, `threading.Event`) may then stay locked for ever, and the block would wait for a thread that
waits for such a lock. `queue.SimpleQueue` is implemented in C, where no handler of signals runs between taking and
releasing its lock; a second one, of free places, bounds it.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.1
"""Seconds between checks of the stop flag while a queue is full or empty."""


class _End:
    """Marks the end of a stream, and the exception that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Worker(Generic[T]):
    """A thread and its queue of at most ``depth`` items; the thread lives as long as the block."""

    def __init__(self, depth: int) -> None:
        self._items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(None)
        self._stopped = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        raise NotImplementedError

    def _put(self, item: T | _End) -> bool:
        """Queue an item; False if the worker has been stopped."""
        while not self._stopped:
            try:
                self._free.get(timeout=_POLL)
            except queue.Empty:
                continue
            self._items.put(item)
            return True
        return False

    def _get(self) -> T | _End:
        """The next item; the end if the worker has been stopped."""
        while not self._stopped:
            try:
                item = self._items.get(timeout=_POLL)
            except queue.Empty:
                continue
            self._free.put(None)
            return item
        return _End()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._thread.join()


class Prefetch(_Worker[T]):
    """Iterates over ``items`` a few steps ahead, in a thread."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        super().__init__(depth)
        self._source = items

    def __enter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._put(item):
                    break
            self._put(_End())
        except BaseException as error:
            self._put(_End(error))
        finally:
            # A generator releases its file in the thread that reads it.
            close = getattr(self._source, "close", None)
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
            self._stopped = True

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
