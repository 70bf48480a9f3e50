"""A video file as a source of frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path

import av
import av.error
import torch
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from rdvfi.media.colour import Converter
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.pixels import Pixels
from rdvfi.media.planes import Planes
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, SourceInfo, skip_before
from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.deinterlace import Deinterlacer, StampedFrame
from rdvfi.media.video_files.hardware import create_hwaccel
from rdvfi.media.video_files.packets import Damage, PacketReader
from rdvfi.media.video_files.probe import (
    StreamScan,
    TimestampSource,
    decode_first_frames,
    decode_packet,
    open_video,
    read_index,
    scan_packets,
    select_decoder,
    video_stream,
)
from rdvfi.media.video_files.video_track import is_transparent, track_info

_PROBED_FRAMES = 12
"""Frames that are decoded before the work, to see whether the video is interlaced or transparent."""


class VideoSource(Source):
    """The video track of a file, decoded as a stream.

    A frame without a timestamp follows the one before by one nominal frame duration. A frame whose time is not
    later than that of the one before is skipped, since no player would show it. Damaged frames are skipped, so that
    the frames around them become neighbours. `notes` reports both.

    Raises:
        ValueError: If it is no video, or is damaged and ``options.strict``.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path, self._options = path, options
        probed_frames, aspect = decode_first_frames(path, _PROBED_FRAMES, max_pixels=options.max_pixels)
        first = probed_frames[0]
        self._orientation = Orientation.from_frame(first)
        self._stored_size = (first.width, first.height)
        self._interlaced = options.deinterlace != "off" and any(frame.interlaced_frame for frame in probed_frames)
        alpha = options.alpha and any(is_transparent(frame) for frame in probed_frames)
        with open_video(path) as container:
            stream = video_stream(container, path)
            self._scan = scan_packets(container, stream, path)
            self._damage = Damage(list(self._scan.damage.error_times), self._scan.damage.truncation)
            self._discontinuous = PacketReader(container, Damage()).may_be_discontinuous
            # VP8 has packets without a frame, and interlaced video may have two packets per frame.
            vp8 = stream.codec_context.codec.canonical_name == "vp8"
            self._one_frame_per_packet = not self._interlaced and not vp8
            self._refuse_damage_if_strict()
            self.info = self._describe(stream, first, aspect, alpha)
        self._resized_frames = self._non_monotonic_frames = 0
        self._keeps_planes = False
        self._hwaccel: HWAccel | None = None
        self._file_size = path.stat().st_size
        self._background = BackgroundCompositor(self.info.layout.alpha, options.background)
        self._deinterlacer = Deinterlacer(options.deinterlace, self._scan.tick)

    def _refuse_damage_if_strict(self) -> None:
        if self._options.strict and self._damage:
            raise ValueError(f"{self._path} is damaged: {self._damage.describe()}")
        if self._options.strict and self._scan.missing is not None:
            raise ValueError(self._missing_frames_note())

    def _describe(self, stream: VideoStream, first: av.VideoFrame, aspect: Fraction | None, alpha: bool) -> SourceInfo:
        scan = self._scan
        origin = _zero_time(scan) // scan.tick * scan.tick
        # An overflowing clock of a transport stream may put the start before zero; with keep_start it becomes zero.
        offset = min(Fraction(0), origin) if self._options.keep_start else origin
        return track_info(
            stream,
            first,
            aspect,
            self._options,
            alpha=alpha,
            name=str(self._path),
            frames=scan.frames,
            span=scan.span,
            tick=scan.tick,
            metadata=dict(stream.container.metadata),
            disposition=stream.disposition,
            media=self._path,
            shortest_step=scan.shortest_step,
            fits_mean_rate=scan.fits_mean_rate,
            offset=offset,
        )

    def notes(self) -> list[str]:
        notes = list(self.info.notes)
        if self._damage:
            notes.append(f"{self._path} is damaged; frames that could be decoded were used: {self._damage.describe()}")
        if self._scan.missing is not None:
            notes.append(self._missing_frames_note())
        if not self._orientation.exact:
            notes.append(f"{self._path} asks for a rotation or scale that is not applied: only quarter turns are")
        notes += self._deinterlacer.notes(str(self._path))
        notes += self._background.notes(str(self._path))
        if self._non_monotonic_frames:
            notes.append(
                f"{self._non_monotonic_frames} frames of {self._path} were skipped: "
                "their timestamps are not later than those of the frames before"
            )
        if self._resized_frames:
            notes.append(
                f"{self._path} changes its frame size: {self._resized_frames} frames were scaled to "
                f"{self.info.width}x{self.info.height}"
            )
        return notes

    def _missing_frames_note(self) -> str:
        assert self._scan.missing is not None
        count, first_time = self._scan.missing
        plural = "frame seems" if count == 1 else "frames seem"
        return f"{count} {plural} to be missing in {self._path}, from {float(first_time):.2f} s on"

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """Decode the stream; the last frame has the duration that the file gives it."""
        if since is None:
            yield from self._decode(None)
            return
        started = False
        for frame in skip_before(self._decode(since), since) if self.seekable else ():
            if not started and frame.stamp.time > since:
                break  # seeking ended behind the frame
            started = True
            yield frame
        if not started:
            yield from skip_before(self._decode(None), since)

    @property
    def seekable(self) -> bool:
        """See `Source.seekable`; a deinterlaced frame depends on those before it."""
        irregular = self._damage or self._resized_frames or self._non_monotonic_frames or self._discontinuous
        deinterlaced = self._interlaced or self._deinterlacer.used
        return not irregular and not deinterlaced and self._scan.timestamp_source is TimestampSource.PTS

    def use_device(self, device: torch.device) -> None:
        """See `Source.use_device`; interlaced and transparent frames are converted to RGB on the CPU."""
        self._keeps_planes = not (self.info.layout.alpha or self._interlaced or self._options.deinterlace == "on")
        if self._keeps_planes and self._hwaccel is None and device.type == "cuda":
            self._hwaccel = create_hwaccel(self._path, device)

    def stamps(self) -> list[Stamp] | None:
        times = read_index(self._path).times if self.seekable else ()
        if not times:
            return None
        starts = [time * self._scan.tick - self.info.offset for time in times]
        ends = [*starts[1:], starts[-1] + self._scan.nominal_duration]
        return [Stamp(start, end - start) for start, end in zip(starts, ends, strict=True)]

    def _decode(self, since: Fraction | None) -> Iterator[SourceFrame]:
        """Frames from the first on, or from the keyframe before a time."""
        damage, pending = Damage() if since is None else self._damage, None
        converter = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        with open_video(self._path, self._hwaccel) as container, _translate_read_errors(self._path):
            if since is not None:
                stream = video_stream(container, self._path)
                container.seek(int((since + self.info.offset) // self._scan.tick), stream=stream)
            count = 0
            for frame, stamp in self._deinterlacer.process(self._decode_stamped(container, damage)):
                if pending is not None:
                    yield pending
                pending, count = self._to_source_frame(converter, frame, stamp), count + 1
        if pending is not None:
            time, end = pending.stamp.time, (self._scan.end or Fraction(0)) - self.info.offset
            # Where frames are reordered, the durations in a file follow the order of decoding.
            yield pending.with_stamp(Stamp(time, end - time)) if end > time else pending
        if since is None:
            self._record_damage(damage, count)

    def _record_damage(self, damage: Damage, count: int) -> None:
        """Add the damage of a whole pass, which decoded ``count`` frames, to that of the scan."""
        self._damage.error_times = sorted({*self._damage.error_times, *damage.error_times})
        shortened = self._path.stat().st_size < self._file_size
        missing = max(0, self._scan.frames - count - self._non_monotonic_frames)
        tolerated = 1 if self._one_frame_per_packet else self._scan.frames
        self._damage.missing_frames = missing if self._damage or shortened or missing > tolerated else 0
        if self._damage.missing_frames and self._options.strict:
            reason = "became shorter while it was read" if shortened else "is damaged"
            raise ValueError(f"{self._path} {reason}: {self._damage.describe()}")

    def _decode_stamped(self, container: InputContainer, damage: Damage) -> Iterator[StampedFrame]:
        stream = video_stream(container, self._path)
        decoder = select_decoder(stream)
        if self._hwaccel is None:
            decoder.thread_type = "AUTO"
        last: Fraction | None = None
        self._non_monotonic_frames = 0
        decoding_times: list[Fraction] = []
        for packet, shift in PacketReader(container, damage):
            if packet.stream.index != stream.index:
                continue
            if packet.dts is not None and packet.size > 0:
                heappush(decoding_times, packet.dts * packet.time_base + shift)
            _shift_timestamps(packet, shift)
            errors = len(damage.error_times)
            frames = decode_packet(decoder, packet, damage, last or Fraction(0))
            for _ in range(min(len(decoding_times), len(damage.error_times) - errors)):
                heappop(decoding_times)  # the time of a frame that could not be decoded
            for frame in frames:
                time = self._frame_time(frame, heappop(decoding_times) if decoding_times else None, last)
                if last is None or time > last:
                    last = time
                    yield frame, Stamp(time - self.info.offset, self._frame_duration(frame))
                else:
                    self._non_monotonic_frames += 1
            if self._options.strict and damage:
                raise ValueError(f"{self._path} is damaged: {damage.describe()}")

    def _frame_time(self, frame: av.VideoFrame, dts: Fraction | None, last: Fraction | None) -> Fraction:
        """When a frame is shown; ``dts`` is the earliest unused decoding time, ``last`` that of the frame before."""
        source, tick = self._scan.timestamp_source, self._scan.tick
        if source is TimestampSource.PTS and frame.pts is not None and frame.time_base is not None:
            return frame.pts * frame.time_base
        if source is TimestampSource.DTS and dts is not None:
            return dts
        if last is None:
            return Fraction(0)
        return last + max(1, round(self._scan.nominal_duration / tick)) * tick

    def _frame_duration(self, frame: av.VideoFrame) -> Fraction:
        if self._scan.timestamp_source is TimestampSource.PTS and frame.duration and frame.time_base is not None:
            return frame.duration * frame.time_base
        return self._scan.nominal_duration

    def _to_source_frame(self, converter: Converter, frame: av.VideoFrame, stamp: Stamp) -> SourceFrame:
        """A frame with its planes, if they are to be kept and it has the size of the first one, else as RGB."""
        planes = None
        if self._keeps_planes and (frame.width, frame.height) == self._stored_size:
            info, deep = self.info, self.info.layout.deep
            planes = Planes.from_frame(frame, info.colour, self._orientation, headroom=info.headroom, deep=deep)
        if planes is None:
            return SourceFrame(self._to_pixels(converter, frame), stamp)
        # Called later, maybe on another thread, so it needs a converter of its own.
        own = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        return SourceFrame(lambda: self._to_pixels(own, frame), stamp, planes)

    def _to_pixels(self, converter: Converter, frame: av.VideoFrame) -> Pixels:
        """The upright picture, composited if the output has no alpha, in the size of the first frame."""
        width, height = self._stored_size
        if (frame.width, frame.height) != self._stored_size:
            change = f"{self._path} changes its frame size from {width}x{height} to {frame.width}x{frame.height}"
            if self._options.strict or frame.format.name == "cuda":
                raise ValueError(f"{change}; {'one size is expected' if self._options.strict else 'use hwaccel=off'}")
            self._resized_frames += 1
            frame = frame.reformat(width=width, height=height, interpolation="BICUBIC")
        return self._orientation.apply(self._background.compose(converter.to_rgb(frame)))


@contextmanager
def _translate_read_errors(path: Path) -> Iterator[None]:
    """Raise errors of FFmpeg as ``ValueError`` that names the file."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _zero_time(scan: StreamScan) -> Fraction:
    """The time of a file that becomes zero: that of its first frame or first audio, whichever comes first.

    Audio before zero does not count: encoders put it there for decoders to warm up.
    """
    if scan.first < 0 or scan.first_audio is None:
        return scan.first
    return max(Fraction(0), min(scan.first, scan.first_audio))


def _shift_timestamps(packet: av.Packet, shift: Fraction) -> None:
    ticks = round(shift / packet.time_base) if shift else 0
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
