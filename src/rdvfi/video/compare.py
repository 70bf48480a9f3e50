"""Comparison of output and input: side by side, as a difference, or as a contact sheet.

Beside every frame of the output stands the frame of the source that would be shown at that time without
interpolation: the latest one. The output is read from its file, so what is compared is what others see.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from rdvfi.media.image_files.images import write_png
from rdvfi.media.outputs.output import atomic_output, is_folder_output
from rdvfi.media.pipes import is_pipe
from rdvfi.media.pixels import Picture, expand_video_levels, to_picture
from rdvfi.media.reader import ReadOptions, Source, open_source
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink

KINDS = ("side-by-side", "difference", "sheet")
_AMPLIFIED = 4
"""Differences are shown so many times larger."""
_ROWS = 6
_TILE_WIDTH = 360


def check_compare(kind: str, destination: Path, *, steady: bool, overwrite: bool) -> Path:
    """Where a comparison goes: beside the output, with its kind in the name.

    Args:
        kind: One of `KINDS`.
        destination: The output.
        steady: Whether the speed of the output is the same all the time.
        overwrite: Whether the comparison may replace a file.

    Raises:
        ValueError: If there is no such kind, or nothing to compare with.
        FileExistsError: If it exists, and ``overwrite`` is off.
    """
    if kind not in KINDS:
        raise ValueError(f"compare is {kind!r}; it must be one of {', '.join(KINDS)}")
    if is_pipe(destination):
        raise ValueError("compare reads the output again, which standard output does not allow: write a file")
    if not steady:
        raise ValueError("compare needs a steady speed, not a curve of speed or listed timestamps")
    suffix = ".mp4" if is_folder_output(destination) else destination.suffix
    target = destination.with_name(f"{destination.stem}.{kind}{'.png' if kind == 'sheet' else suffix}")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; replace it with overwrite=True, or move it away")
    return target


def compare(kind: str, source: Source, made: Path, target: Path, *, slow: Fraction, overwrite: bool) -> None:
    """Write a comparison.

    Args:
        kind: One of `KINDS`.
        source: What went in.
        made: What came out.
        target: The file to write: see `check_compare`.
        slow: How many times longer the output runs.
        overwrite: Replace the file if it exists.
    """
    rate = 1 / source.info.tick if is_folder_output(made) else Fraction(24)
    out = open_source(made, ReadOptions(keep_start=True, image_rate=rate))
    pairs = _pairs(source, out, slow)
    if kind == "sheet":
        shown = _spread(pairs, out.info.frames)
        rows = [np.hstack([_tile(x, text) for x, text in _panels(a, b)]) for a, b, _ in shown]
        with atomic_output(target, overwrite=overwrite) as partial:
            write_png(partial, np.ascontiguousarray(np.vstack(rows)))
        return
    wide = 2 if kind == "side-by-side" else 1
    layout = replace(out.info.layout, bits=8, alpha=False)
    info = replace(out.info, width=wide * out.info.width, layout=layout, media=None, headroom=False)
    mean = out.info.span / max(1, out.info.frames - 1) or Fraction(1, 24)
    with open_sink(target, info, SinkOptions(), tick=out.info.tick, rate=1 / mean, overwrite=overwrite) as sink:
        for before, now, moment in pairs:
            sink.write(np.hstack((before, now)) if wide == 2 else _difference(before, now), moment)


def _pairs(source: Source, out: Source, slow: Fraction) -> Iterator[tuple[Picture, Picture, Moment]]:
    """Every frame of the output, and the latest of the source at its time."""
    incoming = source.frames()
    held = next(incoming)
    following, begin = next(incoming, None), held.stamp.time
    origin: Fraction | None = None
    for number, frame in enumerate(out.frames()):
        time, duration, _ = frame.stamp
        origin = time if origin is None else origin
        place = begin + (time - origin) / slow
        while following is not None and following.stamp.time <= place + Fraction(1, 2000):
            held, following = following, next(incoming, None)
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        before = expand_video_levels(to_picture(held.pixels)[..., :3], headroom=source.info.headroom)
        if before.shape[:2] != frame.pixels.shape[:2]:  # odd sizes are padded
            before = cv2.resize(before, size)
        yield before, to_picture(frame.pixels)[..., :3], Moment(number, Fraction(0), time, duration)


def _difference(before: Picture, now: Picture) -> Picture:
    return np.clip(_AMPLIFIED * cv2.absdiff(before, now).astype(np.int32), 0, 255).astype(np.uint8)


def _panels(before: Picture, now: Picture) -> list[tuple[Picture, str]]:
    return [(before, "input"), (now, "output"), (_difference(before, now), f"difference x{_AMPLIFIED}")]


def _spread(pairs: Iterator[tuple[Picture, Picture, Moment]], expected: int) -> list[tuple[Picture, Picture, Moment]]:
    """New frames spread over the clip, each the one that differs most of its part."""
    length = max(1, -(-expected // _ROWS))
    chosen: dict[int, tuple[float, tuple[Picture, Picture, Moment]]] = {}
    for before, now, moment in pairs:
        change = float(cv2.absdiff(before, now).mean())
        part = min(moment.source // length, _ROWS - 1)
        if part not in chosen or change > chosen[part][0]:
            chosen[part] = change, (before.copy(), now, moment)
    return [item for _, (_, item) in sorted(chosen.items())]


def _tile(picture: Picture, text: str) -> Picture:
    height, width = picture.shape[:2]
    size = (_TILE_WIDTH, max(1, round(height * _TILE_WIDTH / width)))
    tile = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
