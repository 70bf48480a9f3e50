"""Encoded or raw parts of an output, which can be stored and muxed later.

A clip is written in segments. The frames of a segment go through a `FrameEncoder` of its own, which
knows nothing of other segments; the pieces that come out are put into the sink in order. So a piece
may come straight from the encoder, from an earlier run, or from another machine: the output is the
same, byte for byte.

Of a video a piece is an encoded packet, and a segment is a closed group of pictures. Outputs that
cannot be put together from such groups take whole frames as pieces.
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
"""A frame for the output: its pixels, or what waits for it and makes the frame that a video encoder takes."""


class FrameEncoder(ABC, Generic[Piece]):
    """Turns the frames of one segment into pieces."""

    @abstractmethod
    def encode(self, frame: OutputFrame, moment: Moment) -> list[Piece]:
        """Take one frame; pieces that are ready come out."""

    @abstractmethod
    def flush(self) -> list[Piece]:
        """End the segment; the remaining pieces come out."""

    @abstractmethod
    def pack(self, piece: Piece) -> bytes:
        """A piece as bytes, to be kept; `rdvfi.media.writer.Sink.unpack` reads them."""


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A frame as it is, and when it is shown."""

    pixels: Pixels
    moment: Moment


class RawFrameEncoder(FrameEncoder[RawFrame]):
    """Frames stay as they are; they are kept as PNG, without loss."""

    def encode(self, frame: OutputFrame, moment: Moment) -> list[RawFrame]:
        assert not callable(frame), "frames of a video encoder are not kept whole"
        return [RawFrame(frame, moment)]

    def flush(self) -> list[RawFrame]:
        """Nothing is held back."""
        return []

    def pack(self, piece: RawFrame) -> bytes:
        moment = piece.moment
        times = [str(value) for value in (moment.source, moment.timestep, moment.time, moment.duration)]
        return json.dumps(times).encode() + b"\n" + encode_png(piece.pixels)


def unpack_frame(data: bytes) -> RawFrame:
    """What `RawFrameEncoder.pack` made these bytes of."""
    head, _, picture = data.partition(b"\n")
    source, *times = json.loads(head)
    moment = Moment(int(source), *(Fraction(time) for time in times))
    return RawFrame(decode_file(picture, "a kept frame"), moment)
