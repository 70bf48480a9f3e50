"""The pixel aspect ratio in the header of a Matroska or WebM file.

The muxer takes it from a field of the stream that PyAV does not set, so it is added to the finished file.
An element of the format (RFC 9559, sections 5.1.1 to 5.1.4) has an ID, a size and a payload. The muxer leaves an
empty element, Void, behind the table of contents, SeekHead. The elements between Void and Tracks move into that
space, so that the end of Tracks, and everything behind it, keeps its position and no index has to be rewritten::

    SeekHead  Void....  Info  Tracks    Cluster ...
    SeekHead  Void  Info  Tracks+size   Cluster ...
"""

import zlib
from collections.abc import Iterator
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import NamedTuple

_SEGMENT, _SEEK_HEAD, _VOID = b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\xec"
_TRACKS, _TRACK, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_CRC, _SEEK_POSITION = b"\xbf", b"\x53\xac"
_PIXEL_SIZE, _DISPLAY_SIZE, _DISPLAY_UNIT = (b"\xb0", b"\xba"), (b"\x54\xb0", b"\x54\xba"), b"\x54\xb2"
_MAX_HEADER_BYTES = 4 << 20
"""Bytes at the start of a file that are searched for its tracks."""
_MIN_VOID_BYTES = 9
"""Size of a Void element without payload: its ID, and its size in 8 bytes."""


class _Element(NamedTuple):
    id: bytes
    start: int
    payload: bytes
    end: int


def write_pixel_aspect(path: Path, aspect: Fraction) -> bool:
    """Write the pixel aspect ratio of the first video track, in place.

    Returns:
        Whether there was room for it; if not, the file is unchanged.
    """
    with path.open("r+b") as file:
        data = file.read(_MAX_HEADER_BYTES)
        begin = data.index(_SEGMENT) + len(_SEGMENT)
        begin += _vint_length(data[begin])
        elements = {element.id: element for element in _parse_elements(data, begin)}
        if not {_SEEK_HEAD, _VOID, _TRACKS} <= elements.keys():
            return False
        head, void, tracks = elements[_SEEK_HEAD], elements[_VOID], elements[_TRACKS]
        new_tracks = encode_element(_TRACKS, _update_crc(_set_aspect_in_tracks(tracks.payload, aspect)))
        growth = len(new_tracks) - (tracks.end - tracks.start)
        void_size = void.end - void.start - growth
        if not head.end == void.start < void.end <= tracks.start or void_size < _MIN_VOID_BYTES:
            return False
        moved = range(void.end - begin, tracks.start - begin + 1)
        new_head = encode_element(_SEEK_HEAD, _update_crc(_shift_seek_positions(head.payload, moved, -growth)))
        payload_size = void_size - _MIN_VOID_BYTES
        new_void = _VOID + (payload_size | 1 << 56).to_bytes(8, "big") + bytes(payload_size)
        changed = new_head + new_void + data[void.end : tracks.start] + new_tracks
        if len(changed) != tracks.end - head.start:
            return False
        file.seek(head.start)
        file.write(changed)
    return True


def display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int, int]:
    """Display width, height and unit with exactly the shape of ``width`` x ``height`` pixels of an aspect ratio.

    The unit is 0, pixels, if there is such a size of about the same height, else 3, the reduced ratio of the sides.
    """
    wide, high = width * aspect.numerator, height * aspect.denominator
    common = gcd(wide, high)
    wide, high = wide // common, high // common
    for factor in (height // high, height // high + 1):
        if 0.75 * height <= high * factor <= 1.5 * height:
            return wide * factor, high * factor, 0
    return wide, high, 3


def _set_aspect_in_tracks(payload: bytes, aspect: Fraction) -> bytes:
    """The payload of Tracks with the display size of its first video track."""
    parts, done = [], False
    for track in _parse_elements(payload):
        fields = list(_parse_elements(track.payload)) if track.id == _TRACK else []
        if done or all(field.id != _VIDEO for field in fields):
            parts.append(payload[track.start : track.end])
            continue
        done = True
        content = b"".join(
            encode_element(_VIDEO, _set_display_size(field.payload, aspect))
            if field.id == _VIDEO
            else track.payload[field.start : field.end]
            for field in fields
        )
        parts.append(encode_element(_TRACK, content))
    return b"".join(parts)


def _set_display_size(payload: bytes, aspect: Fraction) -> bytes:
    fields = {element.id: element for element in _parse_elements(payload)}
    kept = [payload[e.start : e.end] for e in fields.values() if e.id not in (*_DISPLAY_SIZE, _DISPLAY_UNIT)]
    # The display size that stereoscopic frames have already is that of one eye.
    sources = [
        display if display in fields else stored for display, stored in zip(_DISPLAY_SIZE, _PIXEL_SIZE, strict=True)
    ]
    width, height = (int.from_bytes(fields[source].payload, "big") for source in sources)
    values = zip((*_DISPLAY_SIZE, _DISPLAY_UNIT), display_size(width, height, aspect), strict=True)
    return b"".join((*kept, *(encode_element(field, value.to_bytes(4, "big")) for field, value in values)))


def _shift_seek_positions(payload: bytes, moved: range, offset: int) -> bytes:
    """The payload of SeekHead with an offset added to those positions that are in ``moved``."""
    parts = []
    for seek in _parse_elements(payload):
        if seek.id == _CRC:
            parts.append(payload[seek.start : seek.end])
            continue
        content = b""
        for field in _parse_elements(seek.payload):
            position = int.from_bytes(field.payload, "big")
            if field.id == _SEEK_POSITION and position in moved:
                content += encode_element(field.id, (position + offset).to_bytes(len(field.payload), "big"))
            else:
                content += seek.payload[field.start : field.end]
        parts.append(encode_element(seek.id, content))
    return b"".join(parts)


def _update_crc(payload: bytes) -> bytes:
    """The payload with a new checksum, if it begins with one."""
    first = next(_parse_elements(payload))
    if first.id != _CRC:
        return payload
    rest = payload[first.end :]
    return encode_element(_CRC, zlib.crc32(rest).to_bytes(4, "little")) + rest


def _parse_elements(data: bytes, position: int = 0) -> Iterator[_Element]:
    """The sibling elements from a position on, up to the first incomplete one."""
    while position < len(data):
        element_id = data[position : position + _vint_length(data[position])]
        size_at = position + len(element_id)
        if size_at >= len(data):
            return
        begin = size_at + _vint_length(data[size_at])
        size = int.from_bytes(data[size_at:begin], "big") & (1 << 7 * (begin - size_at)) - 1
        if begin + size > len(data):
            return
        yield _Element(element_id, position, data[begin : begin + size], begin + size)
        position = begin + size


def encode_element(element_id: bytes, payload: bytes) -> bytes:
    """The bytes of an element: its ID, the length of the payload, and the payload."""
    length = next(n for n in range(1, 9) if len(payload) < (1 << 7 * n) - 1)
    return element_id + (len(payload) | 1 << 7 * length).to_bytes(length, "big") + payload


def _vint_length(first: int) -> int:
    """Number of bytes of a variable-length integer, given by the leading zeros of its first byte."""
    return 9 - first.bit_length()
