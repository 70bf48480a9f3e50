"""`interpolate_video`: interpolation of one video file."""

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import SupportsFloat

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.output import check_destination
from rdvfi.video.compare import comparison_path, write_comparison
from rdvfi.video.engine import Progress
from rdvfi.video.job_options import JobOptions, PathLike
from rdvfi.video.job_report import LowConfidenceWarning, VideoReport, check_report, write_report
from rdvfi.video.job_timing import Number, Speed
from rdvfi.video.model_loading import DEFAULT_MODEL, ModelLike, prepare_model
from rdvfi.video.segmented_jobs.segment_store import SEGMENT_FRAMES, SegmentStore, default_segments
from rdvfi.video.video_job import VideoJob, read_job

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
    """Interpolate a video: new frames between all frames, with audio and timing kept.

    Memory is bounded, whatever the length. The destination appears when it is complete, or not at all.

    Args:
        source: A video file, a folder of images, or a list of image files.
        destination: A ``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.webm``, ``.ts``, ``.avi``, ``.gif``, ``.webp`` or
            ``.apng`` file, or a folder for PNG images.
        model: A name or folder for `create_model`, or a model.
        multiplier: New frame rate over the old one: any positive number, as 2, 2.5 or ``"24000/1001"``. An integer
            gives (n - 1) * multiplier + 1 frames. 8 by default, 1 with ``slow`` and ``speed``.
        target_fps: Instead of a multiplier, a constant number of frames per second.
        slow: Factor by which the output is longer, as 4 for a quarter of the speed; the frame rate of the source is
            kept unless one is given. Sound is stretched at the same pitch, or dropped with ``audio=False``.
        speed: A speed curve: its file, or key points (seconds of the output, speed). Sound is dropped.
        timestamps: Instead of a rate, increasing times of the source in seconds at which frames are wanted.
        start: Where to start in the source: seconds, or ``h:mm:ss``.
        end: Where to end in the source, likewise.
        loop: Interpolate from the last frame back to the first as well.
        dedup: ``auto`` replaces repeated frames by new ones, as in animation on twos; an integer does so for pictures
            that are shown at most so many times; ``off`` keeps them.
        mask: An image of the video's size, bright at static pixels such as logos; or ``auto`` to detect these. New
            frames have the same values there.
        pipe_format: Format of ``-`` as destination, standard output: ``mkv``, which keeps times, or ``y4m``; by default
            y4m if that is the input, else Matroska with frames that are not encoded.
        compare: Also write a comparison of output and input: ``side-by-side`` or ``difference`` (videos) or ``sheet``
            (a PNG), under the name of the output with this word added.
        report: Also write what was done for every pair, and why, as JSON.
        seed: Seed of the noise.
        device: Device of a named model; by default CUDA if available, else the CPU.
        dtype: Type of a named model; by default float16 on CUDA, float32 elsewhere.
        chunk: Frames rendered at once; by default chosen by their size.
        batch: Pairs of frames that go through the model together, if they need new frames at the same timesteps and
            belong to one segment: more keep a GPU busy, and take more memory. Not with transparency, nor across a gap.
        image_rate: Images per second of an image source; by default the output plays at 24 frames per second.
        codec: ``h264``, ``hevc``, ``av1``, ``vp9``, ``prores``, ``ffv1`` (lossless) or another of
            `rdvfi.media.video_files.codecs.CODECS`; by default chosen by suffix and depth. ``auto`` encodes with NVENC
            where that works.
        crf: Quality of the codec; lower is better and larger.
        audio: Keep the audio: copied, or encoded if the container does not support its codec.
        preset: The encoder's trade-off of speed and size, as one of its presets.
        bitrate: Bits per second, instead of a quality.
        pix_fmt: Pixel format of the encoder; by default depth and chroma of the source are kept.
        odd: What is done with odd widths and heights: ``pad``, ``crop`` or ``444``; see
            `rdvfi.media.video_files.encoding.SinkOptions`.
        keep_start: Keep the timestamps of the source, instead of starting at zero.
        strict: Refuse a damaged source, instead of using the frames that can be decoded.
        deinterlace: ``auto`` deinterlaces frames that are marked as interlaced, ``on`` all frames, ``off`` none.
        crop_bars: Detect letterbox bars, copy them, and interpolate between them.
        max_gap: Seconds between two source frames above which the first is held, not interpolated.
        background: Colour behind transparent pictures if the destination has no transparency: ``black``, ``white``,
            ``gray`` or ``#rrggbb``.
        max_pixels: Largest number of pixels in a frame, 2**27 by default; larger ones are not decoded.
        hwaccel: ``auto`` decodes and converts colours on the device of the model, if it is a GPU; ``off`` does both on
            the CPU. Frames differ by rounding.
        allow_untrained: Accept a model with untrained learned parts.
        overwrite: Replace the destination if it exists.
        contact_sheet: Also write a PNG of one pair and the frames between.
        on_scene_change: What is shown between two frames of different scenes: ``blend``, a dissolve;
            ``hold_previous``, the frame before the cut; or ``hold_nearest``.
        scene_threshold: Mean confidence of the motion, in [0, 1], below which two frames belong to different scenes; at
            0 every pair is interpolated. 0.4 by default.
        resume: Continue an interrupted run of the same job, and keep finished segments if this one is interrupted. The
            output is the same, byte for byte. See `rdvfi.video.segmented_jobs.segment_store`.
        segments: Folder or URL of fsspec in which finished segments are kept; by default a hidden folder beside the
            destination with ``resume``, else none. Without ``resume``, segments of an earlier run are removed.
        segment_frames: About how many output frames a segment has; a resumed job must have the same.
        progress: Called as ``progress(done, total)`` with numbers of pairs of frames: at the start, and after every
            pair. Returns False to stop; its exceptions stop the work as well.

    Returns:
        The report of the job.

    Raises:
        FileNotFoundError: If a file, or the destination's folder, does not exist.
        FileExistsError: If the destination exists and ``overwrite`` is off.
        ValueError: If the source, the destination's suffix or an option is unusable.
        MemoryError: If not even one frame fits into the device's memory.
        OtherJob: If the segments that are to be resumed are those of another job.
        Stopped: If ``progress`` returned False. As after any error, nothing is left but finished segments, if these
            are kept; a note of the exception says so.
    """
    return run_job(
        JobOptions.select(locals()),
        lambda: prepare_model(model, device, dtype, allow_untrained=allow_untrained),
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
    """`interpolate_video` for one value of options; the model is loaded once they have been validated."""
    report_path = None if report is None else check_report(Path(report), overwrite=options.overwrite)
    check_destination(options.target, overwrite=options.overwrite)
    job = read_job(options)
    for name, value in (("compare", compare), ("resume", resume or None)):
        if value is not None and job.uses_pipe:
            raise ValueError(f"{name} is {value!r}, but a pipe cannot be read or written twice; name files")
    comparison = (
        None if compare is None else comparison_path(compare, options, has_constant_speed=job.has_constant_speed)
    )
    model = load_model()
    store = _open_store(job, model, segments, resume=resume)
    result = job.run(model, store, resume=resume, progress=progress)
    for note in result.notes:
        _LOGGER.info(note)
    if (message := result.warning()) is not None:
        warnings.warn(message, LowConfidenceWarning, stacklevel=3)
    if report_path is not None:
        write_report(report_path, result)
    if comparison is not None and compare is not None:
        write_comparison(compare, job.source, comparison, options)
    return result


def _open_store(job: VideoJob, model: Interpolator, segments: PathLike | None, *, resume: bool) -> SegmentStore | None:
    place = segments or (default_segments(job.options.target) if resume else None)
    if place is None or job.uses_pipe:
        return None
    store = job.open_store(place, model)
    if resume:
        store.check()
    elif count := len(store.finished()):
        _LOGGER.warning(f"{store.place} holds {count} finished segments of an interrupted run, which resume would use")
    return store
