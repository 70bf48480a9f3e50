"""Writers of the other tracks of an output: stream copy, and the base of audio and subtitle conversion."""

import re
from abc import ABC, abstractmethod
from fractions import Fraction

import av
import av.error
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition, Stream

_FILE_TAGS = re.compile(
    r"(encoder|vendor_id|duration|bps|number_of_.*|_statistics.*|rotate|alpha_mode)(-\w+)?", re.IGNORECASE
)
"""Tags of a track that describe the source file and not its content."""
DEFAULT_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Channel layout by number of channels, where the file does not say."""
_QUICKTIME_LANGUAGES = {
    **{"fre": "fra", "deu": "ger", "nld": "dut", "swe": "sve", "zho": "chi", "ell": "gre", "isl": "ice"},
    **{"ces": "cze", "slk": "slo", "ron": "rum", "fas": "per", "hye": "arm", "eus": "baq", "mkd": "mac"},
}
"""Languages that have two codes: the one that QuickTime has a number for, by the other one."""
_SUPPORTED_PROPERTIES = {
    ".avi": frozenset({"title"}),
    ".ts": frozenset({"language"}),
    ".mov": frozenset({"title", "language", "default"}),
    **dict.fromkeys((".gif", ".webp", ".apng"), frozenset()),
}
"""Properties of tracks that containers can store; containers that are not listed store all."""
VIDEO_ONLY_SUFFIXES = frozenset({".gif", ".webp", ".apng", ".y4m"})
_TS_NONSTRICT = 0x20000
"""FFmpeg's flag of muxers that allow equal timestamps, as of TrueHD, whose packets are shorter than a Matroska tick."""
_MAX_SUBTITLE_SECONDS = 24 * 60 * 60
"""Longer subtitles last until the next one: some files store 2^32 ms, which muxers refuse."""
_DEFAULT_SUBTITLE_SECONDS = 3
_REPORTED_DISPOSITIONS = "forced comment hearing_impaired visual_impaired original dub lyrics karaoke".split()


def track_tags(tags: dict[str, str], muxer: str = "") -> dict[str, str]:
    """The tags of a track that describe its content (language, title, ...), as a muxer expects them."""
    content = {key: value for key, value in tags.items() if not _FILE_TAGS.fullmatch(key)}
    if "name" in content and "title" not in content:  # MP4's key
        content["title"] = content.pop("name")
    if muxer == "mov" and "language" in content:
        content["language"] = _QUICKTIME_LANGUAGES.get(content["language"], content["language"])
    return content


def unsupported_properties(stream: Stream, suffix: str) -> list[str]:
    """Properties of a track that a container cannot store: title, language and dispositions."""
    if suffix not in _SUPPORTED_PROPERTIES:
        return []
    tags, supported = track_tags(stream.metadata), _SUPPORTED_PROPERTIES[suffix]
    present = [key for key in ("title", "language") if tags.get(key, "und") != "und"]
    present += [name for name in _REPORTED_DISPOSITIONS if stream.disposition & Disposition[name]]
    return [name for name in present if name not in supported]


class TrackWriter(ABC):
    """Writes one track of the output from one of the source, whose time ``offset``, in seconds, becomes zero."""

    def __init__(self, stream: Stream, output: OutputContainer, offset: Fraction) -> None:
        self._output, self._offset = output, offset
        self.name = f"{stream.type} track #{stream.index}"
        self._last_dts: int | None = None
        self.damaged_packets = 0
        """Packets that could not be read or written."""
        self.is_empty = True
        """Whether no packet has been written."""
        # Players of AVI start each track at its first packet, whatever its time.
        self._drops_negative_times = output.format.name == "avi"

    @abstractmethod
    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Write a packet of the source; ``shift`` seconds are added to its timestamps."""

    def finish(self) -> None:  # noqa: B027 - most writers hold nothing back
        """Write what is still held back."""

    def _mux(self, packet: av.Packet) -> None:
        """Write a packet of the output; raises ValueError if the container refuses it."""
        if self._drops_negative_times and packet.dts is not None and packet.dts + (packet.duration or 1) <= 0:
            return
        self.is_empty = False
        try:
            self._output.mux(packet)
        except av.error.InvalidDataError:  # the packet is at fault, not the file
            self.damaged_packets += 1
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.name} cannot be written: {error.strerror}; leave audio out with audio=False, or choose .mkv"
            ) from error


class StreamCopier(TrackWriter):
    """Copies packets without decoding them."""

    def __init__(self, stream: Stream, output: OutputContainer, offset: Fraction) -> None:
        super().__init__(stream, output, offset)
        self._target = _add_copied_track(stream, output)
        # Several subtitles may start at one time; audio packets must not, unless the muxer allows it.
        self._min_step = int(stream.type == "audio" and not output.format.flags & _TS_NONSTRICT)
        # MP4 shows nothing of a last subtitle without duration.
        needs_duration = stream.type == "subtitle" and output.format.name in ("mp4", "mov")
        self._default_duration = _DEFAULT_SUBTITLE_SECONDS if needs_duration else 0
        self._target.metadata.update(track_tags(stream.metadata, output.format.name))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Copy a packet; its timestamps are raised where they would not increase in ticks of the output."""
        time_base = Fraction(self._target.time_base or packet.time_base)
        packet.pts, packet.dts = (self._rescale(packet, ts, shift, time_base) for ts in (packet.pts, packet.dts))
        duration = (packet.duration or 0) * packet.time_base
        known = 0 < duration < _MAX_SUBTITLE_SECONDS
        packet.duration = round((duration if known else self._default_duration) / time_base)
        packet.time_base = time_base
        if packet.dts is not None:
            if self._last_dts is not None and packet.dts < self._last_dts + self._min_step:
                packet.dts = self._last_dts + self._min_step
                packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
            self._last_dts = packet.dts
        packet.stream = self._target
        self._mux(packet)

    def _rescale(self, packet: av.Packet, timestamp: int | None, shift: Fraction, time_base: Fraction) -> int | None:
        if timestamp is None:
            return None
        return round((timestamp * packet.time_base + shift - self._offset) / time_base)


def _add_copied_track(stream: Stream, output: OutputContainer) -> Stream:
    try:
        target = output.add_stream_from_template(stream)
    except ValueError:
        if output.format.name != "matroska" or not isinstance(stream, AudioStream):
            raise
        # Matroska holds the audio codecs of WAV and AVI, though FFmpeg does not list them: add a track of any codec,
        # then copy the parameters over it.
        target = output.add_mux_stream("pcm_s16le")
        BitStreamFilterContext("null", stream, target)
        target.time_base = stream.time_base
        return target
    if isinstance(stream, AudioStream) and stream.layout.nb_channels and " channels" in stream.layout.name:
        # The layout is unknown, as in WAV and AVI; other containers require one.
        layout = DEFAULT_LAYOUTS.get(stream.layout.nb_channels)
        if layout is not None:
            target.codec_context.layout = layout  # pyright: ignore[reportAttributeAccessIssue]
    return target
