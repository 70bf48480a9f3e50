"""Location of the chroma samples of 4:2:0 and 4:2:2 relative to those of luma (ITU-T H.273, section 8.7).

libswscale reads it from frames: decoders mark theirs, and frames to be encoded are marked here. Two locations differ
by up to a quarter of a chroma sample, by which all colours would shift.
"""

import re
from fractions import Fraction

import av
from av.filter import Graph

UNKNOWN, LEFT, CENTER, TOP_LEFT, TOP = range(5)
"""FFmpeg's numbers. Left is that of MPEG-2 and H.264, and what players assume; centre is that of JPEG."""

_FFMPEG_NAMES = ("unspecified", "left", "center", "topleft", "top")
_HEADER_PATTERN = re.compile(rb"\x55\xb7\x81([\x01\x02]\x55\xb8\x81[\x01\x02])|YUV4MPEG2 .* C420(jpeg|mpeg2|paldv)")
_SITING_VERT = b"\x55\xb8\x81"
_BY_HEADER = {
    # Matroska's ChromaSitingHorz and ChromaSitingVert: 1 is left or top, 2 is half way.
    **{b"\1" + _SITING_VERT + b"\2": LEFT, b"\2" + _SITING_VERT + b"\2": CENTER},
    **{b"\1" + _SITING_VERT + b"\1": TOP_LEFT, b"\2" + _SITING_VERT + b"\1": TOP},
    **{b"mpeg2": LEFT, b"jpeg": CENTER, b"paldv": TOP_LEFT},
}
_STORES_ANY = frozenset({"libx264", "libx265", ".mkv", ".webm", ".y4m"})
"""Encoders and containers that can store any location."""
_STORES_ONE = {"libsvtav1": TOP_LEFT, "libvpx-vp9": TOP_LEFT}
"""The only location, besides the default, that an encoder can store."""


def read_siting(pixel_format: str, header: bytes) -> int:
    """The chroma location of a track; `LEFT` where chroma is not subsampled, for a subsampled copy of it.

    Args:
        pixel_format: The format of its frames.
        header: Its header, from `rdvfi.media.metadata.stream_template.muxed_header`.
    """
    form = av.VideoFormat(pixel_format, 16, 16)
    if form.is_rgb or form.chroma_width(16) == 16 or len(form.components) < 3:
        return LEFT
    match = _HEADER_PATTERN.search(header)
    return UNKNOWN if match is None else _BY_HEADER[match[1] or match[2]]


def output_siting(siting: int, encoder: str, suffix: str) -> int:
    """The chroma location of the output: the source's, or `LEFT` if neither stream nor container can store it."""
    stored = siting == UNKNOWN or _STORES_ANY & {encoder, suffix} or _STORES_ONE.get(encoder) == siting
    return siting if stored else LEFT


def siting_option(siting: int, chroma: str) -> dict[str, str]:
    """The encoder's option that makes stream and container store a chroma location."""
    return {"chroma_sample_location": _FFMPEG_NAMES[siting]} if siting != UNKNOWN and chroma == "420" else {}


class SitingMarker:
    """Marks frames with a chroma location for libswscale; not to be shared between threads."""

    def __init__(self, siting: int) -> None:
        self._siting, self._graph, self._frame_format = siting, Graph(), None

    def mark(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, marked so that subsampled copies of it have their chroma at this location."""
        if self._siting == UNKNOWN:
            return frame
        frame_format = (frame.width, frame.height, frame.format.name)
        if frame_format != self._frame_format:
            self._frame_format, self._graph = frame_format, Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
            )
            setparams = self._graph.add("setparams", f"chroma_location={_FFMPEG_NAMES[self._siting]}")
            self._graph.link_nodes(source, setparams, self._graph.add("buffersink")).configure()
        frame.pts = 0
        self._graph.push(frame)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked
