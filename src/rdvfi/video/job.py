"""`interpolate_video`: files in, a file out."""

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import SupportsFloat

import torch

from rdvfi.media.background import read_colour
from rdvfi.media.encoding import SinkOptions, keeps_alpha, keeps_video_levels
from rdvfi.media.image_header import MAX_PIXELS
from rdvfi.media.letterbox import find_letterbox
from rdvfi.media.output import check_destination, check_picture, is_folder_output
from rdvfi.media.pipes import is_pipe, pipe_destination
from rdvfi.media.reader import ReadOptions, SourceInfo, open_source
from rdvfi.media.writer import check_options, open_sink
from rdvfi.video.compare import check_compare
from rdvfi.video.compare import compare as write_comparison
from rdvfi.video.contact_sheet import ContactSheet
from rdvfi.video.engine import Engine, Progress
from rdvfi.video.job_report import LowConfidenceWarning, VideoReport, check_report, write_report
from rdvfi.video.job_timing import JobTiming, Number, Speed, read_timing
from rdvfi.video.masks import read_mask
from rdvfi.video.ready import DEFAULT_MODEL, ModelLike, ready_model
from rdvfi.video.scene_changes import scene_changes
from rdvfi.video.speed_curve import Ramped
from rdvfi.video.timing import Listed, Multiply, Resample, Retiming, exact_rate

_LOGGER = logging.getLogger(__name__)

_PLAYBACK = Fraction(24)
"""Frames per second of what is made from images, unless a rate is given."""
_COUNTING = frozenset({".avi", ".apng"})
"""Files that number frames instead of saying when each is shown."""
_MOST_FRAMES = 10_000_000
"""Frames that come out at most: more is a slip, not a wish."""

PathLike = str | os.PathLike[str]


def interpolate_video(
    source: PathLike | Sequence[PathLike],
    destination: PathLike,
    *,
    model: ModelLike = DEFAULT_MODEL,
    multiplier: Number | None = None,
    target_fps: Number | None = None,
    slow: Number | None = None,
    speed: Speed | None = None,
    timestamps: Iterable[Number] | None = None,
    start: Number | None = None,
    end: Number | None = None,
    loop: bool = False,
    dedup: Number = "off",
    mask: PathLike | None = None,
    pipe_format: str | None = None,
    compare: str | None = None,
    report: PathLike | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    chunk: int | None = None,
    image_rate: SupportsFloat | None = None,
    codec: str | None = None,
    crf: int | None = None,
    audio: bool = True,
    preset: str | None = None,
    bitrate: int | None = None,
    pix_fmt: str | None = None,
    odd: str = "pad",
    keep_start: bool = False,
    strict: bool = False,
    deinterlace: str = "auto",
    crop_bars: bool = False,
    max_gap: SupportsFloat = 10,
    background: str = "black",
    max_pixels: int | None = None,
    allow_untrained: bool = False,
    overwrite: bool = False,
    contact_sheet: PathLike | None = None,
    on_scene_change: str = "blend",
    scene_threshold: float | None = None,
    progress: Progress | None = None,
) -> VideoReport:
    """Make a video smoother: new frames between all frames, sound and timing kept.

    Memory is bounded whatever the length. The destination appears when it is complete, or not at
    all.

    Args:
        source: A video file, a folder of images, or a list of image files.
        destination: A ``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.webm``, ``.ts``, ``.avi``, ``.gif``,
            ``.webp`` or ``.apng`` file, or a folder for PNG images.
        model: A name or folder for `create_model`, or a model.
        multiplier: New frame rate over the old one: any positive number, as 2, 2.5 or ``"24000/1001"``. A
            whole one gives (n - 1) * multiplier + 1 frames. 8 if nothing is given, 1 with ``slow`` and ``speed``.
        target_fps: Instead of a multiplier, a constant number of frames per second.
        slow: Times are so much longer, as 4 for a quarter of the speed; the frame rate stays that of the source
            unless it is given. Sound is stretched at the same pitch, or left out with ``audio=False``.
        speed: A curve of speed: its file, or key points (seconds of the output, speed). Sound is left out.
        timestamps: Instead of a rate, times of the source in seconds, rising, at which frames are wanted.
        start: Seconds, or ``h:mm:ss``; what is before is left out.
        end: The same for what is from there on.
        loop: New frames also between the last frame and the first.
        dedup: ``auto`` replaces pictures that are shown again by new frames, as in animation on twos; a whole
            number does so for pictures that are shown at most so many times; ``off`` leaves them.
        mask: An image of the film's size, bright where pixels stand still whatever moves behind them, as logos do;
            or ``auto`` to find them. New frames have them bit for bit.
        pipe_format: What ``-`` as destination, standard output, becomes: ``mkv``, which keeps times, or ``y4m``; by
            default y4m if that comes in, else Matroska with frames that are not encoded.
        compare: Also write what came out beside what went in: ``side-by-side`` or ``difference`` (videos) or
            ``sheet`` (a PNG), under the output's name with this word in it.
        report: Also write what was done, and why, as JSON.
        seed: Seed of the noise.
        device: Where a named model runs; CUDA if there is a device, else the CPU.
        dtype: Type of a named model; float16 on CUDA, float32 elsewhere.
        chunk: Frames drawn at once; chosen by their size if not given.
        image_rate: Images per second of an image source. If not given, what is made plays at 24
            frames per second.
        codec: ``h264``, ``hevc``, ``av1``, ``vp9``, ``prores``, ``ffv1`` (lossless) or another of
            `rdvfi.media.codecs.CODECS`; chosen by suffix and depth.
        crf: Quality of the codec; lower is better and larger.
        audio: Take the sound along: copied, or encoded where the container does not hold it.
        preset: The encoder's choice between speed and size, in its own words.
        bitrate: Bits per second, instead of a quality.
        pix_fmt: Pixel format of the encoder; by default depth and chroma of the source are kept.
        odd: Frames of an odd width or height: ``pad`` (by default), ``crop`` or ``444``, see
            `rdvfi.media.encoding.SinkOptions`.
        keep_start: Keep the times of the source's clock, instead of starting at zero.
        strict: Refuse a damaged source, instead of going on with the frames that there are.
        deinterlace: ``auto`` makes whole frames of those that are marked as interlaced, ``off`` leaves them as
            they are, ``on`` takes every frame for interlaced.
        crop_bars: Find the bars around a letterboxed picture, keep them still and interpolate what is between them.
        max_gap: Seconds between two source frames from which on the first is held, not interpolated.
        background: Colour on which transparent pictures are shown where the destination holds no
            transparency: ``black``, ``white``, ``gray`` or ``#rrggbb``.
        max_pixels: Pixels of a frame at most, 2**27 if not given; a larger one is refused before it is decoded.
        allow_untrained: Accept a model with learned parts that nobody trained.
        overwrite: Replace the destination if it exists.
        contact_sheet: Also write a PNG of one pair and the frames between, to look at.
        on_scene_change: What is shown between two frames of two scenes: ``blend``, a dissolve;
            ``hold_previous``, the frame before, so that the cut stays where it was; or
            ``hold_nearest``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are taken
            to be of two scenes; at 0 every pair is interpolated. 0.4 if not given.
        progress: Called as ``progress(done, total)`` with numbers of pairs of frames: at the start,
            and after every pair. Return False to stop; what it raises stops the work as well.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: If a file, or the destination's folder, does not exist.
        FileExistsError: If the destination exists and ``overwrite`` is off.
        ValueError: If the source, the destination's suffix or an option is unusable.
        MemoryError: If not even one frame fits into the device's memory.
        Stopped: If ``progress`` returned False. As after any error, nothing is left behind.
    """
    timing = read_timing(
        multiplier,
        target_fps,
        slow=slow,
        speed=speed,
        timestamps=timestamps,
        start=start,
        end=end,
        loop=loop,
        dedup=dedup,
    )
    scenes = scene_changes(on_scene_change, scene_threshold)
    gap = _max_gap(max_gap)
    told = None if report is None else check_report(Path(report), overwrite=overwrite)
    paths = _paths(source)
    target = pipe_destination(Path(destination), paths, pipe_format)
    if codec is None and is_pipe(target):
        codec = "raw"  # another program reads it at once
    options = SinkOptions(codec, crf, audio, preset, bitrate, pix_fmt, odd)
    check_destination(target, overwrite=overwrite)
    steady = timing.curve is None and not isinstance(timing.rule, Listed)
    beside = None if compare is None else check_compare(compare, target, steady=steady, overwrite=overwrite)
    picture = None if contact_sheet is None else Path(contact_sheet)
    if picture is not None:
        check_picture(picture, overwrite=overwrite)
        if timing == JobTiming(Multiply(Fraction(1))):
            raise ValueError("multiplier is 1: no new frame is made to show on a contact sheet")
    reading = ReadOptions(
        image_rate=_image_rate(image_rate, timing.rule),
        keep_start=keep_start,
        strict=strict,
        deinterlace=_deinterlacing(deinterlace),
        headroom=not is_folder_output(target) and keeps_video_levels(target, options),
        alpha=keeps_alpha(target, options),
        background=read_colour(background),
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
    )
    opened = timing.part(open_source(paths, reading), keep_start=keep_start)
    info = replace(opened.info, pace=timing.pace)
    retiming = timing.retiming(info)
    for place in (target,) if picture is None else (target, picture):
        _check_apart(paths, place)
    rate = _rate(info, retiming, timing.slow)
    interval = _interval(info, retiming, rate)
    check_options(target, info, options, interval=interval)
    if target.suffix.lower() in _COUNTING and interval < Fraction(3, 4) / rate:
        rate = 1 / interval  # times of frames are multiples of it there, also where the rate varies
    bars = find_letterbox(opened) if crop_bars else None
    sheet = None if picture is None else ContactSheet(headroom=info.headroom)
    engine = Engine(
        ready_model(model, device, dtype, allow_untrained=allow_untrained),
        opened,
        retiming,
        seed=seed,
        chunk=chunk,
        sheet=sheet,
        progress=progress,
        scenes=scenes,
        max_gap=gap,
        bars=bars,
        slow=timing.slow,
        loop=timing.loop,
        mask="auto" if mask == "auto" else None if mask is None else read_mask(Path(mask), info),
    )
    tick = retiming.time_base(info.tick * timing.slow)
    with open_sink(target, info, options, tick=tick, rate=rate, overwrite=overwrite) as sink:
        done = engine.run(sink)
    notes = [*_thinned(info, retiming, timing.slow), *sink.notes, *done.notes]
    notes += [] if bars is None else [bars.note(info.name)]
    if sheet is not None and picture is not None:
        notes += _save_sheet(sheet, picture, overwrite=overwrite)
    done = replace(done, notes=tuple(notes))
    for note in done.notes:
        _LOGGER.info(note)
    message = done.warning()
    if message is not None:
        warnings.warn(message, LowConfidenceWarning, stacklevel=2)
    if beside is not None and compare is not None:
        write_comparison(compare, opened, target, beside, slow=timing.slow, overwrite=overwrite)
    if told is not None:
        write_report(told, done)
    return done


def _save_sheet(sheet: ContactSheet, picture: Path, *, overwrite: bool) -> list[str]:
    """Write the contact sheet; the video is done, so that what goes wrong here is a note."""
    try:
        sheet.save(picture, overwrite=overwrite)
    except (OSError, ValueError) as error:
        return [f"the contact sheet was not written: {error}"]
    return []


def _max_gap(given: SupportsFloat) -> Fraction:
    seconds = float(given)
    if not seconds > 0:
        raise ValueError(f"max_gap is {given} s; it must be greater than 0")
    return Fraction(seconds) if seconds < float("inf") else Fraction(10**9)


def _deinterlacing(choice: str) -> str:
    if choice not in ("auto", "off", "on"):
        raise ValueError(f"deinterlace is {choice!r}; it must be auto, off or on")
    return choice


def _paths(source: PathLike | Sequence[PathLike]) -> Path | list[Path]:
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    paths = [Path(path) for path in source]
    if not paths:
        raise ValueError("source is an empty list; give a video, a folder or at least two images")
    return paths[0] if len(paths) == 1 else paths


def _image_rate(given: SupportsFloat | None, retiming: Retiming) -> Fraction:
    if given is not None:
        return exact_rate(given)
    return _PLAYBACK / retiming.multiplier if isinstance(retiming, Multiply) else _PLAYBACK


def _check_apart(source: Path | list[Path], destination: Path) -> None:
    for path in [source] if isinstance(source, Path) else source:
        if destination.exists() and destination.samefile(path):
            raise ValueError(f"{destination} is the source itself; choose another destination")
        if destination.is_dir() and destination.resolve() in path.resolve().parents:
            raise ValueError(f"the source {path} is inside {destination}, which would be replaced; choose another")


def _thinned(info: SourceInfo, retiming: Retiming, slow: Fraction) -> list[str]:
    """A note, if frames of the source are not among those that come out."""
    count = retiming.count(info.frames, info.span * slow, info.tick * slow)
    if not isinstance(retiming, Resample) or count >= info.frames or info.span <= 0 or info.live:
        return []
    rate = float((info.frames - 1) / (info.span * slow))
    return [
        f"{float(retiming.fps):g} frames per second are fewer than the source's {rate:.3g}: "
        f"about {count} frames come out of {info.frames}"
    ]


def _interval(info: SourceInfo, retiming: Retiming, rate: Fraction) -> Fraction:
    """About the shortest time between two frames that come out."""
    if retiming.regular or info.shortest is None or info.span <= 0 or info.frames < 2:
        return 1 / rate
    return min(Fraction(1), info.shortest * (info.frames - 1) / info.span) / rate


def _rate(info: SourceInfo, retiming: Retiming, slow: Fraction) -> Fraction:
    """About how many frames per second come out; encoders plan by it, timestamps do not.

    Raises:
        ValueError: If far too many frames come out.
    """
    span = info.span * slow
    count = retiming.count(info.frames, span, info.tick * slow)
    if count > _MOST_FRAMES:
        raise ValueError(f"{count} frames would come out, which is more than {_MOST_FRAMES}: make fewer")
    if isinstance(retiming, Resample | Ramped):
        return retiming.fps
    if info.span <= 0 or count < 2:
        return _PLAYBACK
    return max(Fraction((count - 1) / span).limit_denominator(1001), Fraction(1, 1001))
