"""`interpolate_video`: interpolation of a video file."""

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import SupportsFloat

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.output import check_destination
from rdvfi.video.compare import check_compare
from rdvfi.video.compare import compare as write_comparison
from rdvfi.video.engine import Progress
from rdvfi.video.job_options import JobOptions, PathLike
from rdvfi.video.job_report import LowConfidenceWarning, VideoReport, check_report, write_report
from rdvfi.video.job_timing import Number, Speed
from rdvfi.video.ready import DEFAULT_MODEL, ModelLike, ready_model
from rdvfi.video.segmented_jobs.segment_store import SEGMENT_FRAMES, default_segments
from rdvfi.video.video_job import read_job

_LOGGER = logging.getLogger(__name__)


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
    batch: int = 1,
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
    hwaccel: str = "auto",
    allow_untrained: bool = False,
    overwrite: bool = False,
    contact_sheet: PathLike | None = None,
    on_scene_change: str = "blend",
    scene_threshold: float | None = None,
    resume: bool = False,
    segments: PathLike | None = None,
    segment_frames: int = SEGMENT_FRAMES,
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
        batch: Pairs of frames that go through the model together, where they need new frames at the same times and
            lie in one segment: more keep a GPU busy, and take more memory. Not with transparency, nor across a gap.
        image_rate: Images per second of an image source. If not given, what is made plays at 24
            frames per second.
        codec: ``h264``, ``hevc``, ``av1``, ``vp9``, ``prores``, ``ffv1`` (lossless) or another of
            `rdvfi.media.video_files.codecs.CODECS`; chosen by suffix and depth. ``auto`` encodes on the device,
            by NVENC, where that works.
        crf: Quality of the codec; lower is better and larger.
        audio: Take the sound along: copied, or encoded where the container does not hold it.
        preset: The encoder's choice between speed and size, in its own words.
        bitrate: Bits per second, instead of a quality.
        pix_fmt: Pixel format of the encoder; by default depth and chroma of the source are kept.
        odd: Frames of an odd width or height: ``pad`` (by default), ``crop`` or ``444``, see
            `rdvfi.media.video_files.encoding.SinkOptions`.
        keep_start: Keep the times of the source's clock, instead of starting at zero.
        strict: Refuse a damaged source, instead of going on with the frames that there are.
        deinterlace: ``auto`` makes whole frames of those that are marked as interlaced, ``off`` leaves them as
            they are, ``on`` takes every frame for interlaced.
        crop_bars: Find the bars around a letterboxed picture, keep them still and interpolate what is between them.
        max_gap: Seconds between two source frames from which on the first is held, not interpolated.
        background: Colour on which transparent pictures are shown where the destination holds no
            transparency: ``black``, ``white``, ``gray`` or ``#rrggbb``.
        max_pixels: Pixels of a frame at most, 2**27 if not given; a larger one is refused before it is decoded.
        hwaccel: ``auto`` decodes on the device of the model and converts colours there, if it is a GPU;
            ``off`` leaves both to the processor. Frames differ by rounding.
        allow_untrained: Accept a model with untrained learned parts.
        overwrite: Replace the destination if it exists.
        contact_sheet: Also write a PNG of one pair and the frames between, to look at.
        on_scene_change: What is shown between two frames of two scenes: ``blend``, a dissolve;
            ``hold_previous``, the frame before, so that the cut stays where it was; or
            ``hold_nearest``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames are taken
            to be of two scenes; at 0 every pair is interpolated. 0.4 if not given.
        resume: Go on where an earlier run of the same job was interrupted, and leave what is finished if this
            one is: the output is the same, byte for byte. See `rdvfi.video.segmented_jobs.segment_store`.
        segments: Where finished segments are kept, a folder or a URL of fsspec; if not given, with ``resume`` a
            hidden folder beside the destination, else nowhere. Without ``resume`` those of an earlier run go.
        segment_frames: About how many output frames a segment has; part of what a job is.
        progress: Called as ``progress(done, total)`` with numbers of pairs of frames: at the start,
            and after every pair. Return False to stop; what it raises stops the work as well.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: If a file, or the destination's folder, does not exist.
        FileExistsError: If the destination exists and ``overwrite`` is off.
        ValueError: If the source, the destination's suffix or an option is unusable.
        MemoryError: If not even one frame fits into the device's memory.
        OtherJob: If the segments that are to be resumed are those of another job.
        Stopped: If ``progress`` returned False. As after any error, nothing is left behind but finished
            segments, where these are kept; a note of the exception says so.
    """
    return run_job(
        JobOptions.select(locals()),
        lambda: ready_model(model, device, dtype, allow_untrained=allow_untrained),
        compare=compare,
        report=report,
        resume=resume,
        segments=segments,
        progress=progress,
    )


def run_job(
    options: JobOptions,
    load_model: Callable[[], Interpolator],
    *,
    compare: str | None = None,
    report: PathLike | None = None,
    resume: bool = False,
    segments: PathLike | None = None,
    progress: Progress | None = None,
) -> VideoReport:
    """`interpolate_video` for options that are one value; the model is loaded when they have been validated."""
    report_path = None if report is None else check_report(Path(report), overwrite=options.overwrite)
    check_destination(options.target, overwrite=options.overwrite)
    job = read_job(options)
    beside = (
        None if compare is None else check_compare(compare, job.target, steady=job.steady, overwrite=options.overwrite)
    )
    for name, value in (("compare", compare), ("resume", resume or None)):
        if value is not None and job.piped:
            raise ValueError(f"{name} is {value!r}, but a pipe cannot be read or written twice; name files")
    model = load_model()
    place = segments or (default_segments(job.target) if resume else None)
    store = None if place is None or job.piped else job.store(place, model)
    if store is not None and resume:
        store.check()
    elif store is not None and (left := len(store.finished())):
        _LOGGER.warning(f"{store.place} holds {left} finished segments of an interrupted run, which resume would use")
    result = job.run(model, store, resume=resume, progress=progress)
    for note in result.notes:
        _LOGGER.info(note)
    if (message := result.warning()) is not None:
        warnings.warn(message, LowConfidenceWarning, stacklevel=3)
    if report_path is not None:
        write_report(report_path, result)
    if beside is not None and compare is not None:
        write_comparison(compare, job.source, job.target, beside, slow=job.timing.slow, overwrite=options.overwrite)
    return result
