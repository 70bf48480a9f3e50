"""Comparison of output and input: side by side, as a difference, or as a contact sheet.

Every output frame is compared with the source frame that would be shown at its time without interpolation: the latest
one. The output is read from its file, so that the comparison shows what a viewer sees.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from rdvfi.media.image_files.images import write_png
from rdvfi.media.outputs.output import atomic_output, is_folder_output
from rdvfi.media.pixels import Picture, expand_video_levels, to_picture
from rdvfi.media.reader import ReadOptions, Source, open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink
from rdvfi.video.job_options import JobOptions

KINDS = ("side-by-side", "difference", "sheet")
_AMPLIFICATION = 4
"""Factor by which differences are multiplied."""
_ROWS = 6
_TILE_WIDTH = 360

_FramePair = tuple[Picture, Picture, Moment]  # source frame, output frame, and when it is shown


def comparison_path(kind: str, options: JobOptions, *, has_constant_speed: bool) -> Path:
    """The path of a comparison: beside the output of a job, with its kind in the name.

    Raises:
        ValueError: If there is no such kind, or the output cannot be compared.
        FileExistsError: If the path exists, and ``overwrite`` is off.
    """
    destination = options.target
    if kind not in KINDS:
        raise ValueError(f"compare is {kind!r}; it must be one of {', '.join(KINDS)}")
    if not has_constant_speed:
        raise ValueError("compare needs a steady speed, not a curve of speed or listed timestamps")
    suffix = ".mp4" if is_folder_output(destination) else destination.suffix
    target = destination.with_name(f"{destination.stem}.{kind}{'.png' if kind == 'sheet' else suffix}")
    if target.exists() and not options.overwrite:
        raise FileExistsError(f"{target} exists; replace it with overwrite=True, or move it away")
    return target


def write_comparison(kind: str, source: Source, path: Path, options: JobOptions) -> None:
    """Write a comparison of the output of a job with its source; see `comparison_path`."""
    output, overwrite = options.target, options.overwrite
    rate = 1 / source.info.tick if is_folder_output(output) else Fraction(24)
    written = open_source(output, ReadOptions(keep_start=True, image_rate=rate))
    pairs = _frame_pairs(source, written, options.timing.slow)
    if kind == "sheet":
        chosen = _most_different(pairs, written.info.frames)
        rows = [
            np.hstack([_tile(picture, text) for picture, text in _panels(before, after)]) for before, after, _ in chosen
        ]
        with atomic_output(path, overwrite=overwrite) as partial:
            write_png(partial, np.ascontiguousarray(np.vstack(rows)))
        return
    side_by_side = kind == "side-by-side"
    layout = replace(written.info.layout, bits=8, alpha=False)
    width = 2 * written.info.width if side_by_side else written.info.width
    info = replace(written.info, width=width, layout=layout, media=None, headroom=False)
    mean = written.info.span / max(1, written.info.frames - 1) or Fraction(1, 24)
    with open_sink(path, info, SinkOptions(), tick=info.tick, rate=1 / mean, overwrite=overwrite) as sink:
        for before, after, moment in pairs:
            sink.write(np.hstack((before, after)) if side_by_side else _difference(before, after), moment)


def _frame_pairs(source: Source, output: Source, slow: Fraction) -> Iterator[_FramePair]:
    """Every output frame, with the latest source frame at its time."""
    source_frames = source.frames()
    current = next(source_frames)
    following, begin = next(source_frames, None), current.stamp.time
    origin: Fraction | None = None
    for number, frame in enumerate(output.frames()):
        time, duration, _ = frame.stamp
        origin = time if origin is None else origin
        source_time = begin + (time - origin) / slow
        while following is not None and following.stamp.time <= source_time + Fraction(1, 2000):
            current, following = following, next(source_frames, None)
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        before = expand_video_levels(to_picture(current.pixels)[..., :3], headroom=source.info.headroom)
        if before.shape[:2] != frame.pixels.shape[:2]:  # odd sizes are padded
            before = cv2.resize(before, size)
        yield before, to_picture(frame.pixels)[..., :3], Moment(number, Fraction(0), time, duration)


def _difference(before: Picture, after: Picture) -> Picture:
    return np.clip(_AMPLIFICATION * cv2.absdiff(before, after).astype(np.int32), 0, 255).astype(np.uint8)


def _panels(before: Picture, after: Picture) -> list[tuple[Picture, str]]:
    return [(before, "input"), (after, "output"), (_difference(before, after), f"difference x{_AMPLIFICATION}")]


def _most_different(pairs: Iterator[_FramePair], expected: int) -> list[_FramePair]:
    """The pair with the largest difference of each of `_ROWS` parts of the clip, of about ``expected`` frames."""
    length = max(1, -(-expected // _ROWS))
    chosen: dict[int, tuple[float, _FramePair]] = {}
    for before, after, moment in pairs:
        change = float(cv2.absdiff(before, after).mean())
        part = min(moment.source // length, _ROWS - 1)
        if part not in chosen or change > chosen[part][0]:
            chosen[part] = change, (before.copy(), after, moment)
    return [pair for _, (_, pair) in sorted(chosen.items())]


def _tile(picture: Picture, text: str) -> Picture:
    height, width = picture.shape[:2]
    size = (_TILE_WIDTH, max(1, round(height * _TILE_WIDTH / width)))
    tile = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
