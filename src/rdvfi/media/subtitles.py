"""Subtitles as plain text, from one format into another."""

import re
from collections.abc import Callable
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import Stream

from rdvfi.media.track_writers import TrackWriter, track_tags


class WrittenText(TrackWriter):
    """The text of subtitles, in another format."""

    def __init__(self, stream: Stream, output: OutputContainer, codec: str, offset: Fraction) -> None:
        super().__init__(stream, output, offset)
        self._target_codec = codec
        self._read = _READERS[stream.codec_context.name]
        self._target = output.add_stream(codec)
        self._target.codec_context.subtitle_header = _HEADER  # pyright: ignore[reportAttributeAccessIssue]
        self._target.time_base = Fraction(1, 1000)
        self._target.metadata.update(track_tags(stream.metadata))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Write one line of text."""
        text = self._read(bytes(packet)).encode()
        if packet.pts is None or not text:
            return
        made = av.Packet(len(text).to_bytes(2, "big") + text if self._target_codec == "mov_text" else text)
        start = packet.pts * packet.time_base + shift - self._offset
        made.pts = made.dts = max(0, round(start * 1000))
        made.duration = round((packet.duration or 0) * packet.time_base * 1000)
        made.time_base = Fraction(1, 1000)
        made.stream = self._target
        self._mux(made)


_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    b"Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
    b"MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r\n\r\n"
    b"[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
"""Encoders of subtitles take styles from such a script."""


def _plain(text: str) -> str:
    return re.sub(r"</?\w[^>]*>", "", text).replace("\r\n", "\n").strip("\n\0")


def _of_ass(data: bytes) -> str:
    """The ninth field of an event, without override codes."""
    text = data.decode(errors="replace").split(",", 8)[-1]
    return _plain(re.sub(r"\{[^}]*\}", "", text).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " "))


def _of_mov_text(data: bytes) -> str:
    return _plain(data[2 : 2 + int.from_bytes(data[:2], "big")].decode(errors="replace"))


def _of_text(data: bytes) -> str:
    return _plain(data.decode(errors="replace"))


_READERS: dict[str, Callable[[bytes], str]] = {
    "ass": _of_ass,
    "ssa": _of_ass,
    "mov_text": _of_mov_text,
    **dict.fromkeys(("subrip", "srt", "webvtt", "text"), _of_text),
}


def readable_text(codec: str) -> bool:
    """Whether subtitles of this codec are text."""
    return codec in _READERS
