"""The ways in which a track gets into the output: copied, encoded anew, or as plain text."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream

_TECHNICAL = re.compile(r"(encoder|vendor_id|duration|bps|number_of_.*|_statistics.*|rotate)(-\w+)?", re.IGNORECASE)
"""Tags of a track that describe the source file, not what it holds."""
_LONGEST_SLIP = Fraction(1, 10)
"""Seconds of sound that may be missing before what follows is moved to its time."""
_RATES = {"libopus": 48_000}
"""Encoders that take few rates, and the one that they are given."""


def track_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags that go along with a track: language, title, ..."""
    return {key: value for key, value in tags.items() if not _TECHNICAL.fullmatch(key)}


class TrackWriter(ABC):
    """Takes the packets of one track in order."""

    @abstractmethod
    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Write a packet; ``shift`` is to be added to its times."""

    def finish(self) -> None:  # noqa: B027 - most hold nothing back
        """Write what is still held back."""


class Copied(TrackWriter):
    """Packets go from file to file untouched."""

    def __init__(self, stream: Stream, output: OutputContainer, offset: Fraction) -> None:
        self._output, self._offset = output, offset
        self._target = output.add_stream_from_template(stream)
        self._last: int | None = None
        if isinstance(stream, AudioStream) and stream.layout.nb_channels and " channels" in stream.layout.name:
            # Which channels they are is not said, as in WAV and AVI; containers want to know.
            usual = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(stream.layout.nb_channels)
            if usual is not None:
                self._target.codec_context.layout = usual  # pyright: ignore[reportAttributeAccessIssue]
        self._target.metadata.update(track_tags(stream.metadata))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Copy a packet; two of them never get one time."""
        ticks = round((shift - self._offset) / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.dts is not None:
            if self._last is not None and packet.dts <= self._last:
                return
            self._last = packet.dts
        packet.stream = self._target
        self._output.mux(packet)


class EncodedSound(TrackWriter):
    """Sound is decoded and encoded anew.

    Raises:
        ValueError: If it cannot be decoded, or the output takes no sound of this kind.
    """

    def __init__(self, stream: Stream, output: OutputContainer, encoder: str, offset: Fraction) -> None:
        assert isinstance(stream, AudioStream)
        self._output, self._offset, self._stream = output, offset, stream
        rate = _RATES.get(encoder, stream.codec_context.sample_rate)
        layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(stream.layout.nb_channels, "stereo")
        target = output.add_stream(encoder, rate=rate, layout=layout)
        assert isinstance(target, AudioStream)
        self._target = target
        target.codec_context.time_base = Fraction(1, rate)
        if encoder not in ("flac",):
            target.codec_context.bit_rate = 96_000 * max(1, stream.layout.nb_channels)
        target.metadata.update(track_tags(stream.metadata))
        target.disposition = stream.disposition
        self._resampler: AudioResampler | None = None
        self._begin: int | None = None
        self._samples = 0
        self._read = Fraction(0)

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Decode a packet, and encode what comes of it."""
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return  # a gap in the sound; what follows keeps its time
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                self._encode(frame, shift)

    def _encode(self, frame: av.AudioFrame | None, shift: Fraction) -> None:
        context = self._target.codec_context
        if self._resampler is None:
            self._output.start_encoding()  # the size of the encoder's frames is known from then on
            size = context.frame_size or 1024
            self._resampler = AudioResampler(context.format, context.layout, context.sample_rate, frame_size=size)
        if frame is not None:
            self._place(frame, shift)
            frame.pts = None  # samples are counted: small gaps of old recordings would be filled with clicks
        for resampled in self._resampler.resample(frame):
            resampled.pts, resampled.time_base = (self._begin or 0) + self._samples, Fraction(1, context.sample_rate)
            self._samples += resampled.samples
            self._output.mux(self._target.encode(resampled))

    def _place(self, frame: av.AudioFrame, shift: Fraction) -> None:
        """Where the sound begins; after a gap, that what follows is later."""
        rate = self._target.codec_context.sample_rate
        if frame.pts is not None or self._begin is None:
            time = (frame.pts or 0) * (frame.time_base or Fraction(1)) + shift - self._offset
            if self._begin is None:
                self._begin = round(time * rate)
            missing = time - (Fraction(self._begin, rate) + self._read)
            if missing > _LONGEST_SLIP:
                self._begin += round(missing * rate)
        self._read += Fraction(frame.samples, frame.sample_rate)

    def finish(self) -> None:
        """Flush resampler and encoder."""
        if self._resampler is None:
            return
        self._encode(None, Fraction(0))
        self._output.mux(self._target.encode(None))


class WrittenText(TrackWriter):
    """The text of subtitles, in another format."""

    def __init__(self, stream: Stream, output: OutputContainer, codec: str, offset: Fraction) -> None:
        self._output, self._offset, self._target_codec = output, offset, codec
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
        self._output.mux(made)


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
