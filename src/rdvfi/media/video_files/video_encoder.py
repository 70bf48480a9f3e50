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
from rdvfi.media.image_files.palette import PaletteQuantizer
from rdvfi.media.metadata.stream_template import METADATA_CONTAINERS, copy_metadata
from rdvfi.media.other_tracks.track_writers import track_tags
from rdvfi.media.outputs.pieces import FrameEncoder, OutputFrame
from rdvfi.media.pixels import Pixels
from rdvfi.media.planes import PlaneFormat, PlaneTarget, conversion_parameters
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.codecs import CONTAINER_TICKS
from rdvfi.media.video_files.encoding import Encoding
from rdvfi.media.video_files.scheduling import preserve_scheduling
from rdvfi.media.video_files.siting import output_siting, siting_option

_MIN_TICK = Fraction(1, 1_000_000_000)
"""Encoders store time bases in 32 bits, libvpx denominators up to 10^9."""

MUXERS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"},
    **{".avi": "avi", ".gif": "gif", ".webp": "webp", ".apng": "apng", ".y4m": "yuv4mpegpipe"},
}
"""FFmpeg's muxers by suffix."""

_HEVC_CODEC_TAGS = {"libx265": "hvc1", "hevc_nvenc": "hvc1", "hevc_qsv": "hvc1", "hevc_videotoolbox": "hvc1"}
"""Codec tag in MP4 and MOV that QuickTime and Safari play; they refuse FFmpeg's default for HEVC."""

_PACKET_HEADER = struct.Struct("<qqq?")
"""PTS, DTS and duration in ticks, and whether it is a keyframe; the data follow."""


def encoder_tick(suffix: str, tick: Fraction, rate: Fraction) -> Fraction:
    """The time base of the encoder, in seconds, if all times are multiples of ``tick``."""
    if suffix in (".avi", ".apng", ".y4m"):
        return 1 / rate  # these containers have no timestamps
    return Fraction(1, 100) if suffix == ".gif" else max(tick, _MIN_TICK)


def unpack_packet(data: bytes, tick: Fraction) -> av.Packet:
    """The packet from which `VideoEncoder.pack` made these bytes; ``tick`` is its time base."""
    packet = av.Packet(data[_PACKET_HEADER.size :])
    packet.pts, packet.dts, packet.duration, packet.is_keyframe = _PACKET_HEADER.unpack(data[: _PACKET_HEADER.size])
    packet.time_base = tick
    return packet


def check_distinct_times(first: int, second: int, *, tick: Fraction, suffix: str) -> None:
    """Refuse by ValueError two timestamps, in ticks, that the container would round to one."""
    container_tick = CONTAINER_TICKS.get(suffix, tick)
    if suffix == ".gif":  # times are multiples of 1/100 s, and a frame is shown for at least 2/100 s
        distinct = (second - first) * tick >= container_tick
    else:
        distinct = round(second * tick / container_tick) > round(first * tick / container_tick)
    if not distinct:
        raise ValueError(
            f"two frames would be shown at {float(second * tick):.4f} s: {suffix} files count time in steps "
            f"of {float(container_tick) * 1000:g} ms; make fewer frames, or choose .mp4"
        )


def _rescale_timecode(text: str, info: SourceInfo, rate: Fraction) -> str:
    """The timecode with its frame number at the rate of the output: 01:00:00:12 at 25 is 01:00:00:24 at 50."""
    match = re.fullmatch(r"(\d+:\d\d:\d\d[:;.])(\d+)", text)
    if match is None or info.span <= 0:
        return text
    return f"{match[1]}{int(int(match[2]) * rate * info.span / (info.frames - 1)):02d}"


def _output_colour(info: SourceInfo, encoding: Encoding, suffix: str) -> Colour:
    siting = output_siting(info.colour.siting, encoding.codec.encoder, suffix)
    return replace(encoding.codec.output_colour(info.colour), siting=siting)


def plane_target(info: SourceInfo, encoding: Encoding, suffix: str) -> PlaneTarget | None:
    """The format in which a GPU makes frames for an encoder; None if the CPU has to convert them."""
    form = PlaneFormat.from_name(encoding.pixel_format.name)
    unchanged = not (info.layout.alpha or encoding.scaled) and encoding.joins
    if form is None or not unchanged or not form.supports_size(encoding.height, encoding.width):
        return None
    parameters = conversion_parameters(
        _output_colour(info, encoding, suffix),
        encoding.width,
        encoding.height,
        2.0 ** (form.bits - 8),
        headroom=info.headroom,
        deep=info.layout.deep,
    )
    return PlaneTarget(encoding.pixel_format.name, form, encoding.height, encoding.width, parameters)


class VideoEncoder(FrameEncoder[av.Packet]):
    """The encoder of a video track, with or without a file.

    The track is added to ``container``; packets are the same without one. ``tick`` is that of `encoder_tick`.
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
        colour = _output_colour(info, encoding, suffix)
        self._converter = Converter(colour, deep=info.layout.deep, headroom=info.headroom)
        rgb_format = "rgba" if info.layout.alpha else "rgb24"
        self._palette = (
            PaletteQuantizer(encoding.width, encoding.height, tick, rgb_format) if suffix == ".gif" else None
        )
        self._durations: deque[tuple[int, int]] = deque()
        self._end_pts = 0
        self._last_pts: int | None = None
        rgb = encoding.pixel_format.chroma == "rgb"
        self._colour = replace(colour, matrix=0, full_range=True) if rgb else colour
        self._options = encoding.options | siting_option(colour.siting, encoding.pixel_format.chroma)
        self.stream = None if container is None else self._add_stream(container, info, rate)
        self._context = self._create_context() if self.stream is None else self.stream.codec_context
        self._configure(info, rate)

    def _create_context(self) -> VideoCodecContext:
        """An encoder without a file, with the flags of one that belongs to a file of this format."""
        context = av.CodecContext.create(self._encoding.codec.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.options = dict(self._options)
        context.bit_rate = 0  # the values that PyAV sets for a stream
        context.bit_rate_tolerance = 128_000
        if ContainerFormat(MUXERS[self._suffix], "w").flags & FormatFlags.global_header.value:
            context.flags |= CodecFlags.global_header
        return context

    def _configure(self, info: SourceInfo, rate: Fraction) -> None:
        encoding, context = self._encoding, self._context
        context.width, context.height = encoding.width, encoding.height
        context.pix_fmt = encoding.pixel_format.name
        context.framerate = rate
        # Without a time base, the encoder rounds timestamps to whole frames at its rate.
        context.time_base = self._tick
        if info.layout.aspect is not None:
            context.sample_aspect_ratio = info.layout.aspect
        if encoding.codec.encoder in _HEVC_CODEC_TAGS and self._suffix in (".mp4", ".m4v", ".mov"):
            context.codec_tag = _HEVC_CODEC_TAGS[encoding.codec.encoder]
        self._colour.tag_context(context)

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
            stream.metadata["timecode"] = _rescale_timecode(timecode, info, rate)
        stream.disposition = Disposition(info.disposition)
        if spatial.stereo_mode_tag is not None:
            stream.metadata["stereo_mode"] = spatial.stereo_mode_tag
        return stream

    def encode(self, frame: OutputFrame, moment: Moment) -> list[av.Packet]:
        """Encode one frame; raises ValueError if the container cannot hold its time."""
        pts = round(moment.time / self._tick)
        if self._last_pts is not None:
            check_distinct_times(self._last_pts, pts, tick=self._tick, suffix=self._suffix)
        self._last_pts = pts
        encoder_frame = frame() if callable(frame) else self._convert(frame)
        encoder_frame.pts, encoder_frame.time_base = pts, self._tick
        # A frame keeps the picture type of its source, which the encoder would be forced to use.
        encoder_frame.pict_type = 0
        self._colour.tag_frame(encoder_frame)
        self._end_pts = round((moment.time + moment.duration) / self._tick)
        self._durations.append((pts, max(1, self._end_pts - pts)))
        with preserve_scheduling():  # the first frame opens the encoder
            return self._set_durations(self._context.encode(encoder_frame))

    def flush(self) -> list[av.Packet]:
        """The packets of frames that the encoder still holds; no frame can be encoded after that."""
        return self._set_durations(self._context.encode(None))

    def pack(self, piece: av.Packet) -> bytes:
        dts = piece.pts if piece.dts is None else piece.dts
        return _PACKET_HEADER.pack(piece.pts, dts, piece.duration, piece.is_keyframe) + bytes(piece)

    def _convert(self, pixels: Pixels) -> av.VideoFrame:
        pixels = self._encoding.fit_pixels(pixels)
        if self._palette is not None:
            return self._palette.quantize(self._converter.from_rgb(pixels, self._palette.rgb_format))
        return self._converter.from_rgb(pixels, self._encoding.pixel_format.name)

    def _set_durations(self, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.duration = self._pop_duration(packet.pts)
            packet.time_base = self._tick
        # Stored packets cannot be marked disposable, and MP4 has a box for the mark: no packet has it, so that the
        # file is the same with and without stored segments.
        return [unpack_packet(self.pack(packet), self._tick) if packet.is_disposable else packet for packet in packets]

    def _pop_duration(self, pts: int | None) -> int:
        """The duration of the frame with this timestamp, which is searched since encoders reorder frames."""
        for i, (frame_pts, duration) in enumerate(self._durations):
            if frame_pts == pts:
                del self._durations[i]
                return duration
        if self._encoding.codec.encoder == "libwebp_anim":  # one packet holds all frames
            return self._end_pts
        raise RuntimeError(f"the encoder returned a frame at {pts}, which was not given to it")
