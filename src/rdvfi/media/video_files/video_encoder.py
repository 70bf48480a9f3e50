"""Encoding of frames to packets that are muxed later or elsewhere."""

import re
import struct
from collections import deque
from dataclasses import replace
from fractions import Fraction

import av
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from rdvfi.media.colour import Colour, Converter
from rdvfi.media.image_files.palette import Palette
from rdvfi.media.metadata.stream_template import METADATA_CONTAINERS, copy_metadata
from rdvfi.media.other_tracks.track_writers import track_tags
from rdvfi.media.outputs.pieces import FrameEncoder, OutputFrame
from rdvfi.media.pixels import Pixels
from rdvfi.media.planes import PlaneFormat, PlaneTarget, conversion_parameters
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.codecs import TICKS
from rdvfi.media.video_files.encoding import Encoding
from rdvfi.media.video_files.scheduling import preserve_scheduling
from rdvfi.media.video_files.siting import output_siting, siting_option

_FINEST_TICK = Fraction(1, 1_000_000_000)
"""Encoders hold time bases in 32 bits, libvpx up to 10^9."""

MUXERS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"},
    **{".avi": "avi", ".gif": "gif", ".webp": "webp", ".apng": "apng", ".y4m": "yuv4mpegpipe"},
}
"""Formats of FFmpeg by suffix."""

_TAGS = {"libx265": "hvc1", "hevc_nvenc": "hvc1", "hevc_qsv": "hvc1", "hevc_videotoolbox": "hvc1"}
"""Code of HEVC in MP4 and MOV that QuickTime and Safari play; FFmpeg's default they refuse."""

_PACKET = struct.Struct("<qqq?")
"""Presentation and decoding time and duration in ticks, and whether it is a key frame; the data follow."""


def encoder_tick(suffix: str, tick: Fraction, rate: Fraction) -> Fraction:
    """In what times of frames are counted, if all are whole in ``tick``."""
    if suffix in (".avi", ".apng", ".y4m"):
        return 1 / rate  # such files count frames
    return Fraction(1, 100) if suffix == ".gif" else max(tick, _FINEST_TICK)


def unpack_packet(data: bytes, tick: Fraction) -> av.Packet:
    """What `VideoEncoder.pack` made these bytes of; its times are counted in ``tick``."""
    packet = av.Packet(data[_PACKET.size :])
    packet.pts, packet.dts, packet.duration, packet.is_keyframe = _PACKET.unpack(data[: _PACKET.size])
    packet.time_base = tick
    return packet


def check_apart(first: int, second: int, *, tick: Fraction, suffix: str) -> None:
    """Refuse two times, in ticks, that are one in a file of this kind; raises ValueError if they are."""
    coarsest = TICKS.get(suffix, tick)
    if suffix == ".gif":  # counted in hundredths, and two of them at least
        apart = (second - first) * tick >= coarsest
    else:
        apart = round(second * tick / coarsest) > round(first * tick / coarsest)
    if not apart:
        raise ValueError(
            f"two frames would be shown at {float(second * tick):.4f} s: {suffix} files count time in steps "
            f"of {float(coarsest) * 1000:g} ms; make fewer frames, or choose .mp4"
        )


def _timecode(text: str, info: SourceInfo, rate: Fraction) -> str:
    """A timecode whose frames are counted at the rate of the output: 01:00:00:12 at 25 is 01:00:00:24 at 50."""
    match = re.fullmatch(r"(\d+:\d\d:\d\d[:;.])(\d+)", text)
    if match is None or info.span <= 0:
        return text
    return f"{match[1]}{int(int(match[2]) * rate * info.span / (info.frames - 1)):02d}"


def _written(info: SourceInfo, encoding: Encoding, suffix: str) -> Colour:
    """What the numbers of encoded frames mean."""
    siting = output_siting(info.colour.siting, encoding.codec.encoder, suffix)
    return replace(encoding.codec.colour(info.colour), siting=siting)


def plane_target(info: SourceInfo, encoding: Encoding, suffix: str) -> PlaneTarget | None:
    """Frames that a device makes for an encoder; None if it takes no planes of luma and chroma, or other sizes."""
    form = PlaneFormat.from_name(encoding.form.name)
    kept = not (info.layout.alpha or encoding.scaled) and encoding.joins
    if form is None or not kept or not form.fits(encoding.height, encoding.width):
        return None
    meaning = conversion_parameters(
        _written(info, encoding, suffix),
        encoding.width,
        encoding.height,
        2.0 ** (form.bits - 8),
        headroom=info.headroom,
        deep=info.layout.deep,
    )
    return PlaneTarget(encoding.form.name, form, encoding.height, encoding.width, meaning)


class VideoEncoder(FrameEncoder[av.Packet]):
    """The encoder of a video track, with or without a file.

    Args:
        info: The source.
        encoding: How frames are encoded.
        suffix: Of the output.
        tick: What times are counted in; see `encoder_tick`.
        rate: About how many frames a second there will be.
        container: The file that the track is added to. Without one, packets come out that are equal
            to those with one.
    """

    def __init__(
        self,
        info: SourceInfo,
        encoding: Encoding,
        *,
        suffix: str,
        tick: Fraction,
        rate: Fraction,
        container: OutputContainer | None = None,
    ) -> None:
        self._encoding, self._tick, self._suffix = encoding, tick, suffix
        colour = _written(info, encoding, suffix)
        self._converter = Converter(colour, deep=info.layout.deep, headroom=info.headroom)
        form = "rgba" if info.layout.alpha else "rgb24"
        self._palette = Palette(encoding.width, encoding.height, tick, form) if suffix == ".gif" else None
        self._durations: deque[tuple[int, int]] = deque()
        self._end = 0
        self._last: int | None = None
        rgb = encoding.form.chroma == "rgb"
        self._colour = replace(colour, matrix=0, full_range=True) if rgb else colour
        self._options = encoding.options | siting_option(colour.siting, encoding.form.chroma)
        self.stream = None if container is None else self._add_stream(container, info, rate)
        self._context = self._alone() if self.stream is None else self.stream.codec_context
        self._set_up(info, rate)

    def _alone(self) -> VideoCodecContext:
        """An encoder without a file, whose flags are those of one of this format."""
        context = av.CodecContext.create(self._encoding.codec.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.options = dict(self._options)
        context.bit_rate = 0  # as PyAV sets them for a stream
        context.bit_rate_tolerance = 128_000
        if ContainerFormat(MUXERS[self._suffix], "w").flags & FormatFlags.global_header.value:
            context.flags |= CodecFlags.global_header
        return context

    def _set_up(self, info: SourceInfo, rate: Fraction) -> None:
        encoding, context = self._encoding, self._context
        context.width, context.height = encoding.width, encoding.height
        context.pix_fmt = encoding.form.name
        context.framerate = rate
        # The encoder's own time base: a rate alone rounds timestamps to whole frames.
        context.time_base = self._tick
        if info.layout.aspect is not None:
            context.sample_aspect_ratio = info.layout.aspect
        if encoding.codec.encoder in _TAGS and self._suffix in (".mp4", ".m4v", ".mov"):
            context.codec_tag = _TAGS[encoding.codec.encoder]
        self._colour.tag(context)

    def _add_stream(self, container: OutputContainer, info: SourceInfo, rate: Fraction) -> VideoStream:
        encoding = self._encoding
        stream = container.add_stream(encoding.codec.encoder, rate=rate, options=self._options)
        assert isinstance(stream, VideoStream)
        spatial = info.spatial.supported_by(self._suffix)
        if self._suffix in METADATA_CONTAINERS:
            copy_metadata(stream, info.hdr, spatial)
        stream.metadata.update(track_tags(info.video_metadata, container.format.name))
        stream.metadata.pop("stereo_mode", None)
        timecode = stream.metadata.get("timecode") or info.metadata.get("timecode")  # of MXF
        if timecode is not None:
            stream.metadata["timecode"] = _timecode(timecode, info, rate)
        stream.disposition = Disposition(info.disposition)
        if spatial.stereo_mode_tag is not None:
            stream.metadata["stereo_mode"] = spatial.stereo_mode_tag
        return stream

    def encode(self, frame: OutputFrame, moment: Moment) -> list[av.Packet]:
        """Encode one frame; raises ValueError if the container cannot hold its time."""
        pts = round(moment.time / self._tick)
        if self._last is not None:
            check_apart(self._last, pts, tick=self._tick, suffix=self._suffix)
        self._last = pts
        made = frame() if callable(frame) else self._frame(frame)
        made.pts, made.time_base = pts, self._tick
        # A frame keeps the picture type of its source, which would force the encoder's hand.
        made.pict_type = 0
        self._colour.tag_frame(made)
        self._end = round((moment.time + moment.duration) / self._tick)
        self._durations.append((pts, max(1, self._end - pts)))
        with preserve_scheduling():  # the first frame opens the encoder
            return self._timed(self._context.encode(made))

    def flush(self) -> list[av.Packet]:
        """The packets of frames that the encoder still holds; it takes no frame after that."""
        return self._timed(self._context.encode(None))

    def pack(self, piece: av.Packet) -> bytes:
        dts = piece.pts if piece.dts is None else piece.dts
        return _PACKET.pack(piece.pts, dts, piece.duration, piece.is_keyframe) + bytes(piece)

    def _frame(self, pixels: Pixels) -> av.VideoFrame:
        fitted = self._encoding.fitted(pixels)
        if self._palette is not None:
            return self._palette.reduced(self._converter.from_rgb(fitted, self._palette.form))
        return self._converter.from_rgb(fitted, self._encoding.form.name)

    def _timed(self, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.duration = self._take_duration(packet.pts)
            packet.time_base = self._tick
        return packets

    def _take_duration(self, pts: int | None) -> int:
        """The duration of the frame with this timestamp; encoders reorder frames."""
        for i, (time, duration) in enumerate(self._durations):
            if time == pts:
                del self._durations[i]
                return duration
        if self._encoding.codec.encoder == "libwebp_anim":  # one packet holds all frames
            return self._end
        raise RuntimeError(f"the encoder returned a frame at {pts}, which was not given to it")
