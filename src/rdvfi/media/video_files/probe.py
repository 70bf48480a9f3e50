"""Properties of a video file, found by reading its packets once without decoding.

A ten-minute video takes a third of a second, and a damaged or truncated file is found before an hour's work
instead of after it.
"""

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from rdvfi.media.video_files.frame_times import FrameTimes, MissingFrames
from rdvfi.media.video_files.packets import Damage, PacketReader

_MIN_TRUNCATION = Fraction(1, 4)
"""Seconds; a file that ends earlier than its header says by less than this is not truncated."""
_FORMATS_WITH_DURATION = ("mp4", "matroska", "avi", "mxf")
"""Formats whose header stores the duration; in others FFmpeg estimates it."""
_DTS_ONLY_FORMATS = frozenset({"avi", "asf"})
"""Formats in which what FFmpeg returns as presentation timestamps may be decoding timestamps."""
_PLAYLISTS = frozenset({"hls", "dash", "concat", "imf", "sdp", "applehttp"})
"""FFmpeg's formats that refer to other files."""
_TRANSPORT_STREAM_SUFFIXES = frozenset({".ts", ".mts", ".m2ts"})
"""FFmpeg recognises a transport stream by more packets than a video of two frames may have."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the alpha plane, by codec; FFmpeg's own decoders do not."""
_DEFAULT_RATE = Fraction(25)
"""Frames per second where the file does not say."""
_METADATA_OPTIONS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""PyAV 19 and newer always accept such tags."""


class TimestampSource(Enum):
    """Where the times of frames come from."""

    PTS = "pts"
    """Presentation timestamps."""
    DTS = "dts"
    """Decoding timestamps alone, as in AVI: the next frame in order of presentation has the earliest unused one."""
    RATE = "rate"
    """The frame rate, in files without timestamps such as a raw H.264 stream."""


@dataclass(frozen=True)
class StreamScan:
    """What the packets of a video stream say."""

    frames: int
    span: Fraction
    """Seconds from the first frame to the last."""
    timestamp_source: TimestampSource
    nominal_duration: Fraction
    """Seconds for which a frame is shown where the file does not say."""
    tick: Fraction
    """Timestamps are whole multiples of this many seconds."""
    shortest_step: Fraction
    """Shortest time from one frame to the next, in seconds."""
    first_audio: Fraction | None
    """When the first audio is played."""
    damage: Damage
    first: Fraction = Fraction(0)
    """When the first frame is shown."""
    end: Fraction | None = None
    """When the last frame ends, if the file says so."""
    fits_mean_rate: bool = True
    """See `FrameTimes.fits_mean_rate`."""
    missing: MissingFrames | None = None


def display_name(file: Path | BytesIO) -> str:
    """What error messages call a file."""
    return str(file) if isinstance(file, Path) else "the video"


def file_url(path: Path) -> str:
    """A path for FFmpeg, which would otherwise read what precedes a colon as a protocol."""
    return f"file:{path}"


def open_container(source: object, *, hwaccel: HWAccel | None = None, demuxer: str | None = None) -> InputContainer:
    """`av.open` for reading; tags that are not UTF-8 are no error."""
    return av.open(source, "r", format=demuxer, hwaccel=hwaccel, **_METADATA_OPTIONS)


def open_video(file: Path | BytesIO, hwaccel: HWAccel | None = None) -> InputContainer:
    """Open a video file, or its content; raises ValueError if it is not a video, or a playlist."""
    if not isinstance(file, Path):
        file.seek(0)
    source = file_url(file) if isinstance(file, Path) else file
    try:
        try:
            container = open_container(source, hwaccel=hwaccel)
        except av.error.EOFError:
            if not isinstance(file, Path) or file.suffix.lower() not in _TRANSPORT_STREAM_SUFFIXES:
                raise
            container = open_container(source, hwaccel=hwaccel, demuxer="mpegts")
    except av.error.FFmpegError as error:
        raise ValueError(f"{display_name(file)} is not a video that can be read: {_reason(file, error)}") from error
    refuse_playlist(container, display_name(file))
    return container


def refuse_playlist(container: InputContainer, name: str) -> None:
    """Close and refuse a playlist by ValueError, since opening a file must read no other one."""
    if _PLAYLISTS & set(container.format.name.split(",")):
        container.close()
        raise ValueError(f"{name} is a playlist that refers to other files; use those files as inputs")


def _reason(file: Path | BytesIO, error: av.error.FFmpegError) -> str:
    """The reason to show for an error: a missing MP4 index if that is the cause, else FFmpeg's message."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(12)
        if start[4:8] == b"ftyp":
            return "its index (moov) is missing, as in a recording that was cut off; an untrunc program may restore it"
    return str(error.strerror)


def video_stream(container: InputContainer, file: Path | BytesIO) -> VideoStream:
    """The video track that is marked as default, else the first one; never a cover picture."""
    cover = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise ValueError(f"{display_name(file)} has no video stream")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def nominal_frame_duration(stream: VideoStream) -> Fraction:
    """Seconds per frame by the frame rate of a stream, or 1/25 where it has none."""
    return 1 / (stream.average_rate or stream.guessed_rate or _DEFAULT_RATE)


@dataclass(frozen=True)
class VideoIndex:
    """Number and times of the frames of a video."""

    frames: int
    times: tuple[int, ...]
    """Presentation timestamps in rising order; empty if those of the file are not reliable."""


def read_index(file: Path | BytesIO) -> VideoIndex:
    """Read the packets of the video stream, without decoding them.

    Raises:
        ValueError: If it is not a video, or is damaged.
    """
    with open_video(file) as container:
        stream = video_stream(container, file)
        try:
            times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        except av.error.FFmpegError as error:
            raise ValueError(f"{display_name(file)} is damaged: {error.strerror}") from error
        distinct = {time for time in times if time is not None}
        reliable = len(distinct) == len(times) and container.format.name not in _DTS_ONLY_FORMATS
        return VideoIndex(len(times), tuple(sorted(distinct)) if reliable else ())


def check_size(stream: VideoStream, name: str, max_pixels: int) -> None:
    """Refuse a stream with larger frames by ValueError, before one is decoded."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise ValueError(
            f"{name} declares {width}x{height} pixels, more than max_pixels={max_pixels}; raise it if that is right"
        )


def decode_first_frames(path: Path, count: int, *, max_pixels: int) -> tuple[list[av.VideoFrame], Fraction | None]:
    """The first frames, and the pixel aspect ratio: the container's, else the stream's.

    Raises:
        ValueError: If no frame can be decoded, or frames have more than ``max_pixels``.
    """
    frames: list[av.VideoFrame] = []
    with open_video(path) as container:
        stream = video_stream(container, path)
        check_size(stream, str(path), max_pixels)
        decoder = select_decoder(stream)
        for packet, _ in PacketReader(container, Damage()):
            if packet.stream.index == stream.index:
                frames += decode_packet(decoder, packet, Damage(), Fraction(0))
            if len(frames) >= count:
                break
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or None
    if not frames:
        raise ValueError(f"{path} has no frame that can be decoded")
    return frames[:count], None if aspect is None else Fraction(aspect)


def select_decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a track: its own one, or one that reads the alpha plane if the track has one."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    alpha_decoder = _ALPHA_DECODERS.get(stream.codec_context.name) if tags.get("alpha_mode") == "1" else None
    if alpha_decoder is None or alpha_decoder not in av.codecs_available:
        return stream.codec_context
    decoder = av.CodecContext.create(alpha_decoder, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def decode_packet(decoder: VideoCodecContext, packet: av.Packet, damage: Damage, time: Fraction) -> list[av.VideoFrame]:
    """The intact frames of a packet; ``time`` is added to the damage for each one that cannot be decoded."""
    if packet.size == 0 and packet.pts is not None:  # repeats the frame before; a decoder would take it for the end
        return []
    try:
        frames = decoder.decode(packet)
    except av.error.FFmpegError:
        damage.error_times.append(time)
        return []
    intact = [frame for frame in frames if not frame.is_corrupt]
    damage.error_times += [time] * (len(frames) - len(intact))
    return intact


class _PacketCounter:
    """Statistics of the packets of all streams."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream, self._nominal = stream, nominal_frame_duration(stream)
        self.frames = 0
        self.pts, self.dts = FrameTimes(), FrameTimes()
        self.end = Fraction(0)
        """When the last packet of any stream ends, in seconds."""
        self.first_audio: Fraction | None = None

    def add(self, packet: av.Packet, shift: Fraction) -> None:
        is_video = packet.stream.index == self._stream.index
        if packet.size == 0:
            if is_video:  # Theora repeats a frame by an empty packet
                self.pts.add(packet.pts, packet.time_base, shift)
            return
        timestamp = packet.dts if packet.pts is None else packet.pts
        time = None if timestamp is None else timestamp * packet.time_base + shift
        if time is not None:
            self.end = max(self.end, time + ((packet.duration or 0) * packet.time_base or self._nominal))
        if is_video and not packet.is_discard:
            self.frames += 1
            self.pts.add(packet.pts, packet.time_base, shift)
            self.dts.add(packet.dts, packet.time_base, shift)
        elif packet.stream.type == "audio" and self.first_audio is None:
            self.first_audio = time


def scan_packets(container: InputContainer, stream: VideoStream, path: Path) -> StreamScan:
    """Read all packets of all streams; raises ValueError if the video has no packet."""
    damage, counter = Damage(), _PacketCounter(stream)
    reader = PacketReader(container, damage)
    for packet, shift in reader:
        if packet.size and packet.is_corrupt:
            damage.error_times.append(reader.latest_time)
        counter.add(packet, shift)
    if counter.frames == 0:
        raise ValueError(f"{path} has no frame that can be decoded")
    damage.truncation = _find_truncation(container, counter.end)
    has_pts = bool(counter.pts) and container.format.name not in _DTS_ONLY_FORMATS
    times, nominal = counter.pts if has_pts else counter.dts, nominal_frame_duration(stream)
    frames, first_audio, span = counter.frames, counter.first_audio, (counter.frames - 1) * nominal
    if not times or not stream.time_base:
        return StreamScan(frames, span, TimestampSource.RATE, nominal, nominal, nominal, first_audio, damage)
    end_is_known = has_pts and stream.duration is not None and reader.shift == 0
    return StreamScan(
        frames,
        times.span,
        TimestampSource.PTS if has_pts else TimestampSource.DTS,
        nominal,
        tick=Fraction(stream.time_base),
        shortest_step=times.shortest_step() or nominal,
        first_audio=first_audio,
        damage=damage,
        first=times.first,
        end=((stream.start_time or 0) + (stream.duration or 0)) * stream.time_base if end_is_known else None,
        fits_mean_rate=times.fits_mean_rate(),
        # AVI repeats a frame by an empty packet, so gaps of its timestamps are no missing frames.
        missing=times.missing_frames() if has_pts else None,
    )


def _find_truncation(container: InputContainer, end: Fraction) -> tuple[Fraction, Fraction] | None:
    """The end of the last packet and that of the file by its header, in seconds, if the header's is later."""
    has_duration = any(name in container.format.name for name in _FORMATS_WITH_DURATION)
    if not has_duration or container.duration is None:
        return None
    # Some Matroska muxers count the duration from zero, others from the first frame.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    declared = Fraction(start + container.duration, av.time_base)
    return (end, declared) if declared - end > _MIN_TRUNCATION else None
