"""Where the chroma samples of 4:2:0 and 4:2:2 lie beside those of luma (ITU-T H.273, section 8.7).

libswscale reads it from frames: decoders mark theirs, and what is to be encoded is marked here. Between two
positions lies a quarter of a chroma sample, by which all colours would move.
"""

import re
from fractions import Fraction

import av
from av.filter import Graph

UNKNOWN, LEFT, CENTER, TOP_LEFT, TOP = range(5)
"""As FFmpeg numbers them. Left is that of MPEG-2 and H.264, and what players assume; the centre that of JPEG."""

_NAMES = ("unspecified", "left", "center", "topleft", "top")
_WRITTEN = re.compile(rb"\x55\xb7\x81([\x01\x02]\x55\xb8\x81[\x01\x02])|YUV4MPEG2 .* C420(jpeg|mpeg2|paldv)")
_BETWEEN = b"\x55\xb8\x81"
_PLACES = {
    **{b"\1" + _BETWEEN + b"\2": LEFT, b"\2" + _BETWEEN + b"\2": CENTER},  # 1 is left or top, 2 half way
    **{b"\1" + _BETWEEN + b"\1": TOP_LEFT, b"\2" + _BETWEEN + b"\1": TOP},
    **{b"mpeg2": LEFT, b"jpeg": CENTER, b"paldv": TOP_LEFT},
}
_SAY_ALL = frozenset({"libx264", "libx265", ".mkv", ".webm", ".y4m"})
_SAY_SOME = {"libsvtav1": TOP_LEFT, "libvpx-vp9": TOP_LEFT}


def read_siting(pixel_format: str, header: bytes) -> int:
    """What a track says; `LEFT` where chroma is not subsampled, for a copy of it that is.

    Args:
        pixel_format: Of its frames.
        header: What it is said in, see `rdvfi.media.metadata.stream_template.muxed_header`.
    """
    form = av.VideoFormat(pixel_format, 16, 16)
    if form.is_rgb or form.chroma_width(16) == 16 or len(form.components) < 3:
        return LEFT
    found = _WRITTEN.search(header)
    return UNKNOWN if found is None else _PLACES[found[1] or found[2]]


def output_siting(siting: int, encoder: str, suffix: str) -> int:
    """What is written: the source's, or that which players assume where stream and container cannot say it."""
    said = siting == UNKNOWN or _SAY_ALL & {encoder, suffix} or _SAY_SOME.get(encoder) == siting
    return siting if said else LEFT


def encoder_option(siting: int, chroma: str) -> dict[str, str]:
    """What an encoder is told, for the stream and its container."""
    return {"chroma_sample_location": _NAMES[siting]} if siting != UNKNOWN and chroma == "420" else {}


class Marker:
    """Marks frames for libswscale; not to be shared between threads."""

    def __init__(self, siting: int) -> None:
        self._siting, self._graph, self._form = siting, Graph(), None

    def mark(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, whose copy with subsampled chroma will have it there."""
        if self._siting == UNKNOWN:
            return frame
        form = (frame.width, frame.height, frame.format.name)
        if form != self._form:
            self._form, self._graph = form, Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
            )
            setting = self._graph.add("setparams", f"chroma_location={_NAMES[self._siting]}")
            self._graph.link_nodes(source, setting, self._graph.add("buffersink")).configure()
        frame.pts = 0
        self._graph.push(frame)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked
