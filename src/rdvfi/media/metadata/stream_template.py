"""Container metadata of a video track: stereoscopy, projection, HDR.

PyAV can neither read nor set this metadata of a stream. Reading: the track is added to a Matroska file in memory,
whose header then holds it (`muxed_header`). Writing: a Matroska header with the metadata (RFC 9559, section 5.1.4)
is made in memory and opened, and a bitstream filter copies all parameters of its track to the encoder's stream
(`copy_metadata`).
"""

import struct
from contextlib import suppress
from fractions import Fraction
from io import BytesIO

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from rdvfi.media.metadata.hdr import HdrMetadata, MasteringDisplay
from rdvfi.media.metadata.matroska import encode_element
from rdvfi.media.metadata.spatial import SpatialMetadata

METADATA_CONTAINERS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})
"""Containers that store HDR metadata, projection and pixel aspect themselves, whatever the codec."""

_Y4M = "yuv4mpegpipe"
_CODEC_IDS = {
    "h264": b"V_MPEG4/ISO/AVC",
    "hevc": b"V_MPEGH/ISO/HEVC",
    "av1": b"V_AV1",
    "vp9": b"V_VP9",
    "prores": b"V_PRORES",
    "ffv1": b"V_FFV1",
    "mpeg4": b"V_MPEG4/ISO/ASP",
}
"""Matroska's names of codecs."""


def muxed_header(stream: VideoStream) -> bytes:
    """The Matroska header of a file that holds this track, or the header of Y4M; empty if it holds no such track."""
    header, muxer = BytesIO(), _Y4M if stream.container.format.name == _Y4M else "matroska"
    with suppress(av.error.FFmpegError, ValueError), av.open(header, "w", format=muxer) as container:
        container.add_stream_from_template(stream)
        container.start_encoding()
    return header.getvalue()


def copy_metadata(stream: VideoStream, hdr: HdrMetadata, spatial: SpatialMetadata) -> None:
    """Give an encoder's stream this metadata; its size, pixel format and rate have to be set afterwards."""
    codec_id = _CODEC_IDS.get(stream.codec_context.codec.canonical_name)
    if codec_id is None or not (spatial or hdr.display or hdr.light):
        return
    with av.open(BytesIO(_template_file(codec_id, hdr, spatial)), format="matroska") as container:
        BitStreamFilterContext("null", container.streams.video[0], stream)


def _template_file(codec_id: bytes, hdr: HdrMetadata, spatial: SpatialMetadata) -> bytes:
    """A Matroska file of one video track without frames."""
    video = _uint(b"\xb0", 16) + _uint(b"\xba", 16)
    video += _uint(b"\x53\xb8", spatial.stereo_mode) if spatial.stereo_mode else b""
    video += encode_element(b"\x55\xb0", _colour(hdr)) + (_projection(spatial) if spatial.projection else b"")
    track = _uint(b"\xd7", 1) + _uint(b"\x73\xc5", 1) + _uint(b"\x83", 1) + encode_element(b"\x86", codec_id)
    tracks = encode_element(b"\x16\x54\xae\x6b", encode_element(b"\xae", track + encode_element(b"\xe0", video)))
    info = encode_element(b"\x15\x49\xa9\x66", _uint(b"\x2a\xd7\xb1", 1_000_000))
    cluster = encode_element(b"\x1f\x43\xb6\x75", _uint(b"\xe7", 0))
    ebml = encode_element(b"\x1a\x45\xdf\xa3", encode_element(b"\x42\x82", b"matroska"))
    return ebml + encode_element(b"\x18\x53\x80\x67", info + tracks + cluster)


def _colour(hdr: HdrMetadata) -> bytes:
    payload = b""
    if hdr.light is not None:
        payload += _uint(b"\x55\xbc", hdr.light[0]) + _uint(b"\x55\xbd", hdr.light[1])
    if hdr.display is not None:
        payload += encode_element(b"\x55\xd0", _mastering_metadata(hdr.display))
    return payload


def _mastering_metadata(display: MasteringDisplay) -> bytes:
    points = (*display.red, *display.green, *display.blue, *display.white)
    values = (*points, display.max_luminance, display.min_luminance)
    return b"".join(_float(b"\x55" + bytes([0xD1 + number]), value) for number, value in enumerate(values))


def _projection(spatial: SpatialMetadata) -> bytes:
    private = bytes(4) + b"".join(bound.to_bytes(4, "big") for bound in spatial.bounds)
    angles = b"".join(_float(b"\x76" + bytes([0x73 + number]), angle) for number, angle in enumerate(spatial.angles))
    payload = _uint(b"\x76\x71", spatial.projection) + encode_element(b"\x76\x72", private) + angles
    return encode_element(b"\x76\x70", payload)


def _uint(element_id: bytes, value: int) -> bytes:
    return encode_element(element_id, value.to_bytes(4, "big"))


def _float(element_id: bytes, value: Fraction | float) -> bytes:
    return encode_element(element_id, struct.pack(">d", float(value)))
