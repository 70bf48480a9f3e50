"""Transcoding of sound that the output container cannot hold."""

from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream

from rdvfi.media.other_tracks.stretching import Stretcher
from rdvfi.media.other_tracks.track_writers import USUAL_LAYOUTS, TrackWriter, track_tags
from rdvfi.media.video_files.probe import open_video

_LONGEST_SLIP = Fraction(1, 10)
"""Seconds of sound that may be missing before what follows is moved to its time."""
_BITRATE = 96_000
"""Bits per second and channel, of encoders that lose something."""
_LOSSLESS = frozenset({"flac"})
_TRIED = 100
"""Packets that are tried before a track is taken for one that cannot be decoded."""


class EncodedSound(TrackWriter):
    """Sound is decoded and encoded anew, with its channels and rate where the encoder takes them.

    Args:
        stream: The track that is read.
        output: Where it goes.
        encoder: FFmpeg's name of the encoder.
        offset: Time of the source that becomes zero.
        slowdown: How many times longer it runs, at the same pitch.

    Raises:
        ValueError: If it cannot be decoded, or the output takes no sound of this kind.
    """

    def __init__(
        self,
        stream: Stream,
        output: OutputContainer,
        encoder: str,
        offset: Fraction,
        *,
        slowdown: Fraction = Fraction(1),
    ) -> None:
        assert isinstance(stream, AudioStream)
        super().__init__(stream, output, offset)
        self._decoder, self._shift = stream.codec_context, Fraction(0)
        self.layout, rate = _layout(encoder, stream), _rate(encoder, stream.codec_context.sample_rate)
        target = output.add_stream(encoder, rate=rate, layout=self.layout)
        assert isinstance(target, AudioStream)
        self._target = target
        self.channels = target.codec_context.layout.nb_channels
        target.codec_context.time_base = Fraction(1, rate)
        if encoder not in _LOSSLESS:
            target.codec_context.bit_rate = _BITRATE * max(1, self.channels)
        target.metadata.update(track_tags(stream.metadata, output.format.name))
        target.disposition = stream.disposition
        self._slowdown = slowdown
        self._stretcher: Stretcher | None = None
        self._resampler: AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None
        self._begin: int | None = None
        self._samples = 0
        self._read = Fraction(0)

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        self._shift = shift
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return  # a gap in the sound; what follows keeps its time
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                self._encode(frame)

    def finish(self) -> None:
        try:
            frames = self._decoder.decode(None)
        except av.error.FFmpegError:
            frames = []
        for frame in frames:
            self._encode(frame)
        if self._resampler is not None:
            self._drain()
            for packet in self._target.encode(None):
                self._mux(packet)

    def _encode(self, frame: av.AudioFrame) -> None:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # at the start, and where a broadcast goes from stereo to surround
            self._drain()
            self._resampler, self._form = self._new_resampler(), form
            self._stretcher = None if self._slowdown == 1 else Stretcher(frame, self._slowdown)
        assert self._resampler is not None
        self._place(frame)
        frame.pts = None  # samples are counted: small gaps of old recordings would be filled with clicks
        for part in (frame,) if self._stretcher is None else self._stretcher.push(frame):
            self._send(self._resampler.resample(part))

    def _drain(self) -> None:
        """Have what stretcher and resampler hold back encoded."""
        if self._resampler is None:
            return
        for part in () if self._stretcher is None else self._stretcher.push(None):
            self._send(self._resampler.resample(part))
        self._send(self._resampler.resample(None))

    def _new_resampler(self) -> AudioResampler:
        self._output.start_encoding()  # the size of the encoder's frames is known from then on
        context = self._target.codec_context
        return AudioResampler(
            context.format, context.layout, context.sample_rate, frame_size=context.frame_size or 1024
        )

    def _send(self, frames: Iterable[av.AudioFrame]) -> None:
        for frame in frames:
            frame.pts = (self._begin or 0) + self._samples
            frame.time_base = Fraction(1, self._target.codec_context.sample_rate)
            self._samples += frame.samples
            for packet in self._target.encode(frame):
                self._mux(packet)

    def _place(self, frame: av.AudioFrame) -> None:
        """Where the sound begins; after a gap, that what follows is later."""
        rate = self._target.codec_context.sample_rate
        if frame.pts is not None or self._begin is None:
            time = (frame.pts or 0) * (frame.time_base or Fraction(1)) + self._shift - self._offset
            time *= self._slowdown
            if self._begin is None:
                self._begin = round(time * rate)
            missing = time - (Fraction(self._begin, rate) + self._read)
            if missing > _LONGEST_SLIP:
                self._begin += round(missing * rate)
        self._read += Fraction(frame.samples, frame.sample_rate) * self._slowdown


def decodes(source: Path, index: int) -> bool:
    """Whether anything at all comes out of the first packets of a track."""
    with open_video(source) as container:
        for packet in islice(container.demux(container.streams[index]), _TRIED):
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
    return False


def _rate(encoder: str, wanted: int) -> int:
    """The sampling rate that an encoder takes and that is nearest; above it, if two are."""
    rates = av.Codec(encoder, "w").audio_rates or [wanted]
    return min(rates, key=lambda rate: (abs(rate - wanted), -rate))


def _layout(encoder: str, stream: AudioStream) -> str:
    """The channels of the source if the encoder takes them, else their usual arrangement, else 5.1 or stereo."""
    for name in (stream.layout.name, USUAL_LAYOUTS.get(stream.layout.nb_channels), _most(stream.layout.nb_channels)):
        if name is not None and _takes(encoder, name):
            return name
    return "stereo"


def _most(channels: int) -> str | None:
    """What is left of more channels than an encoder takes."""
    return "5.1" if channels > 6 else None


def _takes(encoder: str, layout: str) -> bool:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)
    try:
        context.sample_rate, context.layout, context.format = 48_000, layout, _first_format(encoder)
        context.time_base = Fraction(1, 48_000)
        context.open(strict=False)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _first_format(encoder: str) -> str:
    formats = av.Codec(encoder, "w").audio_formats
    return formats[0].name if formats else "s16"
