"""Writers of the tracks of an output: stream copy, and those of `sound` and `subtitles`."""

import re
from abc import ABC, abstractmethod
from fractions import Fraction

import av
import av.error
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition, Stream

_TECHNICAL = re.compile(
    r"(encoder|vendor_id|duration|bps|number_of_.*|_statistics.*|rotate|alpha_mode)(-\w+)?", re.IGNORECASE
)
"""Tags of a track that describe the source file, not what it holds."""
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What so many channels are where the file does not say which."""


_QUICKTIME = {
    **{"fre": "fra", "deu": "ger", "nld": "dut", "swe": "sve", "zho": "chi", "ell": "gre", "isl": "ice"},
    **{"ces": "cze", "slk": "slo", "ron": "rum", "fas": "per", "hye": "arm", "eus": "baq", "mkd": "mac"},
}
"""Languages under the other of their two codes, the one that QuickTime has a number for."""
_SAID = {
    ".avi": frozenset({"title"}),
    ".ts": frozenset({"language"}),
    ".mov": frozenset({"title", "language", "default"}),
    **dict.fromkeys((".gif", ".webp", ".apng"), frozenset()),
}
"""What containers say of tracks that do not say everything."""
VIDEO_ONLY_SUFFIXES = frozenset({".gif", ".webp", ".apng", ".y4m"})
"""Containers of pictures alone."""
_SAME_TIMES = 0x20000
"""FFmpeg's flag of formats in which packets may have one time: those of TrueHD are shorter than a tick of Matroska."""
_FOR_EVER = 24 * 60 * 60
"""Seconds that stand for a subtitle which lasts until the next; muxers refuse the 2^32 ms that some write."""
_MARKS = ("forced", "comment", "hearing_impaired", "visual_impaired", "original", "dub", "lyrics", "karaoke")


def track_tags(tags: dict[str, str], muxer: str = "") -> dict[str, str]:
    """Tags that go along with a track into a container of this format: language, title, ..."""
    kept = {key: value for key, value in tags.items() if not _TECHNICAL.fullmatch(key)}
    if "name" in kept and "title" not in kept:  # so MP4 calls it
        kept["title"] = kept.pop("name")
    if muxer == "mov" and "language" in kept:
        kept["language"] = _QUICKTIME.get(kept["language"], kept["language"])
    return kept


def unsaid(stream: Stream, suffix: str) -> list[str]:
    """What a container will not say of a track: its title, language, or what it is for."""
    if suffix not in _SAID:
        return []
    tags, said = track_tags(stream.metadata), _SAID[suffix]
    told = [key for key in ("title", "language") if tags.get(key, "und") != "und"]
    told += [mark for mark in _MARKS if stream.disposition & Disposition[mark]]
    return [what for what in told if what not in said]


class TrackWriter(ABC):
    """Takes the packets of one track in order."""

    def __init__(self, stream: Stream, output: OutputContainer, offset: Fraction) -> None:
        self._output, self._offset = output, offset
        self.name = f"{'sound' if stream.type == 'audio' else stream.type} track #{stream.index}"
        self._last: int | None = None
        self.damaged = 0
        """Packets that could not be read or written."""
        self.empty = True
        """Whether nothing of it was written yet."""
        # Players of AVI start each track at its first packet, whatever its time.
        self._from_zero = output.format.name == "avi"

    @abstractmethod
    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Write a packet; ``shift`` is to be added to its times."""

    def finish(self) -> None:  # noqa: B027 - most hold nothing back
        """Write what is still held back."""

    def _mux(self, packet: av.Packet) -> None:
        """Write a packet of the output; raises ValueError if the container refuses it."""
        if self._from_zero and packet.dts is not None and packet.dts + (packet.duration or 1) <= 0:
            return
        self.empty = False
        try:
            self._output.mux(packet)
        except av.error.InvalidDataError:  # the packet is at fault, not the file
            self.damaged += 1
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.name} cannot be written: {error.strerror}; leave sound out with audio=False, or choose .mkv"
            ) from error


class Copied(TrackWriter):
    """Packets go from file to file untouched."""

    def __init__(self, stream: Stream, output: OutputContainer, offset: Fraction) -> None:
        super().__init__(stream, output, offset)
        self._target = _same_track(stream, output)
        # Several lines of text may be shown from one time on; of sound there is only one, where a tick is shorter.
        self._step = int(stream.type == "audio" and not output.format.flags & _SAME_TIMES)
        # MP4 shows nothing of a last subtitle of no duration.
        self._usual = 3 if stream.type == "subtitle" and output.format.name in ("mp4", "mov") else 0
        self._target.metadata.update(track_tags(stream.metadata, output.format.name))
        self._target.disposition = stream.disposition

    def write(self, packet: av.Packet, shift: Fraction) -> None:
        """Copy a packet; a time that is not later than the one before, in ticks of the output, is moved behind it."""
        base = self._target.time_base or packet.time_base
        packet.pts, packet.dts = (self._ticks(packet, time, shift, base) for time in (packet.pts, packet.dts))
        duration = (packet.duration or 0) * packet.time_base
        packet.duration = round((duration if 0 < duration < _FOR_EVER else self._usual) / base)
        packet.time_base = base
        if packet.dts is not None:
            if self._last is not None and packet.dts < self._last + self._step:
                packet.dts = self._last + self._step
                packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
            self._last = packet.dts
        packet.stream = self._target
        self._mux(packet)

    def _ticks(self, packet: av.Packet, time: int | None, shift: Fraction, base: Fraction) -> int | None:
        return None if time is None else round((time * packet.time_base + shift - self._offset) / base)


def _same_track(stream: Stream, output: OutputContainer) -> Stream:
    """A track of the output with the parameters of one of the source."""
    try:
        target = output.add_stream_from_template(stream)
    except ValueError:
        if output.format.name != "matroska" or not isinstance(stream, AudioStream):
            raise
        # Matroska holds what WAV and AVI hold, though FFmpeg does not list it: any codec, then the right parameters.
        target = output.add_mux_stream("pcm_s16le")
        BitStreamFilterContext("null", stream, target)
        target.time_base = stream.time_base
        return target
    if isinstance(stream, AudioStream) and stream.layout.nb_channels and " channels" in stream.layout.name:
        # Which channels they are is not said, as in WAV and AVI; containers want to know.
        usual = USUAL_LAYOUTS.get(stream.layout.nb_channels)
        if usual is not None:
            target.codec_context.layout = usual  # pyright: ignore[reportAttributeAccessIssue]
    return target
