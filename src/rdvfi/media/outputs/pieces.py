"""Encoded or raw pieces of an output, which can be stored and muxed later.

A clip is written in segments. The frames of each segment go through a `FrameEncoder` of their own, and its pieces
are written to the sink in order. A piece may come from an encoder of this run, from an earlier run, or from another
machine: the output is the same, byte for byte.

A piece of a video is an encoded packet, and a segment is a closed group of pictures. The pieces of outputs that cannot
be joined from such groups are raw frames.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import av

from rdvfi.media.image_files.images import decode_file, encode_png
from rdvfi.media.pixels import Pixels
from rdvfi.media.timestamps import Moment

Piece = TypeVar("Piece")
OutputFrame = Pixels | Callable[[], av.VideoFrame]
"""Pixels, or a function that waits for a frame on a GPU and returns it in the encoder's format."""


class FrameEncoder(ABC, Generic[Piece]):
    """Encodes the frames of one segment to pieces."""

    @abstractmethod
    def encode(self, frame: OutputFrame, moment: Moment) -> list[Piece]:
        """Encode one frame; returns the pieces that are ready."""

    @abstractmethod
    def flush(self) -> list[Piece]:
        """End the segment; returns the remaining pieces."""

    @abstractmethod
    def pack(self, piece: Piece) -> bytes:
        """Serialise a piece; `rdvfi.media.writer.Sink.unpack` reads it."""


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A frame that is not encoded, and when it is shown."""

    pixels: Pixels
    moment: Moment


class RawFrameEncoder(FrameEncoder[RawFrame]):
    """Passes frames on as they are; serialised pieces are PNG."""

    def encode(self, frame: OutputFrame, moment: Moment) -> list[RawFrame]:
        assert not callable(frame), "frames in an encoder's format are not passed on raw"
        return [RawFrame(frame, moment)]

    def flush(self) -> list[RawFrame]:
        """Nothing is held back."""
        return []

    def pack(self, piece: RawFrame) -> bytes:
        moment = piece.moment
        values = [str(value) for value in (moment.source, moment.timestep, moment.time, moment.duration)]
        return json.dumps(values).encode() + b"\n" + encode_png(piece.pixels)


def unpack_frame(data: bytes) -> RawFrame:
    """Read a piece that `RawFrameEncoder.pack` serialised."""
    header, _, png = data.partition(b"\n")
    source, *times = json.loads(header)
    moment = Moment(int(source), *(Fraction(time) for time in times))
    return RawFrame(decode_file(png, "a stored frame"), moment)
