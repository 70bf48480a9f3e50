"""Conversion of text subtitles between formats."""

import re
from collections.abc import Callable
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import Stream

from rdvfi.media.other_tracks.track_writers import TrackWriter, track_tags


class WrittenText(TrackWriter):
    """The text of subtitles, in another format."""

    def __init__(self, stream: Stream, output: OutputContainer, codec: str, offset: Fraction) -> None:
        super().__init__(stream, output, offset)
        self._target_codec = codec
        self._shown: list[tuple[int, int, str]] = []
        self._read = _READERS[stream.codec_context.name]
        self._target = output.add_stream(codec)
        self._target.codec_context.subtitle_header = _HEADER  # pyright: ignore[reportAttributeAccessIssue]
        self._target.time_base = Fraction(1, 1000)
        self._target.metadata.update(track_tags(stream.metadata, output.format.name))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        text = self._read(bytes(packet))
        if packet.pts is None or not text:
            return
        start = round((packet.pts * packet.time_base + shift - self._offset) * 1000)
        end = start + round((packet.duration or 0) * packet.time_base * 1000)
        if self._target_codec == "mov_text":
            self._show_until(max(0, start))
            self._shown.append((max(0, start), end, text))
        elif end > 0:
            self._put(max(0, start), end, text)

    def finish(self) -> None:
        self._show_until(None)

    def _show_until(self, time: int | None) -> None:
        """Write what is shown up to a time: MP4 shows one text at a time, so lines that overlap become one."""
        while self._shown:
            begin = max(start for start, _, _ in self._shown)
            change = min(end for _, end, _ in self._shown)
            stop = change if time is None else min(change, time)
            if stop > begin:
                self._put(begin, stop, "\n".join(text for _, _, text in self._shown))
            self._shown = [(stop, end, text) for _, end, text in self._shown if end > stop]
            if stop == time:
                return

    def _put(self, start: int, end: int, text: str) -> None:
        data = text.encode()
        packet = av.Packet(len(data).to_bytes(2, "big") + data if self._target_codec == "mov_text" else data)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = end - start, Fraction(1, 1000), self._target
        self._mux(packet)


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
