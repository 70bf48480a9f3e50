"""Copying sound: packets go from file to file untouched, in step with the new frames."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Discard

_LEAD = Fraction(1, 2)
"""Seconds by which sound may run ahead of the frames, as players like it interleaved."""


class SoundCopier:
    """Copies all audio streams of a file, packet by packet.

    The file is read a second time beside the decoder, so that memory stays bounded however its
    streams are interleaved. The time line of the source is kept, hence the sound stays in step.
    """

    def __init__(self, source: Path | None, output: OutputContainer) -> None:
        self._output = output
        self._input: InputContainer | None = None
        self._packets: Iterator[av.Packet] = iter(())
        self._held: av.Packet | None = None
        self._targets: dict[int, AudioStream] = {}
        if source is None:
            return
        container = av.open(str(source), metadata_errors="replace")
        self._input = container
        try:
            streams = container.streams.audio
            for stream in streams:
                self._targets[stream.index] = self._add(stream)
            for stream in container.streams:
                if stream.index not in self._targets:
                    stream.discard = Discard.all
            if self._targets:
                self._packets = container.demux(*streams)
        except BaseException:
            container.close()
            raise

    def _add(self, stream: AudioStream) -> AudioStream:
        codec = stream.codec_context.name
        try:
            target = self._output.add_stream_from_template(stream)
        except (av.error.FFmpegError, ValueError) as error:
            raise ValueError(
                f"a {self._output.format.name} file cannot hold {codec} sound; choose another "
                "suffix (.mkv holds all), or leave the sound out"
            ) from error
        target.metadata.update(stream.metadata)
        target.disposition = stream.disposition
        return target

    def advance(self, time: Fraction) -> None:
        """Copy all packets that start before ``time`` and a little more."""
        self._copy(time + _LEAD)

    def finish(self) -> None:
        """Copy all packets that are left."""
        self._copy(None)

    def close(self) -> None:
        """Release the source file."""
        self._held = None
        if self._input is not None:
            self._input.close()

    def _copy(self, until: Fraction | None) -> None:
        while True:
            packet = self._held if self._held is not None else next(self._packets, None)
            self._held = None
            if packet is None:
                return
            if packet.dts is None:  # the flush packets at the end
                continue
            if until is not None and packet.dts * packet.time_base > until:
                self._held = packet
                return
            packet.stream = self._targets[packet.stream_index]
            self._output.mux(packet)
