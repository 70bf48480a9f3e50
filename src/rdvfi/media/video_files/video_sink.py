"""A video file as a sink of frames."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from rdvfi.media.metadata.finalization import content_tags
from rdvfi.media.other_tracks.chapters import TrackWindow
from rdvfi.media.other_tracks.tracks import Tracks
from rdvfi.media.outputs.pieces import FrameEncoder, RawFrame, RawFrameEncoder, unpack_frame
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import Encoding
from rdvfi.media.video_files.video_encoder import VideoEncoder, check_apart, encoder_tick, unpack_packet
from rdvfi.media.writer import Sink, writing


class VideoSink(Sink):
    """Encodes a video track with exact timestamps and takes the source's other tracks along.

    Timestamps are counted in ``tick``, in which every one of them is whole. MP4 and MOV keep
    them exactly; Matroska and WebM round each to a millisecond, without adding up.
    """

    def __init__(
        self,
        container: OutputContainer,
        info: SourceInfo,
        encoding: Encoding,
        *,
        destination: Path,
        tick: Fraction,
        rate: Fraction,
        audio: bool,
    ) -> None:
        suffix = destination.suffix.lower()
        self._destination = destination
        self._container, self._encoding, self._suffix = container, encoding, suffix
        self._info, self._rate = info, rate
        self._tick = encoder_tick(suffix, tick, rate)
        self._own = self._built(container)
        self._spare: VideoEncoder | None = self._own
        self._held: av.Packet | None = None
        self._first_dts: int | None = None
        self._last_dts: int | None = None
        self._start: int | None = None
        self._latest: int | None = None
        self._end = 0
        container.metadata.update(content_tags(info.metadata))
        self._tracks = Tracks(
            info.media,
            container,
            suffix,
            offset=info.offset,
            audio=audio,
            time=TrackWindow(info.begin, info.end, info.slowdown),
        )
        self.notes = [*encoding.notes, *self._tracks.notes]

    def _built(self, container: OutputContainer | None = None) -> VideoEncoder:
        return VideoEncoder(
            self._info, self._encoding, suffix=self._suffix, tick=self._tick, rate=self._rate, container=container
        )

    def encoder(self) -> FrameEncoder:
        """See `Sink.encoder`: packets of a new encoder, where the format can be put together from such."""
        if not self._encoding.joins:
            return RawFrameEncoder()
        # The first one is that of the file itself, which has to be opened for the header anyway.
        spare, self._spare = self._spare, None
        return spare or self._built()

    def write_piece(self, piece: av.Packet | RawFrame) -> None:
        if isinstance(piece, RawFrame):
            self.write(piece.pixels, piece.moment)
        else:
            with writing(self._destination):
                self._mux(piece)

    def unpack(self, data: bytes) -> av.Packet | RawFrame:
        return unpack_packet(data, self._tick) if self._encoding.joins else unpack_frame(data)

    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Encode one frame, and write other tracks up to its time.

        Raises:
            ValueError: If the container cannot hold its time.
        """
        with writing(self._destination):
            for packet in self._own.encode(pixels, moment):
                self._mux(packet)

    def finish(self) -> None:
        if self._spare is not None:  # frames came by `write`
            for packet in self._own.flush():
                self._mux(packet)
        self._mux_last()
        told = len(self._tracks.notes)
        self._tracks.finish()
        self.notes += self._tracks.notes[told:]

    def close(self) -> None:
        """Release the source of the other tracks."""
        self._tracks.close()

    def _mux(self, packet: av.Packet) -> None:
        """Write a packet, and other tracks up to its time; the latest waits, for it may be the last."""
        assert packet.pts is not None
        if packet.is_keyframe and self._latest is not None:  # later than all before it, also where encoders reorder
            check_apart(self._latest, packet.pts, tick=self._tick, suffix=self._suffix)
        assert self._own.stream is not None
        packet.stream = self._own.stream
        if packet.dts is not None:
            # Decoding times of a segment follow from its own frames alone. Where the frame rate varies, the
            # first ones may fall behind the last ones of the segment before.
            packet.dts = packet.dts if self._last_dts is None else max(packet.dts, self._last_dts + 1)
            self._last_dts = packet.dts
            self._first_dts = packet.dts if self._first_dts is None else self._first_dts
        self._start = packet.pts if self._start is None else self._start
        self._latest = packet.pts if self._latest is None else max(self._latest, packet.pts)
        self._end = max(self._end, packet.pts + (packet.duration or 0))
        time = packet.pts * self._tick
        if self._held is not None:
            self._container.mux(self._held)
        self._held = packet
        self._tracks.advance(time)

    def _mux_last(self) -> None:
        """Write the last packet in the order of decoding, which is seldom the last one shown.

        MP4 adds up durations in that order; the sum must be the time for which frames are shown, and no
        packet may last longer than the film.
        """
        packet, first, start = self._held, self._first_dts, self._start
        if packet is None:
            return
        added = self._suffix in (".mp4", ".m4v", ".mov")
        if added and packet.dts is not None and packet.pts is not None and first is not None and start is not None:
            packet.dts = max(packet.dts, first + packet.pts - start)
            packet.duration = max(1, (self._end - start) - (packet.dts - first))
        self._container.mux(packet)
