"""The pixel aspect ratio in the header of a Matroska or WebM file.

The writer takes it from a field of the stream that PyAV does not set, so it is added once the file is
complete. Elements of the format (RFC 9559, sections 5.1.1 to 5.1.4) are an ID, a size and a payload.
The writer leaves an empty element, Void, behind the table of contents, SeekHead. What stands between
it and the video track moves into that space, so that nothing behind the tracks moves, and no index is
to be written anew::

    SeekHead  Void....  Info  Tracks    Cluster ...
    SeekHead  Void  Info  Tracks+size   Cluster ...
"""

import zlib
from collections.abc import Iterator
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import NamedTuple

_SEGMENT, _SEEK_HEAD, _VOID, _INFO, _TRACKS = (
    b"\x18\x53\x80\x67",
    b"\x11\x4d\x9b\x74",
    b"\xec",
    b"\x15\x49\xa9\x66",
    b"\x16\x54\xae\x6b",
)
_CRC, _SEEK_POSITION, _TRACK, _VIDEO = b"\xbf", b"\x53\xac", b"\xae", b"\xe0"
_PIXEL_SIZE, _DISPLAY_SIZE, _DISPLAY_UNIT = (b"\xb0", b"\xba"), (b"\x54\xb0", b"\x54\xba"), b"\x54\xb2"
_HEADER = 4 << 20
"""Bytes at the start of a file in which its tracks are looked for."""


class _Element(NamedTuple):
    name: bytes
    start: int
    payload: bytes
    end: int


def write_aspect(path: Path, aspect: Fraction) -> bool:
    """Say how wide the pixels of the video track are, in place.

    Returns:
        Whether there was room for it; else the file is as it was.
    """
    with path.open("r+b") as file:
        data = file.read(_HEADER)
        begin = data.index(_SEGMENT) + len(_SEGMENT)
        begin += _length(data[begin])
        top = {element.name: element for element in _elements(data, begin)}
        if not {_SEEK_HEAD, _VOID, _TRACKS} <= top.keys():
            return False
        head, void, tracks = top[_SEEK_HEAD], top[_VOID], top[_TRACKS]
        made = encoded(_TRACKS, _with_crc(_tracks(tracks.payload, aspect)))
        more = len(made) - (tracks.end - tracks.start)
        room = void.end - void.start - more
        if not head.end == void.start < void.end <= tracks.start or room < 9:
            return False
        moved = range(void.end - begin, tracks.start - begin + 1)
        parts = encoded(_SEEK_HEAD, _with_crc(_seek_head(head.payload, moved, more)))
        filler = _VOID + (room - 9 | 1 << 56).to_bytes(8, "big") + bytes(room - 9)
        changed = parts + filler + data[void.end : tracks.start] + made
        if len(changed) != tracks.end - head.start:
            return False
        file.seek(head.start)
        file.write(changed)
    return True


def display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int, int]:
    """A size of exactly this shape, and its unit: 0 is pixels, and 3 where no such size is about as large."""
    wide, high = width * aspect.numerator, height * aspect.denominator
    common = gcd(wide, high)
    wide, high = wide // common, high // common
    for times in (height // high, height // high + 1):
        if 0.75 * height <= high * times <= 1.5 * height:
            return wide * times, high * times, 0
    return wide, high, 3


def _tracks(payload: bytes, aspect: Fraction) -> bytes:
    """Tracks, the first video among them with its shape."""
    parts, done = [], False
    for track in _elements(payload):
        fields = list(_elements(track.payload)) if track.name == _TRACK else []
        if not done and any(field.name == _VIDEO for field in fields):
            done = True
            inside = b"".join(
                encoded(_VIDEO, _video(field.payload, aspect)) if field.name == _VIDEO else _stored(track, field)
                for field in fields
            )
            parts.append(encoded(_TRACK, inside))
        else:
            parts.append(payload[track.start : track.end])
    return b"".join(parts)


def _stored(parent: _Element, child: _Element) -> bytes:
    """The bytes of an element inside another, as they are."""
    return parent.payload[child.start : child.end]


def _video(payload: bytes, aspect: Fraction) -> bytes:
    fields = {element.name: element for element in _elements(payload)}
    kept = [payload[e.start : e.end] for e in fields.values() if e.name not in (*_DISPLAY_SIZE, _DISPLAY_UNIT)]
    # Of stereoscopic frames the display size, which is there already, is that of one eye.
    names = [shown if shown in fields else stored for shown, stored in zip(_DISPLAY_SIZE, _PIXEL_SIZE, strict=True)]
    width, height = (int.from_bytes(fields[name].payload, "big") for name in names)
    values = zip((*_DISPLAY_SIZE, _DISPLAY_UNIT), display_size(width, height, aspect), strict=True)
    return b"".join((*kept, *(encoded(name, value.to_bytes(4, "big")) for name, value in values)))


def _seek_head(payload: bytes, moved: range, by: int) -> bytes:
    """The table of contents, with the places of what moves."""
    parts = []
    for seek in _elements(payload):
        inside = b""
        for field in _elements(seek.payload) if seek.name != _CRC else ():
            place = int.from_bytes(field.payload, "big")
            if field.name == _SEEK_POSITION and place in moved:
                inside += encoded(field.name, (place - by).to_bytes(len(field.payload), "big"))
            else:
                inside += _stored(seek, field)
        parts.append(payload[seek.start : seek.end] if seek.name == _CRC else encoded(seek.name, inside))
    return b"".join(parts)


def _with_crc(payload: bytes) -> bytes:
    """The checksum that a payload begins with, made anew; it may have none."""
    first = next(_elements(payload))
    if first.name != _CRC:
        return payload
    rest = payload[first.end :]
    return encoded(_CRC, zlib.crc32(rest).to_bytes(4, "little")) + rest


def _elements(data: bytes, at: int = 0) -> Iterator[_Element]:
    """The elements side by side from a place on, as far as they are complete."""
    while at < len(data):
        name = data[at : at + _length(data[at])]
        size_at = at + len(name)
        if size_at >= len(data):
            return
        begin = size_at + _length(data[size_at])
        size = int.from_bytes(data[size_at:begin], "big") & (1 << 7 * (begin - size_at)) - 1
        if begin + size > len(data):
            return
        yield _Element(name, at, data[begin : begin + size], begin + size)
        at = begin + size


def encoded(name: bytes, payload: bytes) -> bytes:
    """An element of the format."""
    length = next(n for n in range(1, 9) if len(payload) < (1 << 7 * n) - 1)
    return name + (len(payload) | 1 << 7 * length).to_bytes(length, "big") + payload


def _length(first: int) -> int:
    """Bytes of an ID or a size, by the leading zeros of its first byte."""
    return 9 - first.bit_length()
