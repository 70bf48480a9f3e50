"""Sinks of frames: a video file with the source's other tracks, or a folder of PNG images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer

from rdvfi.media.image_files.images import write_png
from rdvfi.media.metadata.finalization import content_tags, finalize_file
from rdvfi.media.outputs.output import FRAME_NAME, atomic_output, is_folder_output
from rdvfi.media.outputs.pieces import FrameEncoder, RawFrameEncoder, unpack_frame
from rdvfi.media.pipes import OutputPipe, is_pipe, standard_output
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import SourceInfo
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.codecs import CONTAINER_TICKS
from rdvfi.media.video_files.encoding import Encoding, SinkOptions, plan_encoding
from rdvfi.media.video_files.probe import file_url
from rdvfi.media.video_files.scheduling import preserve_scheduling

_MUXER_OPTIONS = {
    # The index moves to the front of the file, so that players can start while it loads. Boxes of stereoscopy and
    # projection are not in the older standard, to which FFmpeg keeps unless it is told otherwise.
    **{suffix: {"movflags": "+faststart", "strict": "unofficial"} for suffix in (".mp4", ".m4v", ".mov")},
    # Players of AVI start each track at its first packet, so no time before zero may move the others.
    ".avi": {"avoid_negative_ts": "disabled"},
    # Otherwise the file would contain a random number, and no two would be equal.
    **{suffix: {"fflags": "+bitexact"} for suffix in (".mkv", ".webm")},
    ".y4m": {"strict": "-1"},  # allows more than 8 bits
    ".webp": {"loop": "0"},  # for ever, as GIF
    ".apng": {"plays": "0"},
}


class Sink(ABC):
    """Takes the output frames in order."""

    notes: list[str]
    """One sentence for each property in which the output differs from the source."""

    @abstractmethod
    def write(self, pixels: Pixels, moment: Moment) -> None:
        """Write one frame."""

    def encoder(self) -> FrameEncoder:
        """A new encoder for the next segment; see `rdvfi.media.outputs.pieces`."""
        return RawFrameEncoder()

    def write_piece(self, piece: Any) -> None:
        """Write a piece from one of its encoders, of this run or another; pieces come in order."""
        self.write(piece.pixels, piece.moment)

    def unpack(self, data: bytes) -> Any:
        """The piece that one of its encoders packed."""
        return unpack_frame(data)

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held back."""


class FolderSink(Sink):
    """Numbered PNG images, 16 bits per channel if the source has more than 8."""

    def __init__(self, folder: Path, profile: bytes = b"") -> None:
        self._folder, self._profile = folder, profile
        self._count = 0
        self.notes = []

    def write(self, pixels: Pixels, moment: Moment) -> None:
        write_png(self._folder / FRAME_NAME.format(self._count), pixels, profile=self._profile)
        self._count += 1

    def finish(self) -> None:
        """Nothing is held back."""


def check_options(
    destination: Path, info: SourceInfo, options: SinkOptions, *, interval: Fraction | None = None
) -> Encoding | None:
    """Refuse options that do not fit the destination, before any work.

    ``interval`` is the approximate time from one output frame to the next, in seconds.

    Returns:
        How frames are encoded; None for a folder of images.

    Raises:
        ValueError: If codec, quality, frame size or frame rate do not fit it.
    """
    if is_folder_output(destination):
        names = ("codec", "crf", "preset", "bitrate", "pix_fmt")
        if any(getattr(options, name) is not None for name in names):
            raise ValueError(f"{', '.join(names)} are for video files; {destination} is a folder")
        return None
    encoding = plan_encoding(destination, info, options)
    tick = CONTAINER_TICKS.get(destination.suffix.lower())
    if interval is not None and tick is not None and interval < tick:
        raise ValueError(
            f"frames {1000 * float(interval):.3g} ms apart, {float(1 / interval):.6g} frames per second, are more than "
            f"{destination.suffix} files can show, which is {float(1 / tick):g}; make fewer frames, or choose .mp4"
        )
    return encoding


def segment_encoder_factory(
    destination: Path, info: SourceInfo, options: SinkOptions, *, tick: Fraction, rate: Fraction
) -> Callable[[], FrameEncoder]:
    """A factory of encoders that equal those of the sink that `open_sink` opens with the same arguments."""
    from rdvfi.media.video_files.video_encoder import VideoEncoder, encoder_tick

    if is_folder_output(destination):
        return RawFrameEncoder
    encoding, suffix = plan_encoding(destination, info, options), destination.suffix.lower()
    if not encoding.joins:
        return RawFrameEncoder
    time_base = encoder_tick(suffix, tick, rate)
    return lambda: VideoEncoder(info, encoding, suffix=suffix, tick=time_base, rate=rate)


@contextmanager
def open_sink(
    destination: Path, info: SourceInfo, options: SinkOptions, *, tick: Fraction, rate: Fraction, overwrite: bool = True
) -> Iterator[Sink]:
    """A sink whose output appears at ``destination`` when the block ends without an error.

    Args:
        destination: A file with a known video suffix, or a folder.
        info: The source.
        options: How to write.
        tick: A time, in seconds, of which every timestamp is a multiple.
        rate: About how many frames per second there will be.
        overwrite: Replace what has appeared there meanwhile.

    Raises:
        ValueError: If the container cannot hold the video or its audio.
        FileExistsError: If something has appeared there meanwhile and is not to be replaced.
    """
    if is_pipe(destination):
        with _open_video_sink(standard_output(), destination, info, options, tick=tick, rate=rate) as sink:
            yield sink
        return
    with atomic_output(destination, overwrite=overwrite) as partial:
        if is_folder_output(destination):
            folder_sink = FolderSink(partial, info.profile)
            yield folder_sink
            folder_sink.finish()
            return
        with _open_video_sink(partial, destination, info, options, tick=tick, rate=rate) as sink:
            yield sink
        sink.notes += finalize_file(partial, destination.suffix.lower(), info)


@contextmanager
def _open_video_sink(
    target: Path | OutputPipe, destination: Path, info: SourceInfo, options: SinkOptions, **timing: Fraction
) -> Iterator[Sink]:
    """A sink that writes a video file to ``target``, which is complete when the block ends."""
    from rdvfi.media.video_files.video_sink import VideoSink

    encoding = plan_encoding(destination, info, options)
    container = _open_container(target, destination, info)
    sink = None
    try:
        with translate_write_errors(destination), preserve_scheduling():
            sink = VideoSink(container, info, encoding, destination=destination, audio=options.audio, **timing)
            container.start_encoding()
        yield sink
        with translate_write_errors(destination):
            sink.finish()
            container.close()
    except BaseException:
        with suppress(av.error.FFmpegError, BrokenPipeError):  # the first error is the one to report
            container.close()
        raise
    finally:
        if sink is not None:
            sink.close()


def _open_container(target: Path | OutputPipe, destination: Path, info: SourceInfo) -> OutputContainer:
    from rdvfi.media.video_files.video_encoder import MUXERS

    suffix = destination.suffix.lower()
    muxer_options = dict(_MUXER_OPTIONS.get(suffix, {}))
    if "movflags" in muxer_options and any(key.startswith("com.") for key in content_tags(info.metadata)):
        muxer_options["movflags"] += "+use_metadata_tags"  # the form of tags that phones write
    with translate_write_errors(destination):
        file = file_url(target) if isinstance(target, Path) else target
        return av.open(file, "w", format=MUXERS[suffix], container_options=muxer_options)


@contextmanager
def translate_write_errors(destination: Path) -> Iterator[None]:
    """Raise errors of FFmpeg as ``ValueError`` that names the output; a closed pipe stays a ``BrokenPipeError``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot write {destination}: {error.strerror}") from error
