"""Cover pictures: attachments in Matroska, single-packet tracks in MP4."""

from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.stream import Disposition, Stream

from rdvfi.media.video_files.probe import open_video

_KINDS = {"mjpeg": ("jpg", "jpeg"), "png": ("png", "png"), "bmp": ("bmp", "bmp"), "gif": ("gif", "gif")}
"""File suffix and MIME type of pictures by codec."""
_OF_ISO = frozenset({"mjpeg", "png", "bmp"})


def add_cover(source: Path, stream: Stream, output: OutputContainer) -> av.Packet | None:
    """Take a cover along.

    Returns:
        What has to be written once the header is; None where the header holds it.

    Raises:
        ValueError: If the output holds no such picture, or it cannot be read.
    """
    codec = "" if stream.codec_context is None else stream.codec_context.codec.canonical_name
    data = _picture(source, stream.index)
    if codec not in _KINDS or not data:
        raise ValueError(f"no picture in {codec or 'an unknown format'}")
    if output.format.name == "matroska":
        suffix, kind = _KINDS[codec]
        output.add_attachment(stream.metadata.get("filename", f"cover.{suffix}"), f"image/{kind}", data)
        return None
    if codec not in _OF_ISO:
        raise ValueError(f"{codec} is no format of covers in MP4")
    target = output.add_stream_from_template(stream)
    target.disposition = Disposition.attached_pic
    packet = av.Packet(data)
    packet.stream, packet.pts, packet.dts, packet.is_keyframe = target, 0, 0, True
    return packet


def _picture(source: Path, index: int) -> bytes:
    with open_video(source) as container:
        try:
            return next(bytes(packet) for packet in container.demux(container.streams[index]) if packet.size)
        except (av.error.FFmpegError, StopIteration):  # it is told as one that cannot be taken along
            return b""
