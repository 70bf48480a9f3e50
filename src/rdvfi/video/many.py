"""`interpolate_many`: many files, in this process, on several devices or on a cluster."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rdvfi._inputs import check_count
from rdvfi.interpolator import Interpolator
from rdvfi.media.clip import VIDEO_SUFFIXES, walk_folder
from rdvfi.media.image_files.images import is_image
from rdvfi.media.video_files.codecs import DEFAULT_CODECS
from rdvfi.video.engine import Progress, Stopped
from rdvfi.video.job import run_job
from rdvfi.video.job_options import JobOptions, PathLike, absolute_path
from rdvfi.video.job_report import VideoReport
from rdvfi.video.model_loading import DEFAULT_MODEL, ModelLike, prepare_model
from rdvfi.video.segmented_jobs.dispatch import Dispatcher, JobState
from rdvfi.video.segmented_jobs.distributed_job import DistributedJob, refuse_existing_url
from rdvfi.video.segmented_jobs.remote_files import download_sources, is_complete, release_sources, upload_output
from rdvfi.video.segmented_jobs.segment_store import default_segments
from rdvfi.video.segmented_jobs.segment_worker import WorkerModel
from rdvfi.video.segmented_jobs.workers import LocalWorkers, Workers

_LOGGER = logging.getLogger(__name__)

Job = tuple[PathLike | Sequence[PathLike], PathLike] | Mapping[str, Any]
"""A source and a destination, or arguments of `interpolate_video` by name, these two among them."""

_VIDEO_SUFFIXES = VIDEO_SUFFIXES | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".gif", ".y4m"}
"""Suffixes of the files that `find_jobs` takes for videos."""

EXECUTORS = ("process", "devices", "ray")


@dataclass(frozen=True)
class JobResult:
    """The result of one job."""

    source: Any
    destination: Any
    report: VideoReport | None
    """None if the job failed, or was completed by an earlier run."""
    error: Exception | None
    """None if it did not fail."""


def interpolate_many(
    jobs: Iterable[Job],
    *,
    model: ModelLike = DEFAULT_MODEL,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    allow_untrained: bool = False,
    executor: str = "process",
    devices: Sequence[str] = (),
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    segments: PathLike | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    done: Callable[[JobResult], None] | None = None,
    **options: Any,
) -> list[JobResult]:
    """Interpolate many videos. A job that fails does not stop the others.

    Args:
        jobs: Pairs of source and destination, or arguments of `interpolate_video` by name. Both may be URLs of fsspec
            (``s3://bucket/in.mp4``); with ``ray``, local paths must be in folders that all machines share.
        model: A name or folder for `create_model`, or a model.
        device: Device of a named model, as of `interpolate_video`.
        dtype: Type of a named model.
        allow_untrained: Accept a model with untrained learned parts.
        executor: ``process``, one job after the other in this process; ``devices``, segments in a process
            for each of ``devices``; or ``ray``, segments on a Ray cluster (extra ``ray``).
        devices: For the executor ``devices``, such as ``["cuda:0", "cuda:1"]``; by default all CUDA devices.
        address: For the executor ``ray``: ``host:port`` of a cluster, ``auto`` for the one of this host, or ``local``
            (by default) to start one on this host.
        workers: For the executor ``ray``: number of workers; by default one for each GPU of the cluster, or each CPU
            if it has none.
        threads: CPU threads of each worker.
        segments: A folder or URL in which finished segments are kept, each job in a folder of its own; by default
            beside the destinations.
        resume: Continue an interrupted run. Jobs whose destinations exist are skipped, unless they are to be
            overwritten; an empty folder does not count.
        progress: Called as ``progress(done, total)`` with numbers of pairs of the current job, or of segments of all
            jobs for the executors ``devices`` and ``ray``. Returns False to stop.
        done: Called with the result of every job, when it is done.
        options: Options of all jobs, as of `interpolate_video`.

    Returns:
        The results of the jobs, in order.

    Raises:
        ValueError: If an option is unknown or unusable, or two jobs have the same destination.
        ConnectionError: If the cluster cannot be reached, or has no resources for a worker.
        ImportError: If Ray is needed and not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor is {executor!r}; it must be one of {', '.join(EXECUTORS)}")
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None:
            check_count(name, value)
    job_options = [_read_options(job, options) for job in jobs]
    _check_destinations(job_options)
    run = _Run(job_options, segments, resume=resume, progress=progress, done=done)
    if executor == "process":
        return run.run_here(prepare_model(model, device, dtype, allow_untrained=allow_untrained))
    worker_model = WorkerModel(model, device, dtype, allow_untrained, threads)
    pool = _create_workers(executor, worker_model, devices=devices, address=address, count=workers)
    try:
        return run.run_on(pool)
    finally:
        pool.close()


def find_jobs(folder: Path, output: Path) -> list[Job]:
    """A job for each video and each folder of images below a folder, in order of name.

    Outputs have the same relative paths below ``output``, whose folders `create_folders` creates: videos in their own
    format if it can be written, else as MP4; folders of images as folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has neither videos nor folders of images, or two outputs would have one path.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder, as recursive expects")
    jobs: list[Job] = []
    for path in walk_folder(folder):
        relative = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        if is_hidden or path.absolute().is_relative_to(output.absolute()):
            continue
        if path.is_dir() and os.access(path, os.R_OK) and _holds_frames(path):
            jobs.append((path, output / relative if relative.parts else output / folder.resolve().name))
        elif path.is_file() and path.suffix.lower() in _VIDEO_SUFFIXES:
            can_write = path.suffix.lower() in DEFAULT_CODECS
            jobs.append((path, output / (relative if can_write else relative.with_suffix(".mp4"))))
    if not jobs:
        raise ValueError(f"{folder} holds no videos and no folders of images")
    sources: dict[Any, Any] = {}
    for source, target in jobs:
        if (other := sources.setdefault(target, source)) != source:
            raise ValueError(f"{other} and {source} would both become {target}; rename one of them")
    return jobs


@contextmanager
def create_folders(jobs: Iterable[Job]) -> Iterator[None]:
    """Create the folders of all destinations; after an error, those that are empty are removed again."""
    folders = {Path(job[1]).parent for job in jobs if isinstance(job, tuple)}
    missing = sorted({path for folder in folders for path in (folder, *folder.parents) if not path.exists()})
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
        yield
    except BaseException:
        for folder in reversed(missing):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def _read_options(job: Job, shared: Mapping[str, Any]) -> JobOptions:
    """The options of a job, with those that all jobs share.

    Raises:
        ValueError: If an option is unknown, or source or destination is missing.
    """
    if isinstance(job, Mapping):
        given = {**shared, **job}
    else:
        source, destination = job
        given = {**shared, "source": source, "destination": destination}
    for name in given:
        if name not in JobOptions.names():
            raise ValueError(f"{name} is no option of a job; they are those of interpolate_video without a model")
    if missing := {"source", "destination"} - given.keys():
        raise ValueError(f"a job says no {' and no '.join(sorted(missing))}")
    return JobOptions.select(given)


def _holds_frames(folder: Path) -> bool:
    """Whether the images of a folder are frames: at least two, and not beside videos; others are logged."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    images = [file for file in files if is_image(file) and file.suffix.lower() not in _VIDEO_SUFFIXES]
    has_videos = len(files) > len(images) and any(file.suffix.lower() in _VIDEO_SUFFIXES for file in files)
    if images and (has_videos or len(images) < 2):
        beside = "beside videos " if has_videos else ""
        _LOGGER.warning("%d images %sin %s are not frames, and are skipped", len(images), beside, folder)
        return False
    return bool(images)


def _check_destinations(jobs: Sequence[JobOptions]) -> None:
    """Check that no two jobs have the same destination."""
    numbers: dict[str, int] = {}
    for number, options in enumerate(jobs):
        destination = absolute_path(options.destination)
        if (other := numbers.setdefault(destination, number)) != number:
            raise ValueError(f"jobs {other} and {number} have the same destination, {destination}")


def _segments_place(destination: PathLike, segments: PathLike | None) -> str:
    """The folder or URL of the segments of one job: beside its destination, or in ``segments``."""
    destination = absolute_path(destination)
    name = default_segments(Path(destination.rsplit("://", 1)[-1])).name
    if segments is None:
        return destination.rsplit("/", 1)[0] + "/" + name
    digest = hashlib.blake2b(destination.encode(), digest_size=6).hexdigest()
    return f"{str(segments).rstrip('/')}/{name.removesuffix('.segments').strip('.')}-{digest}.segments"


def _create_workers(
    executor: str, model: WorkerModel, *, devices: Sequence[str], address: str | None, count: int | None
) -> Workers:
    if executor == "ray":
        from rdvfi.video.segmented_jobs.ray_workers import RayWorkers

        return RayWorkers(model, address=address, count=count)
    chosen = list(devices) or [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    if not chosen:
        raise ValueError("devices is empty, and there is no CUDA device here; name devices, such as cpu")
    return LocalWorkers(model, chosen)


class _Run:
    """Many jobs, and the result of each."""

    def __init__(
        self,
        jobs: Sequence[JobOptions],
        segments: PathLike | None,
        *,
        resume: bool,
        progress: Progress | None,
        done: Callable[[JobResult], None] | None,
    ) -> None:
        self._jobs, self._segments, self._resume = jobs, segments, resume
        self._progress, self._done = progress, done
        self._results: dict[int, JobResult] = {}

    def run_here(self, model: Interpolator) -> list[JobResult]:
        """Run one job after the other in this process."""
        for number, options in self._pending():
            try:
                report = self._run_one(options, model)
            except Stopped:
                raise
            except Exception as error:
                self._finish(number, error=error)
            except BaseException as error:
                if not getattr(error, "__notes__", None):
                    error.add_note(f"{len(self._results)} of {len(self._jobs)} outputs are complete")
                raise
            else:
                self._finish(number, report)
        return self._ordered()

    def run_on(self, pool: Workers) -> list[JobResult]:
        """Have workers make the segments of all jobs, and write the outputs in this process."""
        pending, states = list(self._pending()), []
        for index, (_, options) in enumerate(pending):
            place = _segments_place(options.destination, self._segments)
            open_job = partial(DistributedJob, options, place, resume=self._resume)
            states.append(JobState(index, options.absolute(), place, open_job))

        def finish(state: JobState) -> None:
            self._finish(pending[state.index][0], state.result, state.error)

        if states:
            Dispatcher(states, pool, self._progress, finish).run()
        return self._ordered()

    def _pending(self) -> Iterator[tuple[int, JobOptions]]:
        """The jobs that an earlier run has not completed, by number; the others have their results."""
        for number, options in enumerate(self._jobs):
            if self._resume and not options.overwrite and is_complete(options.destination):
                self._finish(number)
            else:
                yield number, options

    def _run_one(self, options: JobOptions, model: Interpolator) -> VideoReport:
        refuse_existing_url(options)
        piped = str(options.destination) == "-"
        segments = None if piped else _segments_place(options.destination, self._segments)
        local = download_sources(options)
        try:
            with upload_output(options.destination):
                return run_job(local, lambda: model, segments=segments, resume=self._resume, progress=self._progress)
        finally:
            release_sources(options)

    def _finish(self, number: int, report: VideoReport | None = None, error: Exception | None = None) -> None:
        options = self._jobs[number]
        self._results[number] = JobResult(options.source, options.destination, report, error)
        if self._done is not None:
            self._done(self._results[number])

    def _ordered(self) -> list[JobResult]:
        return [self._results[number] for number in range(len(self._jobs))]
