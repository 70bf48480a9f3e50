"""A video file as a sink of frames."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from rdvfi.media.metadata.finalization import content_tags
from rdvfi.media.other_tracks.chapters import TrackWindow
from rdvfi.media.other_tracks.tracks import OtherTracks
from rdvfi.media.outputs.pieces import FrameEncoder, RawFrame, RawFrameEncoder, unpack_frame
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import Encoding
from rdvfi.media.video_files.video_encoder import VideoEncoder, check_distinct_times, encoder_tick, unpack_packet
from rdvfi.media.writer import Sink, translate_write_errors

_MP4_SUFFIXES = (".mp4", ".m4v", ".mov")


class VideoSink(Sink):
    """Encodes a video track with exact timestamps and copies the source's other tracks.

    Timestamps are counted in ``tick``, in which each of them is a whole number. MP4 and MOV keep them exactly;
    Matroska and WebM round each to a millisecond, without accumulating the error.
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
        self._destination, self._suffix = destination, destination.suffix.lower()
        self._container, self._encoding = container, encoding
        self._info, self._rate = info, rate
        self._tick = encoder_tick(self._suffix, tick, rate)
        self._encoder = self._create_encoder(container)
        self._unused_encoder: VideoEncoder | None = self._encoder
        self._pending: av.Packet | None = None
        self._first_dts: int | None = None
        self._last_dts: int | None = None
        self._first_pts: int | None = None
        self._latest_pts: int | None = None
        self._end_pts = 0
        container.metadata.update(content_tags(info.metadata))
        window = TrackWindow(info.begin, info.end, info.slowdown)
        self._tracks = OtherTracks(info.media, container, self._suffix, offset=info.offset, audio=audio, window=window)
        self.notes = [*encoding.notes, *self._tracks.notes]

    def _create_encoder(self, container: OutputContainer | None = None) -> VideoEncoder:
        return VideoEncoder(
            self._info, self._encoding, suffix=self._suffix, tick=self._tick, rate=self._rate, container=container
        )

    def encoder(self) -> FrameEncoder:
        """See `Sink.encoder`: a new video encoder, if its packets can be joined to those of others."""
        if not self._encoding.joins:
            return RawFrameEncoder()
        # The first segment gets the encoder of the file, which has to be opened for the header anyway.
        unused, self._unused_encoder = self._unused_encoder, None
        return unused or self._create_encoder()

    def write_piece(self, piece: av.Packet | RawFrame) -> None:
        if isinstance(piece, RawFrame):
            self.write(piece.pixels, piece.moment)
        else:
            with translate_write_errors(self._destination):
                self._mux(piece)

    def unpack(self, data: bytes) -> av.Packet | RawFrame:
        return unpack_packet(data, self._tick) if self._encoding.joins else unpack_frame(data)

    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Encode one frame, and write other tracks up to its time.

        Raises:
            ValueError: If the container cannot hold its time.
        """
        with translate_write_errors(self._destination):
            for packet in self._encoder.encode(pixels, moment):
                self._mux(packet)

    def finish(self) -> None:
        if self._unused_encoder is not None:  # frames were given to `write`, not to encoders of segments
            for packet in self._encoder.flush():
                self._mux(packet)
        self._mux_last()
        earlier_notes = len(self._tracks.notes)
        self._tracks.finish()
        self.notes += self._tracks.notes[earlier_notes:]

    def close(self) -> None:
        """Close the source of the other tracks."""
        self._tracks.close()

    def _mux(self, packet: av.Packet) -> None:
        """Write the packet before, and other tracks up to this one's time; the last packet needs another duration."""
        assert packet.pts is not None
        # A keyframe is later than all frames before it, also where the encoder reorders frames.
        if packet.is_keyframe and self._latest_pts is not None:
            check_distinct_times(self._latest_pts, packet.pts, tick=self._tick, suffix=self._suffix)
        assert self._encoder.stream is not None
        packet.stream = self._encoder.stream
        if packet.dts is not None:
            # Decoding timestamps of a segment follow from its own frames alone. With a variable frame rate, the
            # first ones may not be later than the last ones of the segment before.
            packet.dts = packet.dts if self._last_dts is None else max(packet.dts, self._last_dts + 1)
            self._last_dts = packet.dts
            self._first_dts = packet.dts if self._first_dts is None else self._first_dts
        self._first_pts = packet.pts if self._first_pts is None else self._first_pts
        self._latest_pts = packet.pts if self._latest_pts is None else max(self._latest_pts, packet.pts)
        self._end_pts = max(self._end_pts, packet.pts + (packet.duration or 0))
        time = packet.pts * self._tick
        if self._pending is not None:
            self._container.mux(self._pending)
        self._pending = packet
        self._tracks.advance(time)

    def _mux_last(self) -> None:
        """Write the last packet in order of decoding, which is seldom the last one shown.

        MP4 adds up durations in that order. The sum must be the duration of the video, and no packet may last
        longer than the video.
        """
        packet = self._pending
        if packet is None:
            return
        if self._suffix in _MP4_SUFFIXES and packet.dts is not None and self._first_dts is not None:
            assert packet.pts is not None
            assert self._first_pts is not None
            packet.dts = max(packet.dts, self._first_dts + packet.pts - self._first_pts)
            packet.duration = max(1, (self._end_pts - self._first_pts) - (packet.dts - self._first_dts))
        self._container.mux(packet)
