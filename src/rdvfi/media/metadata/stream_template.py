"""Container metadata of a video track: stereoscopy, projection, HDR.

PyAV shows no such values of a stream, nor where chroma lies, so the header of a file is made in memory, which
says them. It gives an encoder's stream none either, but a bitstream filter copies them, with all else, from
any stream of the same codec. So a Matroska header that says them (RFC 9559, section 5.1.4) is made in
memory, and read; its track is the one that they are copied from.
"""

import struct
from contextlib import suppress
from fractions import Fraction
from io import BytesIO

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from rdvfi.media.metadata.hdr import Brightness, MasteringDisplay
from rdvfi.media.metadata.matroska import encoded
from rdvfi.media.metadata.spatial import Spatial

HOLDING = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})
"""Containers that say so themselves, whatever the codec."""

_Y4M = "yuv4mpegpipe"
_CODECS = {
    "h264": b"V_MPEG4/ISO/AVC",
    "hevc": b"V_MPEGH/ISO/HEVC",
    "av1": b"V_AV1",
    "vp9": b"V_VP9",
    "prores": b"V_PRORES",
    "ffv1": b"V_FFV1",
    "mpeg4": b"V_MPEG4/ISO/ASP",
}


def header_of(stream: VideoStream) -> bytes:
    """What Matroska says of a track, or the header of Y4M; empty if it holds no such track."""
    header, muxer = BytesIO(), _Y4M if stream.container.format.name == _Y4M else "matroska"
    with suppress(av.error.FFmpegError, ValueError), av.open(header, "w", format=muxer) as trial:
        trial.add_stream_from_template(stream)
        trial.start_encoding()
    return header.getvalue()


def describe(stream: VideoStream, brightness: Brightness, spatial: Spatial) -> None:
    """Give the stream of an encoder these values; size, format and rate of it have to be set afterwards."""
    codec = _CODECS.get(stream.codec_context.codec.canonical_name)
    if codec is None or not (spatial or brightness.display or brightness.light):
        return
    with av.open(BytesIO(_header(codec, brightness, spatial)), format="matroska") as container:
        BitStreamFilterContext("null", container.streams.video[0], stream)


def _header(codec: bytes, brightness: Brightness, spatial: Spatial) -> bytes:
    """A Matroska file of one video track, without a frame."""
    video = _number(b"\xb0", 16) + _number(b"\xba", 16)
    video += _number(b"\x53\xb8", spatial.stereo_mode) if spatial.stereo_mode else b""
    video += encoded(b"\x55\xb0", _light(brightness)) + (_projection(spatial) if spatial.projection else b"")
    track = _number(b"\xd7", 1) + _number(b"\x73\xc5", 1) + _number(b"\x83", 1) + encoded(b"\x86", codec)
    tracks = encoded(b"\x16\x54\xae\x6b", encoded(b"\xae", track + encoded(b"\xe0", video)))
    info = encoded(b"\x15\x49\xa9\x66", _number(b"\x2a\xd7\xb1", 1_000_000))
    cluster = encoded(b"\x1f\x43\xb6\x75", _number(b"\xe7", 0))
    return encoded(b"\x1a\x45\xdf\xa3", encoded(b"\x42\x82", b"matroska")) + encoded(
        b"\x18\x53\x80\x67", info + tracks + cluster
    )


def _light(brightness: Brightness) -> bytes:
    parts = b""
    if brightness.light is not None:
        parts += _number(b"\x55\xbc", brightness.light[0]) + _number(b"\x55\xbd", brightness.light[1])
    if brightness.display is not None:
        parts += encoded(b"\x55\xd0", _display(brightness.display))
    return parts


def _display(display: MasteringDisplay) -> bytes:
    points = (*display.red, *display.green, *display.blue, *display.white, display.most, display.least)
    return b"".join(_real(b"\x55" + bytes([0xD1 + number]), value) for number, value in enumerate(points))


def _projection(spatial: Spatial) -> bytes:
    private = bytes(4) + b"".join(bound.to_bytes(4, "big") for bound in spatial.bounds)
    angles = b"".join(_real(b"\x76" + bytes([0x73 + number]), angle) for number, angle in enumerate(spatial.angles))
    return encoded(b"\x76\x70", _number(b"\x76\x71", spatial.projection) + encoded(b"\x76\x72", private) + angles)


def _number(name: bytes, value: int) -> bytes:
    return encoded(name, value.to_bytes(4, "big"))


def _real(name: bytes, value: Fraction | float) -> bytes:
    return encoded(name, struct.pack(">d", float(value)))
