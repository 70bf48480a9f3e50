"""Output of segments: encoding in a thread, muxing, and storage for a later resumption."""

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from rdvfi.media.outputs.pieces import FrameEncoder, OutputFrame
from rdvfi.media.timestamps import Moment
from rdvfi.media.writer import Sink
from rdvfi.video.pipeline import Background
from rdvfi.video.segmented_jobs.segment_store import SegmentFile, SegmentStore

_QUEUE = 4
"""Largest number of frames that wait for the encoder."""


class SegmentOutput:
    """Encodes the segments of a job in order, in a thread that ends with the context.

    Args:
        create_encoder: Creates the encoder of the next segment.
        sink: Gets the encoded pieces; None if they are only stored.
        store: Keeps the segments; None if they are not stored.
        resume: Reuse the segments of the store.
    """

    def __init__(
        self,
        create_encoder: Callable[[], FrameEncoder],
        *,
        sink: Sink | None = None,
        store: SegmentStore | None = None,
        resume: bool = False,
    ) -> None:
        self._create_encoder, self._sink, self._store = create_encoder, sink, store
        self._stored = store.finished() if store is not None and resume else frozenset()
        self._thread: Background[Callable[[], None]] = Background(lambda task: task(), _QUEUE)
        self._encoder: FrameEncoder | None = None
        self._file: SegmentFile | None = None

    def __enter__(self) -> "SegmentOutput":
        self._thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.__exit__(kind, error, trace)
        if self._file is not None:
            self._file.abandon()

    def reuse(self, number: int) -> dict[str, Any] | None:
        """Output a stored segment; returns its record, or None if the segment has to be made."""
        record = self._store.record(number) if self._store is not None and number in self._stored else None
        if record is not None:
            self._thread.put(partial(self._copy, number))
        return record

    def begin(self) -> None:
        """Begin a new segment."""
        self._thread.put(self._begin)

    def put(self, frame: OutputFrame, moment: Moment) -> None:
        """Queue the next frame of the segment; waits while the queue is full."""
        self._thread.put(partial(self._encode, frame, moment))

    def end(self, number: int, record: Mapping[str, Any], *, keep: bool = True) -> None:
        """Complete the segment, and store it with its record if ``keep`` and if there is a store."""
        self._thread.put(partial(self._end, number, record, keep))

    def finish(self) -> None:
        """Wait until all segments are encoded and stored."""
        self._thread.finish()

    def _begin(self) -> None:
        self._encoder = self._create_encoder()
        self._file = self._store.create() if self._store is not None else None

    def _encode(self, frame: OutputFrame, moment: Moment) -> None:
        assert self._encoder is not None
        for piece in self._encoder.encode(frame, moment):
            self._emit(piece)

    def _emit(self, piece: Any) -> None:
        if self._file is not None and self._encoder is not None:
            self._file.add(self._encoder.pack(piece))
        if self._sink is not None:
            self._sink.write_piece(piece)

    def _end(self, number: int, record: Mapping[str, Any], keep: bool) -> None:
        assert self._encoder is not None
        for piece in self._encoder.flush():
            self._emit(piece)
        self._encoder, file, self._file = None, self._file, None
        if file is None or self._store is None:
            return
        file.close(record)
        if keep:
            self._store.publish(number, file)
        else:
            file.abandon()

    def _copy(self, number: int) -> None:
        assert self._store is not None
        if self._sink is not None:
            for data in self._store.pieces(number):
                self._sink.write_piece(self._sink.unpack(data))
