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
from rdvfi.media.video_files.probe import VideoIndex, display_name, open_video, select_decoder, video_stream

_NumberedFrames = Iterator[tuple[int, av.VideoFrame]]


def decode_frames(
    file: Path | BytesIO, index: VideoIndex, numbers: Sequence[int], *, conversion: str = EXACT
) -> Iterator[Picture]:
    """Frames of a file by rising number, one at a time; raises ValueError if the file is damaged."""
    if not numbers:
        return
    with open_video(file) as container:
        colour = Colour.from_context(video_stream(container, file).codec_context)
    converter = Converter(colour, deep=False, conversion=conversion)
    wanted = set(numbers)
    try:
        for number, frame in _decode_from(file, index, numbers[0]):
            if number in wanted:
                yield to_picture(converter.to_rgb(frame))
            if number >= numbers[-1]:
                return
    except av.error.FFmpegError as error:
        raise ValueError(f"{display_name(file)} is damaged: {error.strerror}") from error


def _decode_from(file: Path | BytesIO, index: VideoIndex, start: int) -> _NumberedFrames:
    """Frames with their numbers, from frame ``start`` or an earlier one on."""
    if 0 < start < len(index.times):
        with open_video(file) as container:
            frames = _seek(container, file, index.times[start])
            if frames is not None:
                yield from _number_by_time(frames, index)
                return
    with open_video(file) as container:
        frames = _decode_stream(container, video_stream(container, file))
        yield from _number_by_time(frames, index) if index.times else enumerate(frames)


def _seek(container: InputContainer, file: Path | BytesIO, pts: int) -> Iterator[av.VideoFrame] | None:
    """Frames from ``pts`` or earlier on; None if seeking ends behind it."""
    stream = video_stream(container, file)
    container.seek(pts, stream=stream, backward=True)
    frames = _decode_stream(container, stream)
    first = next(frames, None)
    if first is None or first.pts is None or first.pts > pts:
        return None
    return chain((first,), frames)


def _decode_stream(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    decoder = select_decoder(stream)
    decoder.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.size or packet.pts is None:  # an empty packet with a timestamp repeats the frame before
            yield from decoder.decode(packet)


def _number_by_time(frames: Iterator[av.VideoFrame], index: VideoIndex) -> _NumberedFrames:
    for frame in frames:
        if frame.pts is not None:
            yield bisect_left(index.times, frame.pts), frame
