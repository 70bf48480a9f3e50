"""Cover pictures: attachments in Matroska, single-packet tracks in MP4."""

from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.stream import Disposition, Stream

from rdvfi.media.video_files.probe import open_video

_IMAGE_TYPES = {"mjpeg": ("jpg", "jpeg"), "png": ("png", "png"), "bmp": ("bmp", "bmp"), "gif": ("gif", "gif")}
"""File suffix and MIME subtype of pictures by codec."""
_MP4_CODECS = frozenset({"mjpeg", "png", "bmp"})


def add_cover(source: Path, stream: Stream, output: OutputContainer) -> av.Packet | None:
    """Add a cover picture of the source to the output.

    Returns:
        The packet to write after the header; None if the header holds the picture.

    Raises:
        ValueError: If the output cannot hold the picture, or it cannot be read.
    """
    codec = "" if stream.codec_context is None else stream.codec_context.codec.canonical_name
    data = _read_picture(source, stream.index)
    if codec not in _IMAGE_TYPES or not data:
        raise ValueError(f"no picture in {codec or 'an unknown format'}")
    if output.format.name == "matroska":
        suffix, mime_subtype = _IMAGE_TYPES[codec]
        output.add_attachment(stream.metadata.get("filename", f"cover.{suffix}"), f"image/{mime_subtype}", data)
        return None
    if codec not in _MP4_CODECS:
        raise ValueError(f"{codec} is no format of covers in MP4")
    target = output.add_stream_from_template(stream)
    target.disposition = Disposition.attached_pic
    packet = av.Packet(data)
    packet.stream, packet.pts, packet.dts, packet.is_keyframe = target, 0, 0, True
    return packet


def _read_picture(source: Path, index: int) -> bytes:
    """The first packet of a track; empty if it cannot be read."""
    with open_video(source) as container:
        try:
            return next(bytes(packet) for packet in container.demux(container.streams[index]) if packet.size)
        except (av.error.FFmpegError, StopIteration):
            return b""
