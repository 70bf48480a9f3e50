"""The tracks of a video beside its video track: audio, subtitles, chapters, attachments, covers.

Each track is copied packet by packet if the container of the output can hold it, else converted, else left out; a
note reports whatever is not copied. The file is read a second time beside the decoder, so that memory stays bounded
however its tracks are interleaved.
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream

from rdvfi.media.other_tracks.audio_transcoder import AudioTranscoder, can_decode
from rdvfi.media.other_tracks.chapters import CHAPTER_SUFFIXES, TrackWindow, convert_chapters
from rdvfi.media.other_tracks.covers import add_cover
from rdvfi.media.other_tracks.stretching import MAX_STRETCH
from rdvfi.media.other_tracks.subtitles import SubtitleConverter, is_text_codec
from rdvfi.media.other_tracks.track_writers import (
    VIDEO_ONLY_SUFFIXES,
    StreamCopier,
    TrackWriter,
    unsupported_properties,
)
from rdvfi.media.video_files.packets import Damage, PacketReader
from rdvfi.media.video_files.probe import open_video, video_stream

if TYPE_CHECKING:
    from av.container.core import Chapter

_LEAD = Fraction(1, 2)
"""Seconds by which other tracks may be ahead of the frames: players expect tracks to be interleaved."""
_EARLIEST_END = Fraction(-1, 20)
"""Seconds. Packets that end earlier were cut off by an edit list; those just before zero warm up the decoder."""
_AUDIO_ENCODERS = {".webm": "libopus", ".mkv": "flac", ".avi": "libmp3lame"}
"""Encoders of audio that cannot be copied; AAC for other containers, see `_choose_encoder`."""
_TEXT_CODECS = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}
"""Codecs to which text subtitles are converted that cannot be copied."""
_COVER_SUFFIXES = frozenset({".mp4", ".m4v", ".mkv"})
_TS_AUDIO = frozenset({"aac", "aac_latm", "mp2", "mp3", "mp3float", "ac3", "eac3", "dca", "opus", "libopus"})
"""Audio that players find in a transport stream; FFmpeg writes other codecs under private numbers."""
_AVI_AUDIO = frozenset({"mp3", "mp3float", "mp2", "mp2float", "ac3", "aac", "wmav1", "wmav2"})
"""Audio, besides PCM, that keeps its speed in AVI."""
_MP4_PCM, _MP4_PCM_MAX_RATE = frozenset({"pcm_s16le", "pcm_s16be"}), 48_000
"""PCM in MP4 that players with an older FFmpeg can read; other sample formats become noise."""
_TS_SUBTITLES = frozenset({"dvbsub", "dvb_subtitle", "libzvbi_teletext", "dvb_teletext"})
"""Subtitles that players find in a transport stream."""
_TIMECODE_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})


class OtherTracks:
    """Writes the tracks of a source file, if there is one, other than its video track to an output.

    Time ``offset`` of the source, in seconds, becomes zero; ``window`` is the part that is shown.
    """

    def __init__(
        self,
        source: Path | None,
        output: OutputContainer,
        suffix: str,
        *,
        offset: Fraction,
        audio: bool,
        window: TrackWindow,
    ) -> None:
        self.notes: list[str] = []
        self._window, self._output, self._suffix, self._offset, self._audio = window, output, suffix, offset, audio
        self._input: InputContainer | None = None
        self._writers: dict[int, TrackWriter] = {}
        self._packets: Iterator[tuple[av.Packet, Fraction]] = iter(())
        self._pending: tuple[av.Packet, Fraction] | None = None
        self._cover_packets: list[av.Packet] = []
        if source is None:
            return
        self._source = source
        self._input = open_video(source)
        try:
            self._add_tracks(self._input, video_stream(self._input, source))
        except BaseException:
            self._input.close()
            raise

    def _add_tracks(self, container: InputContainer, video: Stream) -> None:
        reader = PacketReader(container, Damage())
        chapters = container.chapters()
        unsupported: dict[str, None] = {}
        for stream in container.streams:
            is_chapter_track = bool(chapters) and stream.type == "data" and stream.discard == Discard.all  # in MP4
            skipped = stream.index == video.index or is_chapter_track
            writer = None if skipped else self._create_writer(stream)
            if writer is not None or stream.index == video.index:
                unsupported |= dict.fromkeys(unsupported_properties(stream, self._suffix))
            if writer is not None:
                self._writers[stream.index] = writer
            elif not reader.may_be_discontinuous:  # else the packets of all tracks are needed to follow the clock
                stream.discard = Discard.all
        if self._writers:
            self._packets = iter(reader)
        if "timecode" in container.metadata and self._suffix not in _TIMECODE_SUFFIXES:  # in MXF
            self._note_left_out("the timecode")
        if unsupported:
            self.notes.append(f"{self._suffix} files cannot store these properties of tracks: {', '.join(unsupported)}")
        if chapters:
            self._add_chapters(chapters)

    def _add_chapters(self, chapters: Sequence["Chapter"]) -> None:
        if self._window.slowdown is None:
            self.notes.append(f"{len(chapters)} chapters are left out: the speed of the video varies")
        elif self._suffix in CHAPTER_SUFFIXES:
            converted, notes = convert_chapters(chapters, self._offset, self._window, self._suffix)
            self._output.set_chapters(converted)
            self.notes += notes
        else:
            self._note_left_out(f"{len(chapters)} chapters", plural=True)

    def _create_writer(self, stream: Stream) -> TrackWriter | None:
        """The writer of a track; None if it is left out or has no packets to write."""
        if stream.type == "audio":
            if self._audio:
                return self._create_audio_writer(stream)
            if self._window.slowdown != 1:
                self.notes.append(f"audio track #{stream.index} is left out, as asked")
            return None
        if stream.type == "subtitle":
            return self._create_subtitle_writer(stream)
        if isinstance(stream, AttachmentStream):
            if self._suffix == ".mkv":
                self._output.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            else:
                self._note_left_out(f"attachment {stream.name}")
        elif stream.type == "video":
            self._add_cover_or_note_video(stream)
        elif "timecode" not in stream.metadata:
            self._note_left_out(f"{stream.type} track #{stream.index}")
        elif self._suffix not in _TIMECODE_SUFFIXES:  # else it becomes a tag of the video track
            self._note_left_out("the timecode")
        return None

    def _add_cover_or_note_video(self, stream: Stream) -> None:
        if not stream.disposition & Disposition.attached_pic:
            self.notes.append(f"video track #{stream.index} is left out: only the default video track is interpolated")
        elif self._suffix not in _COVER_SUFFIXES:
            self._note_left_out(f"cover picture #{stream.index}")
        else:
            try:
                packet = add_cover(self._source, stream, self._output)
            except ValueError as error:
                self._note_left_out(f"cover picture #{stream.index} ({error})")
            else:
                self._cover_packets += [] if packet is None else [packet]

    def _create_audio_writer(self, stream: Stream) -> TrackWriter | None:
        name = f"audio track #{stream.index}"
        if self._suffix in VIDEO_ONLY_SUFFIXES:
            return self._note_left_out(name)
        if stream.codec_context is None or not isinstance(stream, AudioStream):
            return self._note_left_out(f"{name}, of a codec that FFmpeg does not know,")
        slowdown = self._window.slowdown
        if slowdown is None or not 1 / MAX_STRETCH <= slowdown <= MAX_STRETCH:
            how = "varies" if slowdown is None else f"changes more than {MAX_STRETCH} times"
            self.notes.append(f"{name} is left out: the speed of the video {how}")
            return None
        codec = stream.codec_context.name
        if slowdown == 1 and _players_find_audio(self._suffix, stream) and _can_copy(self._output.format.name, stream):
            return StreamCopier(stream, self._output, self._offset)
        if not can_decode(self._source, stream.index):
            self.notes.append(f"{name} ({codec}) is left out: it cannot be decoded, nor copied into {self._suffix}")
            return None
        channels = stream.layout.nb_channels
        encoder = _choose_encoder(self._suffix, channels)
        try:
            writer = AudioTranscoder(stream, self._output, encoder, self._offset, slowdown=slowdown)
        except (av.error.FFmpegError, ValueError) as error:
            return self._note_left_out(f"{name} ({codec}: {error})")
        if slowdown != 1:
            change = f"is stretched {float(slowdown):g} times at the same pitch, and encoded with {encoder}"
        else:
            downmix = f", {channels} channels as {writer.layout}" if writer.channels < channels else ""
            change = f"({codec}) cannot be copied into {self._suffix} and was encoded with {encoder}{downmix}"
        self.notes.append(f"{name} {change}")
        return writer

    def _create_subtitle_writer(self, stream: Stream) -> TrackWriter | None:
        if self._window.slowdown is None:
            self.notes.append(f"subtitle track #{stream.index} is left out: the speed of the video varies")
            return None
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        name = f"subtitle track #{stream.index} ({codec})"
        found_by_players = self._suffix != ".ts" or codec in _TS_SUBTITLES
        if found_by_players and stream.codec_context is not None and _can_copy(self._output.format.name, stream):
            return StreamCopier(stream, self._output, self._offset)
        if self._suffix not in _TEXT_CODECS or not is_text_codec(codec):
            return self._note_left_out(name)
        target = _TEXT_CODECS[self._suffix]
        self.notes.append(f"{name} was converted to {target}, without styles")
        return SubtitleConverter(stream, self._output, target, self._offset)

    def _note_left_out(self, name: str, *, plural: bool = False) -> None:
        verb, what = ("are", "them, or they") if plural else ("is", "it, or it")
        self.notes.append(f"{name} {verb} left out: {self._suffix} files cannot hold {what} cannot be read")

    def advance(self, time: Fraction) -> None:
        """Write all packets that start before ``time``, in seconds of the output, and a little more."""
        self._write_until(time / (self._window.slowdown or 1) + self._offset + _LEAD)

    def finish(self) -> None:
        """Write all packets that are left."""
        self._write_until(None)
        for writer in self._writers.values():
            writer.finish()
            if writer.is_empty and not writer.damaged_packets:
                self.notes.append(f"{writer.name} has no packets in the part of the video that is shown")
            if writer.damaged_packets:
                plural = "packet" if writer.damaged_packets == 1 else "packets"
                verb = "was" if writer.damaged_packets == 1 else "were"
                self.notes.append(f"{writer.damaged_packets} damaged {plural} of {writer.name} {verb} left out")

    def close(self) -> None:
        """Close the source file."""
        self._pending = None
        if self._input is not None:
            self._input.close()

    def _write_until(self, end: Fraction | None) -> None:
        """Write packets that start up to a time of the source, in seconds; all of them if None."""
        cover_packets, self._cover_packets = self._cover_packets, []
        self._output.mux(cover_packets)
        while True:
            item = self._pending if self._pending is not None else next(self._packets, None)
            self._pending = None
            if item is None:
                return
            packet, shift = item
            writer = self._writers.get(packet.stream.index)
            timestamp = packet.dts if packet.dts is not None else packet.pts
            if writer is None or timestamp is None or packet.size == 0:
                continue
            start = timestamp * packet.time_base + shift
            if end is not None and start > end:
                self._pending = item
                return
            start -= self._offset
            stop = start + (packet.duration or 0) * packet.time_base
            if stop > _EARLIEST_END and self._window.overlaps(start, stop):
                self._write_packet(writer, packet, shift)

    def _write_packet(self, writer: TrackWriter, packet: av.Packet, shift: Fraction) -> None:
        """Write a packet, cut at the start of the window; in slow motion its ticks are longer."""
        begin = self._window.begin
        if begin is not None and packet.pts is not None and packet.stream.type == "subtitle":
            cut = max(0, int((begin + self._offset - shift) / packet.time_base) - packet.pts)
            packet.pts += cut
            packet.dts = packet.pts
            packet.duration = max(1, (packet.duration or 0) - cut)
        slowdown = self._window.slowdown or Fraction(1)
        if slowdown != 1 and not isinstance(writer, AudioTranscoder):
            packet.time_base *= slowdown
            shift = (shift - self._offset) * slowdown + self._offset
        writer.write(packet, shift)


def _can_copy(muxer: str, stream: Stream) -> bool:
    """Whether a container can hold the track as it is: a header for it is written into memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            StreamCopier(stream, trial, Fraction(0))
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, AttributeError):
        return False
    return True


def _players_find_audio(suffix: str, stream: AudioStream) -> bool:
    """Whether common players, and not FFmpeg alone, play such audio in such a file."""
    codec = stream.codec_context.name
    if suffix in (".mp4", ".m4v") and codec.startswith("pcm_"):
        return codec in _MP4_PCM and stream.codec_context.sample_rate <= _MP4_PCM_MAX_RATE
    if suffix == ".avi":
        return codec in _AVI_AUDIO or (codec.startswith("pcm_") and codec != "pcm_bluray")
    return suffix != ".ts" or codec in _TS_AUDIO


def _choose_encoder(suffix: str, channels: int) -> str:
    """The audio encoder for a container; MP3 has two channels at most."""
    return "ac3" if suffix == ".avi" and channels > 2 else _AUDIO_ENCODERS.get(suffix, "aac")
