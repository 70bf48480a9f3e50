"""Transcoding of audio that the output container cannot hold."""

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

from rdvfi.media.other_tracks.stretching import TimeStretcher
from rdvfi.media.other_tracks.track_writers import DEFAULT_LAYOUTS, TrackWriter, track_tags
from rdvfi.media.video_files.probe import open_video

_MAX_GAP = Fraction(1, 10)
"""Seconds of audio that may be missing before what follows is moved to its time."""
_BITRATE_PER_CHANNEL = 96_000
"""Bits per second, for lossy encoders."""
_LOSSLESS = frozenset({"flac"})
_MAX_TRIED_PACKETS = 100
"""Packets that are tried before a track counts as one that cannot be decoded."""


class AudioTranscoder(TrackWriter):
    """Decodes and encodes audio, with its channels and sample rate if the encoder takes them.

    It becomes ``slowdown`` times longer, at the same pitch.

    Raises:
        ValueError: If it cannot be decoded, or the output cannot hold such audio.
    """

    def __init__(
        self, stream: Stream, output: OutputContainer, encoder: str, offset: Fraction, *, slowdown: Fraction
    ) -> None:
        assert isinstance(stream, AudioStream)
        super().__init__(stream, output, offset)
        self._decoder, self._shift = stream.codec_context, Fraction(0)
        self.layout, rate = _choose_layout(encoder, stream), _choose_rate(encoder, stream.codec_context.sample_rate)
        target = output.add_stream(encoder, rate=rate, layout=self.layout)
        assert isinstance(target, AudioStream)
        self._target = target
        self.channels = target.codec_context.layout.nb_channels
        target.codec_context.time_base = Fraction(1, rate)
        if encoder not in _LOSSLESS:
            target.codec_context.bit_rate = _BITRATE_PER_CHANNEL * max(1, self.channels)
        target.metadata.update(track_tags(stream.metadata, output.format.name))
        target.disposition = stream.disposition
        self._slowdown = slowdown
        self._stretcher: TimeStretcher | None = None
        self._resampler: AudioResampler | None = None
        self._input_format: tuple[str, str, int] | None = None
        self._first_sample: int | None = None
        """Time of the first sample in samples of the output, moved on by gaps since."""
        self._samples_out = 0
        self._seconds_in = Fraction(0)
        """Duration of the audio so far, at the speed of the output."""

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        self._shift = shift
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged_packets += 1
            return  # leaves a gap; what follows keeps its time
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
            self._flush_filters()
            for packet in self._target.encode(None):
                self._mux(packet)

    def _encode(self, frame: av.AudioFrame) -> None:
        input_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        if input_format != self._input_format:  # at the start, and where a broadcast changes from stereo to surround
            self._flush_filters()
            self._resampler, self._input_format = self._create_resampler(), input_format
            self._stretcher = None if self._slowdown == 1 else TimeStretcher(frame, self._slowdown)
        assert self._resampler is not None
        self._follow_gaps(frame)
        frame.pts = None  # samples are counted: the resampler would fill small gaps of old recordings with clicks
        for part in (frame,) if self._stretcher is None else self._stretcher.push(frame):
            self._encode_resampled(self._resampler.resample(part))

    def _flush_filters(self) -> None:
        """Encode what stretcher and resampler hold back."""
        if self._resampler is None:
            return
        for part in () if self._stretcher is None else self._stretcher.push(None):
            self._encode_resampled(self._resampler.resample(part))
        self._encode_resampled(self._resampler.resample(None))

    def _create_resampler(self) -> AudioResampler:
        self._output.start_encoding()  # opens the encoder, which sets its frame size
        context = self._target.codec_context
        return AudioResampler(
            context.format, context.layout, context.sample_rate, frame_size=context.frame_size or 1024
        )

    def _encode_resampled(self, frames: Iterable[av.AudioFrame]) -> None:
        for frame in frames:
            frame.pts = (self._first_sample or 0) + self._samples_out
            frame.time_base = Fraction(1, self._target.codec_context.sample_rate)
            self._samples_out += frame.samples
            for packet in self._target.encode(frame):
                self._mux(packet)

    def _follow_gaps(self, frame: av.AudioFrame) -> None:
        """Set the start of the audio by its first frame, and move it on at each gap."""
        rate = self._target.codec_context.sample_rate
        if frame.pts is not None or self._first_sample is None:
            time = (frame.pts or 0) * (frame.time_base or Fraction(1)) + self._shift - self._offset
            time *= self._slowdown
            if self._first_sample is None:
                self._first_sample = round(time * rate)
            gap = time - (Fraction(self._first_sample, rate) + self._seconds_in)
            if gap > _MAX_GAP:
                self._first_sample += round(gap * rate)
        self._seconds_in += Fraction(frame.samples, frame.sample_rate) * self._slowdown


def can_decode(source: Path, index: int) -> bool:
    """Whether any of the first packets of a track can be decoded."""
    with open_video(source) as container:
        for packet in islice(container.demux(container.streams[index]), _MAX_TRIED_PACKETS):
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
    return False


def _choose_rate(encoder: str, wanted: int) -> int:
    """The nearest sample rate that an encoder takes; the higher of two that are equally near."""
    rates = av.Codec(encoder, "w").audio_rates or [wanted]
    return min(rates, key=lambda rate: (abs(rate - wanted), -rate))


def _choose_layout(encoder: str, stream: AudioStream) -> str:
    """The first channel layout that an encoder takes: the source's, the default of as many channels, 5.1, stereo."""
    channels = stream.layout.nb_channels
    for layout in (stream.layout.name, DEFAULT_LAYOUTS.get(channels), "5.1" if channels > 6 else None):
        if layout is not None and _takes_layout(encoder, layout):
            return layout
    return "stereo"


def _takes_layout(encoder: str, layout: str) -> bool:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)
    formats = av.Codec(encoder, "w").audio_formats
    try:
        context.sample_rate, context.layout = 48_000, layout
        context.format = formats[0].name if formats else "s16"
        context.time_base = Fraction(1, 48_000)
        context.open(strict=False)
    except (av.error.FFmpegError, ValueError):
        return False
    return True
