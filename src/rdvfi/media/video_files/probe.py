"""Properties of a video file, found by reading its packets once without decoding.

It is fast (a ten-minute film takes a third of a second) and finds a damaged or truncated file
before an hour's work rather than after it.
"""

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from rdvfi.media.video_files.frame_times import FrameTimes
from rdvfi.media.video_files.packets import Damage, Packets

_TRUNCATION_SLACK = Fraction(1, 4)
"""Seconds by which a file may end before its header says so."""

_HEADER_KNOWS = ("mp4", "matroska", "avi", "mxf")
"""Formats whose duration is written down, not estimated."""


class Clock(Enum):
    """Where the times of frames come from."""

    SHOWN = "shown"
    """Presentation timestamps."""
    DECODED = "decoded"
    """Timestamps of decoding alone, as in AVI: the frame that is shown next has the earliest of them."""
    RATE = "rate"
    """None at all, as in a bare H.264 stream: the frame rate."""


@dataclass(frozen=True)
class Scan:
    """What the packets of a video stream say."""

    frames: int
    span: Fraction
    """Seconds from the first frame to the last."""
    clock: Clock
    nominal: Fraction
    """Seconds for which a frame is shown where nothing else is known."""
    tick: Fraction
    """Timestamps are whole multiples of this many seconds."""
    end: Fraction | None
    """When the last frame ends, if the file says so."""
    first: Fraction
    """When the first frame is shown."""
    first_sound: Fraction | None
    """When the first sound is heard."""
    shortest_step: Fraction
    """The shortest time from one frame to the next."""
    fits_mean_rate: bool
    """Whether frames that are fits_mean_rate at their mean rate each keep their own number."""
    absent: tuple[int, Fraction] | None
    """How many frames seem to be missing in a constant frame rate, and when the first of them was due."""
    damage: Damage


_OF_DECODING = frozenset({"avi", "asf"})
"""Formats in which what FFmpeg calls presentation times may be those of decoding."""
_PLAYLISTS = frozenset({"hls", "dash", "concat", "imf", "sdp", "applehttp"})
"""Formats of FFmpeg that hold no pictures of their own."""

_STREAMS = frozenset({".ts", ".mts", ".m2ts"})
"""Suffixes of MPEG transport streams; FFmpeg recognises them by more packets than a film of two frames may have."""


def name_of(file: Path | BytesIO) -> str:
    """What errors call a file."""
    return str(file) if isinstance(file, Path) else "the video"


def file_url(path: Path) -> str:
    """A path for FFmpeg, which would take what stands before a colon for a protocol."""
    return f"file:{path}"


def open_video(file: Path | BytesIO, hardware: HWAccel | None = None) -> InputContainer:
    """Open a file, by decoders of a device if they are given; raises ValueError if it is not a video."""
    if not isinstance(file, Path):
        file.seek(0)
    try:
        place = file_url(file) if isinstance(file, Path) else file
        try:
            container = av.open(place, "r", metadata_errors="replace", hwaccel=hardware)
        except av.error.EOFError:
            if not isinstance(file, Path) or file.suffix.lower() not in _STREAMS:
                raise
            container = av.open(place, "r", format="mpegts", metadata_errors="replace", hwaccel=hardware)
    except av.error.FFmpegError as error:
        raise ValueError(f"{name_of(file)} is not a video that can be read: {_why(file, error)}") from error
    refuse_playlist(container, name_of(file))
    return container


def refuse_playlist(container: InputContainer, name: str) -> None:
    """Refuse, and close, what FFmpeg opened as a list of other files: a file shall read no file but itself.

    Raises:
        ValueError: If it is one.
    """
    if _PLAYLISTS & set(container.format.name.split(",")):
        container.close()
        raise ValueError(f"{name} is a playlist that refers to other files; give these")


def _why(file: Path | BytesIO, error: av.error.FFmpegError) -> str:
    """What FFmpeg says, or what is known to be behind it."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            begin = opened.read(12)
        if begin[4:8] == b"ftyp":
            return "it was cut off before its index (moov) was written, or lost it; an untrunc program may restore it"
    return str(error.strerror)


def video_stream(container: InputContainer, file: Path | BytesIO) -> VideoStream:
    """The video track: the one that is marked as default, else the first; never a cover picture."""
    cover = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise ValueError(f"{name_of(file)} has no video stream")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


@dataclass(frozen=True)
class VideoIndex:
    """How many frames a video has, and when they are shown."""

    frames: int
    times: tuple[int, ...]
    """Presentation timestamps in rising order; empty if the file has none to rely on."""


def read_index(file: Path | BytesIO) -> VideoIndex:
    """Read the packets of the video stream, without decoding them.

    Raises:
        ValueError: If it is not a video, or is damaged.
    """
    with open_video(file) as container:
        stream = video_stream(container, file)
        try:
            times = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        except av.error.FFmpegError as error:
            raise ValueError(f"{name_of(file)} is damaged: {error.strerror}") from error
        known = {time for time in times if time is not None}
        reliable = len(known) == len(times) and container.format.name not in _OF_DECODING
        return VideoIndex(len(times), tuple(sorted(known)) if reliable else ())


def check_size(stream: VideoStream, name: str, most: int) -> None:
    """Refuse frames that claim too many pixels, before one is decoded.

    Raises:
        ValueError: If they have more than ``most``.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > most:
        raise ValueError(
            f"{name} says that it is {width}x{height}, more pixels than max_pixels={most}; raise it if that is true"
        )


def first_frames(path: Path, count: int, *, max_pixels: int) -> tuple[list[av.VideoFrame], Fraction | None]:
    """The first frames that are shown, and how wide their pixels are: what the container says, else the stream.

    Raises:
        ValueError: If none can be decoded, or they have more than ``max_pixels``.
    """
    frames: list[av.VideoFrame] = []
    with open_video(path) as container:
        stream = video_stream(container, path)
        check_size(stream, str(path), max_pixels)
        decoder = decoder_of(stream)
        for packet, _ in Packets(container, Damage()):
            if packet.stream.index == stream.index:
                frames += decode(decoder, packet, Damage(), Fraction(0))
            if len(frames) >= count:
                break
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not frames:
        raise ValueError(f"{path} has no frame that can be decoded")
    return frames[:count], aspect


_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read what is transparent too, where FFmpeg's own do not."""


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """What decodes a track: its own decoder, or the one that knows of its plane of transparency."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    named = _WITH_ALPHA.get(stream.codec_context.name) if tags.get("alpha_mode") == "1" else None
    if named is None or named not in av.codecs_available:
        return stream.codec_context
    decoder = av.CodecContext.create(named, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def decode(decoder: VideoCodecContext, packet: av.Packet, damage: Damage, time: Fraction) -> list[av.VideoFrame]:
    """Whole frames of a packet; what cannot be decoded is added to the damage."""
    if packet.size == 0 and packet.pts is not None:  # of a picture shown longer; a decoder takes it for the end
        return []
    try:
        frames = decoder.decode(packet)
    except av.error.FFmpegError:
        damage.times.append(time)
        return []
    whole = [frame for frame in frames if not frame.is_corrupt]
    damage.times += [time] * (len(frames) - len(whole))
    return whole


def scan(container: InputContainer, stream: VideoStream, path: Path) -> Scan:
    """Read all packets of all streams; raises ValueError if the video has no packet."""
    nominal = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
    frames, sound, end = 0, None, Fraction(0)
    shown, decoded = FrameTimes(), FrameTimes()
    damage = Damage()
    audio = {track.index for track in container.streams.audio}
    packets = Packets(container, damage)
    for packet, shift in packets:
        if packet.size == 0:
            if packet.stream.index == stream.index:  # the picture before once more, as Theora says it
                shown.add(packet.pts, packet.time_base, shift)
            continue
        if packet.is_corrupt:
            damage.times.append(packets.last)
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            length = (packet.duration or 0) * packet.time_base or nominal
            end = max(end, time * packet.time_base + shift + length)
        if packet.stream.index == stream.index and not packet.is_discard:
            frames += 1
            shown.add(packet.pts, packet.time_base, shift)
            decoded.add(packet.dts, packet.time_base, shift)
        elif packet.stream.index in audio and sound is None and time is not None:
            sound = time * packet.time_base + shift
    if frames == 0:
        raise ValueError(f"{path} has no frame that can be decoded")
    damage.ends = _cut_short(container, end)
    clock = Clock.SHOWN if shown and container.format.name not in _OF_DECODING else Clock.DECODED
    times = shown if clock is Clock.SHOWN else decoded
    base = stream.time_base
    if not times or base is None:
        span = (frames - 1) * nominal
        return Scan(frames, span, Clock.RATE, nominal, nominal, None, Fraction(0), sound, nominal, True, None, damage)
    known = clock is Clock.SHOWN and stream.duration is not None and packets.shift == 0
    stop = ((stream.start_time or 0) + (stream.duration or 0)) * base if known else None
    # An empty packet of AVI stands for the frame before, shown once more: nothing is missing there.
    shortest_step, absent = times.shortest_step() or nominal, times.absent() if clock is Clock.SHOWN else None
    fits_mean_rate = times.fits_mean_rate()
    return Scan(
        frames,
        times.span,
        clock,
        nominal,
        base,
        stop,
        times.first,
        sound,
        shortest_step,
        fits_mean_rate,
        absent,
        damage,
    )


def _cut_short(container: InputContainer, end: Fraction) -> tuple[Fraction, Fraction] | None:
    """Where the last packet of any stream ends and where the header says that the file does, if that is later."""
    known = any(name in container.format.name for name in _HEADER_KNOWS)
    if not known or container.duration is None:
        return None
    # Writers of Matroska disagree whether the duration counts from zero or from the first frame.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    declared = Fraction(start + container.duration, av.time_base)
    return (end, declared) if declared - end > _TRUNCATION_SLACK else None
