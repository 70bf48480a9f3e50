"""A video file as a source of frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path

import av
import av.error
import torch
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from rdvfi.media.colour import Converter
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.pixels import Pixels
from rdvfi.media.planes import Planes
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, skip_before
from rdvfi.media.timestamps import Stamp
from rdvfi.media.video_files.deinterlace import Deinterlacing, Timed
from rdvfi.media.video_files.hardware import create_hwaccel
from rdvfi.media.video_files.packets import Damage, Packets
from rdvfi.media.video_files.probe import (
    Clock,
    Scan,
    decode,
    decoder_of,
    first_frames,
    open_video,
    read_index,
    scan,
    video_stream,
)
from rdvfi.media.video_files.video_track import describe_track, is_transparent

_LOOK = 12
"""Frames that are looked at before the work."""


class VideoSource(Source):
    """The video track of a file, decoded as a stream.

    A frame without a timestamp follows the one before by one nominal frame; a frame that is not
    later than the one before is never seen by a viewer: it is left out, and told. What is damaged is passed
    over, so that the frames around it are neighbours, and told in `notes`.

    Raises:
        ValueError: If it is no video, or damaged and ``options.strict``.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path, self._options = path, options
        looked, aspect = first_frames(path, _LOOK, max_pixels=options.max_pixels)
        first = looked[0]
        self._orientation = Orientation.from_frame(first)
        self._stored = (first.width, first.height)
        self._interlaced = options.deinterlace != "off" and any(frame.interlaced_frame for frame in looked)
        with open_video(path) as container:
            stream = video_stream(container, path)
            self._scan = scan(container, stream, path)
            self._jumps = Packets(container, Damage()).may_jump
            self._damage = Damage(list(self._scan.damage.times), self._scan.damage.ends)
            # Of VP8 there are packets without a frame, and of interlaced film two for one.
            self._one_each = not self._interlaced and stream.codec_context.codec.canonical_name != "vp8"
            if options.strict and self._damage:
                raise ValueError(f"{path} is damaged: {self._damage.describe()}")
            if options.strict and self._scan.absent is not None:
                raise ValueError(self._absent())
            self.info = describe_track(
                stream,
                first,
                aspect,
                options,
                alpha=options.alpha and any(is_transparent(frame) for frame in looked),
                name=str(path),
                frames=self._scan.frames,
                span=self._scan.span,
                tick=self._scan.tick,
                metadata=dict(container.metadata),
                disposition=stream.disposition,
                media=path,
                shortest_step=self._scan.shortest_step,
                fits_mean_rate=self._scan.fits_mean_rate,
                offset=self._offset(),
            )
        self._resized = self._unseen = 0
        self._keeps_planes = False
        self._hardware: HWAccel | None = None
        self._size = path.stat().st_size
        self._backdrop = BackgroundCompositor(self.info.layout.alpha, options.background)
        self._deinterlacing = Deinterlacing(options.deinterlace, self._scan.tick)

    def _offset(self) -> Fraction:
        """The time of the file that becomes zero, in whole ticks."""
        origin = _origin(self._scan) // self._scan.tick * self._scan.tick
        # No file begins before zero, as the clock of a transport stream that overflows does.
        return min(Fraction(0), origin) if self._options.keep_start else origin

    def notes(self) -> list[str]:
        notes = list(self.info.notes)
        if self._damage:
            notes.append(f"{self._path} is damaged, and what there is was used: {self._damage.describe()}")
        if self._scan.absent is not None:
            notes.append(self._absent())
        if not self._orientation.exact:
            notes.append(f"{self._path} is to be shown at an angle or scaled; only quarter turns are done")
        notes += self._deinterlacing.notes(str(self._path))
        notes += self._backdrop.notes(str(self._path))
        if self._unseen:
            notes.append(f"{self._unseen} frames of {self._path} are not later than the one before, and are left out")
        if self._resized:
            notes.append(
                f"{self._path} changes its frame size: {self._resized} frames were scaled to "
                f"{self.info.width}x{self.info.height}"
            )
        return notes

    def _absent(self) -> str:
        count, due = self._scan.absent or (0, 0)
        plural = "frame seems" if count == 1 else "frames seem"
        return f"{count} {plural} to be missing in {self._path}, from {float(due):.2f} s on"

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """Decode the stream, the last frame with its true duration."""
        if since is None:
            yield from self._decoded(None)
            return
        begun = False
        for frame in skip_before(self._decoded(since), since) if self.seekable else ():
            if not begun and frame.stamp.time > since:
                break  # the index led past it
            begun = True
            yield frame
        if not begun:
            yield from skip_before(self._decoded(None), since)

    @property
    def seekable(self) -> bool:
        """See `Source.seekable`; deinterlacing looks at frames before."""
        met = self._damage or self._resized or self._unseen or self._interlaced or self._deinterlacing.used
        return not met and self._scan.clock is Clock.SHOWN and not self._jumps

    def use_device(self, device: torch.device) -> None:
        """See `Source.use_device`; interlaced and transparent frames are converted as ever."""
        self._keeps_planes = not (self.info.layout.alpha or self._interlaced or self._options.deinterlace == "on")
        if self._keeps_planes and self._hardware is None and device.type == "cuda":
            self._hardware = create_hwaccel(self._path, device)

    def stamps(self) -> list[Stamp] | None:
        times = read_index(self._path).times if self.seekable else ()
        if not times:
            return None
        shown = [time * self._scan.tick - self.info.offset for time in times]
        return [Stamp(time, after - time) for time, after in pairwise([*shown, shown[-1] + self._scan.nominal])]

    def _decoded(self, since: Fraction | None) -> Iterator[SourceFrame]:
        """Frames from the first on, or from the keyframe before a time."""
        found, held = Damage() if since is None else self._damage, None
        converter = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        with open_video(self._path, self._hardware) as container, _reading(self._path):
            if since is not None:
                stream = video_stream(container, self._path)
                container.seek(int((since + self.info.offset) // self._scan.tick), stream=stream)
            count = 0
            timed = self._timed(container, found)
            for frame, stamp in self._deinterlacing.whole(timed):
                if held is not None:
                    yield held
                held, count = self._converted(converter, frame, stamp), count + 1
        if held is not None:
            time, end = held.stamp.time, (self._scan.end or Fraction(0)) - self.info.offset
            # Where frames are reordered, a file's frame durations are in the order of decoding.
            yield held.with_stamp(Stamp(time, end - time)) if end > time else held
        if since is None:
            self._conclude(found, count)

    def _conclude(self, found: Damage, count: int) -> None:
        """Keep what was met on the way."""
        self._damage.times = sorted({*self._damage.times, *found.times})
        cut = self._path.stat().st_size < self._size
        missing, few = max(0, self._scan.frames - count - self._unseen), 1 if self._one_each else self._scan.frames
        self._damage.missing = missing if self._damage or cut or missing > few else 0
        if self._damage.missing and self._options.strict:
            what = "became shorter while it was read" if cut else "is damaged"
            raise ValueError(f"{self._path} {what}: {self._damage.describe()}")

    def _timed(self, container: InputContainer, found: Damage) -> Iterator[Timed]:
        """Frames as they are stored, each with its time."""
        stream = video_stream(container, self._path)
        decoder = decoder_of(stream)
        if self._hardware is None:
            decoder.thread_type = "AUTO"
        last: Fraction | None = None
        self._unseen = 0
        due: list[Fraction] = []
        for packet, shift in Packets(container, found):
            if packet.stream.index != stream.index:
                continue
            if packet.dts is not None and packet.size > 0:
                heappush(due, packet.dts * packet.time_base + shift)
            _move(packet, shift)
            lost = len(found.times)
            frames = decode(decoder, packet, found, last or Fraction(0))
            for _ in range(min(len(due), len(found.times) - lost)):
                heappop(due)  # the time of a frame that cannot be shown
            for frame in frames:
                time = self._time(frame, heappop(due) if due else None, last)
                if last is None or time > last:
                    last = time
                    yield frame, Stamp(time - self.info.offset, self._duration(frame))
                else:
                    self._unseen += 1
            if self._options.strict and found:
                raise ValueError(f"{self._path} is damaged: {found.describe()}")

    def _time(self, frame: av.VideoFrame, due: Fraction | None, last: Fraction | None) -> Fraction:
        """When a frame is shown; ``due`` is the earliest time of decoding that is not yet used."""
        clock, tick = self._scan.clock, self._scan.tick
        if clock is Clock.SHOWN and frame.pts is not None and frame.time_base is not None:
            return frame.pts * frame.time_base
        if clock is Clock.DECODED and due is not None:
            return due
        if last is None:
            return Fraction(0)
        return last + max(1, round(self._scan.nominal / tick)) * tick

    def _duration(self, frame: av.VideoFrame) -> Fraction:
        if self._scan.clock is Clock.SHOWN and frame.duration and frame.time_base is not None:
            return frame.duration * frame.time_base
        return self._scan.nominal

    def _converted(self, converter: Converter, frame: av.VideoFrame, stamp: Stamp) -> SourceFrame:
        """A frame for the model: its planes, if it is like the first one, or RGB."""
        planes = None
        if self._keeps_planes and (frame.width, frame.height) == self._stored:
            info = self.info
            planes = Planes.from_frame(
                frame, info.colour, self._orientation, headroom=info.headroom, deep=info.layout.deep
            )
        if planes is None:
            return SourceFrame(self._upright(converter, frame), stamp)
        own = Converter(self.info.colour, deep=self.info.layout.deep, headroom=self.info.headroom)
        return SourceFrame(lambda: self._upright(own, frame), stamp, planes)

    def _upright(self, converter: Converter, frame: av.VideoFrame) -> Pixels:
        if (frame.width, frame.height) != self._stored:
            if self._options.strict:
                raise ValueError(
                    f"{self._path} changes its frame size from {self._stored[0]}x{self._stored[1]} to "
                    f"{frame.width}x{frame.height}; one size is expected"
                )
            if frame.format.name == "cuda":
                raise ValueError(
                    f"{self._path} changes its frame size to {frame.width}x{frame.height}; use hwaccel=off"
                )
            self._resized += 1
            frame = frame.reformat(width=self._stored[0], height=self._stored[1], interpolation="BICUBIC")
        return self._orientation.apply(self._backdrop.show(converter.to_rgb(frame)))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of FFmpeg inside are those of reading a file; ``ValueError`` is raised in their place."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _origin(found: Scan) -> Fraction:
    """The time of a file that becomes zero: its first frame or sound, whichever comes first.

    Sound before zero, which some encoders put there to warm up the decoder, does not count.
    """
    if found.first < 0 or found.first_sound is None:
        return found.first
    return max(Fraction(0), min(found.first, found.first_sound))


def _move(packet: av.Packet, shift: Fraction) -> None:
    """Move the times of a packet by so many seconds."""
    ticks = round(shift / packet.time_base) if shift else 0
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
