"""Tracks of a film beside its video: sound, subtitles, chapters, attachments, covers.

Each track is copied packet by packet where the container of the output holds it, else converted to
what it holds, else left out; whatever does not come along as it is gets a note. The file is read a
second time beside the decoder, so that memory stays bounded however its tracks are interleaved.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream

from rdvfi.media.other_tracks.chapters import CHAPTER_SUFFIXES, TrackWindow, convert_chapters
from rdvfi.media.other_tracks.covers import add_cover
from rdvfi.media.other_tracks.sound import EncodedSound, decodes
from rdvfi.media.other_tracks.stretching import MOST_STRETCHED
from rdvfi.media.other_tracks.subtitles import WrittenText, readable_text
from rdvfi.media.other_tracks.track_writers import VIDEO_ONLY_SUFFIXES, Copied, TrackWriter, unsaid
from rdvfi.media.video_files.packets import Damage, PacketReader
from rdvfi.media.video_files.probe import open_video, video_stream

_LEAD = Fraction(1, 2)
"""Seconds by which other tracks may run ahead of the frames, as players like them interleaved."""
_UNHEARD = Fraction(-1, 20)
"""Seconds before zero in which most decoders warm up; what is earlier was cut off by an edit list."""
_SOUND = {".webm": "libopus", ".mkv": "flac", ".avi": "libmp3lame"}
"""What sound becomes where it cannot be copied; AAC elsewhere, see `_encoder`."""
_TEXT = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}
"""What text subtitles become where they cannot be copied."""
_COVERS = frozenset({".mp4", ".m4v", ".mkv"})
_KNOWN_IN_TS = frozenset({"aac", "aac_latm", "mp2", "mp3", "mp3float", "ac3", "eac3", "dca", "opus", "libopus"})
"""Sound that others find in a transport stream; FFmpeg writes any, under a number of its own."""
_KNOWN_IN_AVI = frozenset({"mp3", "mp3float", "mp2", "mp2float", "ac3", "aac", "wmav1", "wmav2"})
"""Sound, beside PCM, that keeps its time in AVI; what FFmpeg writes else runs too fast or too slow there."""
_PCM_IN_MP4 = frozenset({"pcm_s16le", "pcm_s16be"})
"""Of PCM in MP4 what players without the newest FFmpeg read, up to `_PCM_RATE`; other sizes of samples are noise."""
_PCM_RATE = 48_000
_SUBTITLES_IN_TS = frozenset({"dvbsub", "dvb_subtitle", "libzvbi_teletext", "dvb_teletext"})
"""Subtitles that others find in a transport stream."""
_TIMECODE = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})


class Tracks:
    """Takes the other tracks of a file along.

    Args:
        source: The file; None if there is none.
        output: Where they go.
        suffix: Of the output file.
        offset: Time of the source that becomes zero.
        audio: Whether sound is wanted.
        time: What part of the source is shown, and how fast.
    """

    def __init__(
        self,
        source: Path | None,
        output: OutputContainer,
        suffix: str,
        *,
        offset: Fraction,
        audio: bool,
        time: "TrackWindow | None" = None,
    ) -> None:
        self.notes: list[str] = []
        self._time = time or TrackWindow()
        self._output, self._suffix, self._offset, self._audio = output, suffix, offset, audio
        self._input: InputContainer | None = None
        self._writers: dict[int, TrackWriter] = {}
        self._packets: Iterator[tuple[av.Packet, Fraction]] = iter(())
        self._held: tuple[av.Packet, Fraction] | None = None
        self._covers: list[av.Packet] = []
        self._lost: dict[str, None] = {}
        if source is None:
            return
        self._source = source
        self._input = open_video(source)
        try:
            self._plan(self._input, video_stream(self._input, source))
        except BaseException:
            self._input.close()
            raise

    def _plan(self, container: InputContainer, film: Stream) -> None:
        packets = PacketReader(container, Damage())
        chapters = container.chapters()
        for stream in container.streams:
            told = bool(chapters) and stream.type == "data" and stream.discard == Discard.all  # of MP4
            writer = None if stream.index == film.index or told else self._writer(stream)
            if writer is not None or stream.index == film.index:
                self._lost |= dict.fromkeys(unsaid(stream, self._suffix))
            if writer is not None:
                self._writers[stream.index] = writer
            elif not packets.may_be_discontinuous:  # else all packets are needed to follow the clock
                stream.discard = Discard.all
        if self._writers:
            self._packets = iter(packets)
        if "timecode" in container.metadata and self._suffix not in _TIMECODE:  # of MXF
            self._left_out("the timecode")
        if self._lost:
            self.notes.append(f"{self._suffix} files do not say of tracks: {', '.join(self._lost)}")
        if chapters and self._time.slowdown is None:
            self.notes.append(f"{len(chapters)} chapters are left out: the speed of the film varies")
        elif chapters and self._suffix in CHAPTER_SUFFIXES:
            kept, notes = convert_chapters(chapters, self._offset, self._time, self._suffix)
            self._output.set_chapters(kept)
            self.notes += notes
        elif chapters:
            self._left_out(f"{len(chapters)} chapters", plural=True)

    def _writer(self, stream: Stream) -> TrackWriter | None:
        """How a track is written; None if it is not, or needs no packets."""
        if stream.type == "audio":
            if self._audio:
                return self._sound(stream)
            if self._time.slowdown != 1:
                self.notes.append(f"sound track #{stream.index} is left out, as asked")
            return None
        if stream.type == "subtitle" and self._time.slowdown is None:
            self.notes.append(f"subtitle track #{stream.index} is left out: the speed of the film varies")
            return None
        if stream.type == "subtitle":
            return self._subtitles(stream)
        if isinstance(stream, AttachmentStream):
            if self._suffix == ".mkv":
                self._output.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            else:
                self._left_out(f"attachment {stream.name}")
        elif stream.type == "video":
            self._other_video(stream)
        elif not _is_timecode(stream):
            self._left_out(f"{stream.type} track #{stream.index}")
        elif self._suffix not in _TIMECODE:
            self._left_out("the timecode")
        return None

    def _other_video(self, stream: Stream) -> None:
        """A cover, or a video track beside the one that is interpolated."""
        if not stream.disposition & Disposition.attached_pic:
            self.notes.append(f"video track #{stream.index} is left out: one track is interpolated, the default one")
        elif self._suffix in _COVERS:
            try:
                packet = add_cover(self._source, stream, self._output)
            except ValueError as error:
                self._left_out(f"cover picture #{stream.index} ({error})")
            else:
                self._covers += [] if packet is None else [packet]
        else:
            self._left_out(f"cover picture #{stream.index}")

    def _sound(self, stream: Stream) -> TrackWriter | None:
        name = f"sound track #{stream.index}"
        if self._suffix in VIDEO_ONLY_SUFFIXES:
            return self._left_out(name)
        if stream.codec_context is None or not isinstance(stream, AudioStream):
            return self._left_out(f"{name}, of a kind that FFmpeg does not know,")
        slowdown = self._time.slowdown
        if slowdown is None or not 1 / MOST_STRETCHED <= slowdown <= MOST_STRETCHED:
            how = "varies" if slowdown is None else f"changes more than {MOST_STRETCHED} times"
            self.notes.append(f"{name} is left out: the speed of the film {how}")
            return None
        codec = stream.codec_context.name
        if slowdown == 1 and _shown(self._suffix, stream) and _holds(self._output.format.name, stream):
            return self._copied(stream)
        if not decodes(self._source, stream.index):
            self.notes.append(f"{name} ({codec}) is left out: it cannot be decoded, nor copied into {self._suffix}")
            return None
        encoder = _encoder(self._suffix, stream.layout.nb_channels)
        try:
            writer = EncodedSound(stream, self._output, encoder, self._offset, slowdown=slowdown)
        except (av.error.FFmpegError, ValueError) as error:
            return self._left_out(f"{name} ({codec}: {error})")
        count = stream.layout.nb_channels
        if slowdown != 1:
            self.notes.append(
                f"{name} is stretched {float(slowdown):g} times at the same pitch, and encoded with {encoder}"
            )
            return writer
        fewer = f", {count} channels as {writer.layout}" if writer.channels < count else ""
        self.notes.append(
            f"{name} is {codec}, which is not copied into {self._suffix}: it was encoded with {encoder}{fewer}"
        )
        return writer

    def _subtitles(self, stream: Stream) -> TrackWriter | None:
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        name = f"subtitle track #{stream.index} ({codec})"
        known = self._suffix != ".ts" or codec in _SUBTITLES_IN_TS
        if known and stream.codec_context is not None and _holds(self._output.format.name, stream):
            return self._copied(stream)
        if self._suffix not in _TEXT or not readable_text(codec):
            return self._left_out(name)
        target = _TEXT[self._suffix]
        self.notes.append(f"{name} was converted to {target}: the text, without styles")
        return WrittenText(stream, self._output, target, self._offset)

    def _copied(self, stream: Stream) -> TrackWriter:
        return Copied(stream, self._output, self._offset)

    def _left_out(self, name: str, *, plural: bool = False) -> None:
        verb, what = ("are", "them, or they") if plural else ("is", "it, or it")
        self.notes.append(f"{name} {verb} left out: {self._suffix} files cannot hold {what} cannot be read")

    def advance(self, time: Fraction) -> None:
        """Write all that starts before ``time``, seconds of the output, and a little more."""
        self._write(time / (self._time.slowdown or 1) + self._offset + _LEAD)

    def finish(self) -> None:
        """Write all that is left."""
        self._write(None)
        for writer in self._writers.values():
            writer.finish()
            if writer.empty and not writer.damaged:
                self.notes.append(f"{writer.name} has nothing in the time that the film is shown")
            if writer.damaged:
                plural = "packet is" if writer.damaged == 1 else "packets are"
                self.notes.append(f"{writer.damaged} {plural} damaged in {writer.name}, and left out")

    def close(self) -> None:
        """Release the source file."""
        self._held = None
        if self._input is not None:
            self._input.close()

    def _write(self, until: Fraction | None) -> None:
        covers, self._covers = self._covers, []
        self._output.mux(covers)
        while True:
            item = self._held if self._held is not None else next(self._packets, None)
            self._held = None
            if item is None:
                return
            packet, shift = item
            writer = self._writers.get(packet.stream.index)
            time = packet.dts if packet.dts is not None else packet.pts
            if writer is None or time is None or packet.size == 0:
                continue
            start = time * packet.time_base + shift
            if until is not None and start > until:
                self._held = item
                return
            start -= self._offset
            end = start + (packet.duration or 0) * packet.time_base
            if end > _UNHEARD and self._time.shows(start, end):
                self._write_packet(writer, packet, shift)

    def _write_packet(self, writer: TrackWriter, packet: av.Packet, shift: Fraction) -> None:
        """Write a packet; in slow motion a tick of it is longer."""
        begin = self._time.begin
        if begin is not None and packet.pts is not None and packet.stream.type == "subtitle":
            late = max(0, int((begin + self._offset - shift) / packet.time_base) - packet.pts)
            packet.pts += late
            packet.dts = packet.pts
            packet.duration = max(1, (packet.duration or 0) - late)
        slowdown = self._time.slowdown or Fraction(1)
        if slowdown != 1 and not isinstance(writer, EncodedSound):
            packet.time_base *= slowdown
            shift = (shift - self._offset) * slowdown + self._offset
        writer.write(packet, shift)


def _holds(muxer: str, stream: Stream) -> bool:
    """Whether a container takes the track as it is: a header is written for it, into memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            Copied(stream, trial, Fraction(0))
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, AttributeError):
        return False
    return True


def _shown(suffix: str, stream: AudioStream) -> bool:
    """Whether players, not FFmpeg alone, find such sound in such a file."""
    codec = stream.codec_context.name
    if suffix in (".mp4", ".m4v") and codec.startswith("pcm_"):
        return codec in _PCM_IN_MP4 and stream.codec_context.sample_rate <= _PCM_RATE
    if suffix == ".avi":
        return codec in _KNOWN_IN_AVI or (codec.startswith("pcm_") and codec != "pcm_bluray")
    return suffix != ".ts" or codec in _KNOWN_IN_TS


def _encoder(suffix: str, channels: int) -> str:
    """What encodes sound for a container; MP3 has two channels at most."""
    return "ac3" if suffix == ".avi" and channels > 2 else _SOUND.get(suffix, "aac")


def _is_timecode(stream: Stream) -> bool:
    """Whether it is the timecode of a QuickTime file, which goes along as a tag of the video track."""
    return "timecode" in stream.metadata
