"""A video file as a sink of frames."""

from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from rdvfi.media.codecs import TICKS
from rdvfi.media.colour import Converter
from rdvfi.media.encoding import Encoding
from rdvfi.media.palette import Palette
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.track_writers import track_tags
from rdvfi.media.tracks import Tracks
from rdvfi.media.writer import Sink

_FINEST_TICK = Fraction(1, 1_000_000_000)
"""Encoders hold time bases in 32 bits, libvpx up to 10^9."""

_CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})
"""Metadata that describes the source file itself, not what it shows."""

_TAGS = {"libx265": "hvc1", "hevc_nvenc": "hvc1", "hevc_qsv": "hvc1", "hevc_videotoolbox": "hvc1"}
"""Code of HEVC in MP4 and MOV that QuickTime and Safari play; FFmpeg's default they refuse."""


class VideoSink(Sink):
    """Encodes a video track with exact timestamps and takes the source's other tracks along.

    Timestamps are counted in ``tick``, in which every one of them is whole. MP4 and MOV keep
    them exactly; Matroska and WebM round each to a millisecond, without adding up.
    """

    def __init__(
        self,
        container: OutputContainer,
        info: SourceInfo,
        encoding: Encoding,
        *,
        destination: Path,
        tick: Fraction,
        rate: Fraction,
        audio: bool,
    ) -> None:
        suffix = destination.suffix.lower()
        self._container, self._encoding, self._suffix = container, encoding, suffix
        self._tick = max(tick, _FINEST_TICK)
        if suffix in (".avi", ".apng"):
            self._tick = 1 / rate  # such files count frames
        elif suffix == ".gif":
            self._tick = Fraction(1, 100)
        self._coarsest = TICKS.get(suffix, self._tick)
        self._palette = Palette(encoding.width, encoding.height, self._tick) if suffix == ".gif" else None
        self._converter = Converter(info.colour, deep=info.layout.deep, headroom=info.headroom)
        self._stream = self._add_stream(info, rate)
        self._durations: deque[tuple[int, int]] = deque()
        self._held: av.Packet | None = None
        self._first_dts: int | None = None
        self._start: int | None = None
        self._last: int | None = None
        self._end = 0
        tags = {k: v for k, v in info.metadata.items() if k.lower() not in _CONTAINER_TAGS}
        container.metadata.update(tags)
        self._tracks = Tracks(info.media, container, suffix, offset=info.offset, audio=audio)
        self.notes = [*encoding.notes, *self._tracks.notes]

    def _add_stream(self, info: SourceInfo, rate: Fraction) -> VideoStream:
        encoding = self._encoding
        stream = self._container.add_stream(encoding.codec.encoder, rate=rate, options=encoding.options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = encoding.width, encoding.height
        context.pix_fmt = encoding.form.name
        # The encoder's own time base: a rate alone rounds timestamps to whole frames.
        context.time_base = self._tick
        if info.layout.aspect is not None:
            context.sample_aspect_ratio = info.layout.aspect
        if encoding.codec.encoder in _TAGS and self._suffix in (".mp4", ".m4v", ".mov"):
            context.codec_tag = _TAGS[encoding.codec.encoder]
        rgb = encoding.form.chroma == "rgb"
        colour = replace(info.colour, matrix=0, full_range=True) if rgb else info.colour
        colour.tag(context)
        stream.metadata.update(track_tags(info.video_metadata))
        return stream

    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Encode one frame, and write other tracks up to its time.

        Raises:
            ValueError: If the container cannot hold its time.
        """
        pts = round(moment.time / self._tick)
        if self._last is not None and round(pts * self._tick / self._coarsest) <= self._last:
            raise ValueError(
                f"two frames would be shown at {float(moment.time):.4f} s: {self._suffix} files count time in steps "
                f"of {float(self._coarsest) * 1000:g} ms; make fewer frames, or choose .mp4"
            )
        self._last = round(pts * self._tick / self._coarsest)
        frame = self._frame(pixels)
        frame.pts, frame.time_base = pts, self._tick
        # A frame keeps the picture type of its source, which would force the encoder's hand.
        frame.pict_type = 0
        self._start = pts if self._start is None else self._start
        self._end = round((moment.time + moment.duration) / self._tick)
        self._durations.append((pts, max(1, self._end - pts)))
        self._mux(self._stream.encode(frame))
        self._tracks.advance(moment.time)

    def _frame(self, pixels: Pixels) -> av.VideoFrame:
        fitted = self._encoding.fitted(pixels)
        if self._palette is not None:
            return self._palette.reduced(self._converter.from_rgb(fitted, "rgb24"))
        return self._converter.from_rgb(fitted, self._encoding.form.name)

    def finish(self) -> None:
        """Flush the encoder and write the rest of the other tracks."""
        self._mux(self._stream.encode(None))
        self._mux_last()
        self._tracks.finish()

    def close(self) -> None:
        """Release the source of the other tracks."""
        self._tracks.close()

    def _mux(self, packets: list[av.Packet]) -> None:
        """Write packets with their durations; the latest waits, for it may be the last."""
        for packet in packets:
            packet.duration = self._take_duration(packet.pts)
            packet.time_base = self._tick
            if self._first_dts is None:
                self._first_dts = packet.dts
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet

    def _mux_last(self) -> None:
        """Write the last packet in the order of decoding, which is seldom the last one shown.

        MP4 adds up durations in that order; the sum must be the time for which frames are shown.
        """
        packet, first, start = self._held, self._first_dts, self._start
        if packet is None:
            return
        if packet.dts is not None and first is not None and start is not None:
            packet.duration = max(1, (self._end - start) - (packet.dts - first))
        self._container.mux(packet)

    def _take_duration(self, pts: int | None) -> int:
        """The duration of the frame with this timestamp; encoders reorder frames."""
        for i, (time, duration) in enumerate(self._durations):
            if time == pts:
                del self._durations[i]
                return duration
        if self._encoding.codec.encoder == "libwebp_anim":  # one packet holds all frames
            return self._end
        raise RuntimeError(f"the encoder returned a frame at {pts}, which was not given to it")
