"""Conversion of text subtitles between formats."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import OutputContainer
from av.stream import Stream

from rdvfi.media.other_tracks.track_writers import TrackWriter, track_tags

_TIME_BASE = Fraction(1, 1000)


class _Line(NamedTuple):
    """A text and when it is shown, in milliseconds."""

    start: int
    end: int
    text: str


class SubtitleConverter(TrackWriter):
    """Writes the text of subtitles in another format, without styles."""

    def __init__(self, stream: Stream, output: OutputContainer, codec: str, offset: Fraction) -> None:
        super().__init__(stream, output, offset)
        self._codec = codec
        self._open_lines: list[_Line] = []
        self._extract_text = _TEXT_READERS[stream.codec_context.name]
        self._target = output.add_stream(codec)
        self._target.codec_context.subtitle_header = _ASS_HEADER  # pyright: ignore[reportAttributeAccessIssue]
        self._target.time_base = _TIME_BASE
        self._target.metadata.update(track_tags(stream.metadata, output.format.name))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        text = self._extract_text(bytes(packet))
        if packet.pts is None or not text:
            return
        start = round((packet.pts * packet.time_base + shift - self._offset) / _TIME_BASE)
        end = start + round((packet.duration or 0) * packet.time_base / _TIME_BASE)
        line = _Line(max(0, start), end, text)
        if self._codec == "mov_text":
            self._write_until(line.start)
            self._open_lines.append(line)
        elif end > 0:
            self._write_line(line)

    def finish(self) -> None:
        self._write_until(None)

    def _write_until(self, time: int | None) -> None:
        """Write the open lines up to a time. MP4 shows one text at a time, so lines that overlap are joined."""
        while self._open_lines:
            begin = max(line.start for line in self._open_lines)
            next_end = min(line.end for line in self._open_lines)
            stop = next_end if time is None else min(next_end, time)
            if stop > begin:
                self._write_line(_Line(begin, stop, "\n".join(line.text for line in self._open_lines)))
            self._open_lines = [line._replace(start=stop) for line in self._open_lines if line.end > stop]
            if stop == time:
                return

    def _write_line(self, line: _Line) -> None:
        data = line.text.encode()
        packet = av.Packet(len(data).to_bytes(2, "big") + data if self._codec == "mov_text" else data)
        packet.pts = packet.dts = line.start
        packet.duration, packet.time_base, packet.stream = line.end - line.start, _TIME_BASE, self._target
        self._mux(packet)


_ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    b"Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
    b"MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r\n\r\n"
    b"[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
"""Subtitle encoders take the default style from a script in this format."""


def _strip_markup(text: str) -> str:
    return re.sub(r"</?\w[^>]*>", "", text).replace("\r\n", "\n").strip("\n\0")


def _read_ass(data: bytes) -> str:
    """The ninth field of an event, without override codes."""
    text = re.sub(r"\{[^}]*\}", "", data.decode(errors="replace").split(",", 8)[-1])
    return _strip_markup(text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " "))


def _read_mov_text(data: bytes) -> str:
    return _strip_markup(data[2 : 2 + int.from_bytes(data[:2], "big")].decode(errors="replace"))


def _read_plain_text(data: bytes) -> str:
    return _strip_markup(data.decode(errors="replace"))


_TEXT_READERS: dict[str, Callable[[bytes], str]] = {
    "ass": _read_ass,
    "ssa": _read_ass,
    "mov_text": _read_mov_text,
    **dict.fromkeys(("subrip", "srt", "webvtt", "text"), _read_plain_text),
}


def is_text_codec(codec: str) -> bool:
    """Whether subtitles of this codec are text that can be converted."""
    return codec in _TEXT_READERS
