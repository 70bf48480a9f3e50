"""Decoding frames of a video by number."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from rdvfi.media.colour import Colour, Converter
from rdvfi.media.pixels import EXACT, Picture, to_picture
from rdvfi.media.video_files.probe import VideoIndex, decoder_of, name_of, open_video, video_stream


def decode_frames(
    file: Path | BytesIO, index: VideoIndex, numbers: Sequence[int], *, conversion: str = EXACT
) -> Iterator[Picture]:
    """Frames of a file by rising number, 8-bit RGB, each as soon as it is decoded.

    Raises:
        ValueError: If the file is damaged.
    """
    if not numbers:
        return
    with open_video(file) as container:
        converter = Converter(
            Colour.from_context(video_stream(container, file).codec_context), deep=False, conversion=conversion
        )
    wanted = set(numbers)
    try:
        for number, frame in _numbered(file, index, numbers[0]):
            if number in wanted:
                yield to_picture(converter.to_rgb(frame))
            if number >= numbers[-1]:
                return
    except av.error.FFmpegError as error:
        raise ValueError(f"{name_of(file)} is damaged: {error.strerror}") from error


def _numbered(file: Path | BytesIO, index: VideoIndex, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers, from ``start`` or earlier on."""
    if 0 < start < len(index.times):
        with open_video(file) as container:
            entered = _enter(container, file, index.times[start])
            if entered is not None:
                yield from _by_time(entered, index)
                return
    with open_video(file) as container:
        frames = _decoded(container, video_stream(container, file))
        yield from _by_time(frames, index) if index.times else enumerate(frames)


def _enter(container: InputContainer, file: Path | BytesIO, time: int) -> Iterator[av.VideoFrame] | None:
    """Frames from ``time`` or earlier on by seeking; None where that leads past it."""
    stream = video_stream(container, file)
    container.seek(time, stream=stream, backward=True)
    decoded = _decoded(container, stream)
    first = next(decoded, None)
    if first is None or first.pts is None or first.pts > time:
        return None
    return chain((first,), decoded)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    decoder = decoder_of(stream)
    decoder.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.size or packet.pts is None:  # not one that shows a picture once more
            yield from decoder.decode(packet)


def _by_time(frames: Iterator[av.VideoFrame], index: VideoIndex) -> Iterator[tuple[int, av.VideoFrame]]:
    for frame in frames:
        if frame.pts is not None:
            yield bisect_left(index.times, frame.pts), frame
