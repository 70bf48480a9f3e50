"""`interpolate_many`: a plan of segments for many files, on this process, several devices or a cluster."""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.clip import VIDEO_SUFFIXES
from rdvfi.media.codecs import DEFAULT_CODEC
from rdvfi.media.images import is_image
from rdvfi.media.output import check_destination
from rdvfi.video.dispatch import Dispatcher, Distributed
from rdvfi.video.engine import Progress
from rdvfi.video.job import interpolate_video
from rdvfi.video.job_report import VideoReport
from rdvfi.video.ready import DEFAULT_MODEL, ModelLike, ready_model
from rdvfi.video.remote_files import fetched, is_url, uploaded
from rdvfi.video.segment_store import SegmentStore, open_store
from rdvfi.video.segment_worker import WorkerModel
from rdvfi.video.video_job import AROUND, VideoJob, default_segments, read_job
from rdvfi.video.workers import LocalWorkers, Workers

_LOGGER = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Job = tuple[PathLike | Sequence[PathLike], PathLike] | Mapping[str, Any]
"""A source and a destination, or arguments of `interpolate_video` by name, these two among them."""

_VIDEOS = VIDEO_SUFFIXES | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".gif", ".y4m"}
"""Files that `jobs_below` takes for videos."""

EXECUTORS = ("process", "devices", "ray")


@dataclass(frozen=True)
class JobResult:
    """What became of one job."""

    source: Any
    destination: Any
    report: VideoReport | None
    """None if it failed."""
    error: Exception | None


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
    **options: Any,
) -> list[JobResult]:
    """Interpolate many videos. A job that fails does not stop the others.

    Args:
        jobs: Pairs of source and destination, or arguments of `interpolate_video` by name. With ``ray`` both may
            be URLs of fsspec (``s3://bucket/in.mp4``), else files in folders that all machines share.
        model: A name or folder for `create_model`, or a model.
        device: Where a named model runs, as of `interpolate_video`.
        dtype: Type of a named model.
        allow_untrained: Accept a model with learned parts that nobody trained.
        executor: ``process``, one job after the other in this process; ``devices``, segments in a process
            for each of ``devices``; or ``ray``, segments on a Ray cluster (extra ``ray``).
        devices: Of the executor ``devices``: such as ``["cuda:0", "cuda:1"]``; all CUDA devices if not given.
        address: Of the executor ``ray``: ``host:port`` of a cluster, ``auto`` for the one of this host, or
            ``local`` (by default) to start one on this host.
        workers: Of the executor ``ray``: how many; one for each GPU of the cluster, or each CPU without any.
        threads: CPU threads of each worker.
        segments: A folder or URL in which finished segments are kept, each job in a folder of its own; beside
            the destinations if not given.
        resume: Go on where an earlier run was interrupted. Destinations that are there already are done.
        progress: Called as ``progress(done, total)``: with numbers of pairs of the present job, or of segments
            of all jobs for the executors ``devices`` and ``ray``. Return False to stop.
        options: Of all jobs, as of `interpolate_video`.

    Returns:
        What became of each job, in order.

    Raises:
        ValueError: If an option is none of `interpolate_video`, or does not fit.
        ConnectionError: If the cluster cannot be reached, or no worker becomes ready.
        ImportError: If Ray is needed and not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"executor is {executor!r}; it must be one of {', '.join(EXECUTORS)}")
    asked = [_asked(job, options) for job in jobs]
    if executor == "process":
        ready = ready_model(model, device, dtype, allow_untrained=allow_untrained)
        return [_alone(each, ready, segments, resume, progress) for each in asked]
    kept = WorkerModel(model, device, dtype, allow_untrained, threads)
    pool = _workers(executor, kept, devices=devices, address=address, count=workers)
    try:
        return _distributed(asked, pool, segments, resume=resume, progress=progress)
    finally:
        pool.close()


def jobs_below(folder: Path, into: Path) -> list[Job]:
    """A job for each video and each folder of images below a folder, in order of name.

    Outputs have the same place below ``into``, whose folders are made: a video in its own format where that is
    written, else as MP4; a folder of images as a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds neither.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder, as recursive expects")
    jobs: list[Job] = []
    for path in sorted([folder, *folder.rglob("*")]):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or path.absolute().is_relative_to(into.absolute()):
            continue
        if path.is_dir() and any(is_image(file) and file.is_file() for file in path.iterdir()):
            jobs.append((path, into / inside if inside.parts else into / folder.resolve().name))
        elif path.is_file() and path.suffix.lower() in _VIDEOS:
            kept = path.suffix.lower() in DEFAULT_CODEC
            jobs.append((path, into / (inside if kept else inside.with_suffix(".mp4"))))
    if not jobs:
        raise ValueError(f"{folder} holds no videos and no folders of images")
    places: dict[Any, Any] = {}
    for source, target in jobs:
        if (other := places.setdefault(target, source)) != source:
            raise ValueError(f"{other} and {source} would both become {target}; rename one of them")
    for job in jobs:
        assert isinstance(job, tuple)
        Path(job[1]).parent.mkdir(parents=True, exist_ok=True)
    return jobs


def _asked(job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a job, those that were not given as well.

    Raises:
        ValueError: If one of them is not known, or is one for all jobs.
    """
    if isinstance(job, Mapping):
        given: dict[str, Any] = {**options, **job}
    else:
        source, destination = job
        given = {**options, "source": source, "destination": destination}
    known = signature(interpolate_video).parameters
    for name in given:
        if name not in known or name in AROUND:
            raise ValueError(f"{name} is no option of a job; they are those of interpolate_video without a model")
    if missing := {"source", "destination"} - given.keys():
        raise ValueError(f"a job says no {' and no '.join(sorted(missing))}")
    defaults = {name: each.default for name, each in known.items() if name not in AROUND}
    return {**defaults, **given}


def _alone(
    given: dict[str, Any], model: Interpolator, segments: PathLike | None, resume: bool, progress: Progress | None
) -> JobResult:
    """One job in this process."""
    try:
        if resume and _exists(given["destination"]):
            return _done(given)
        _refuse_existing_url(given)
        local = fetched(given)
        place = _place(given, segments)
        with uploaded(given["destination"]):
            report = interpolate_video(**local, model=model, segments=place, resume=resume, progress=progress)
    except (OSError, ValueError, LookupError, MemoryError, ImportError) as error:
        return JobResult(given["source"], given["destination"], None, error)
    return JobResult(given["source"], given["destination"], report, None)


def _refuse_existing_url(given: Mapping[str, Any]) -> None:
    """A file of this host is looked at where it is opened; this is for the others."""
    destination = given["destination"]
    if is_url(destination) and not given["overwrite"] and _exists(destination):
        raise FileExistsError(f"{destination} exists; pass overwrite=True to replace it, or choose another name")


def _exists(destination: PathLike) -> bool:
    if is_url(destination):
        from fsspec.core import url_to_fs

        files, path = url_to_fs(str(destination))
        return bool(files.exists(path))
    return Path(destination).exists()


def _done(given: Mapping[str, Any]) -> JobResult:
    _LOGGER.info("%s is there already", given["destination"])
    return JobResult(given["source"], given["destination"], None, None)


def _place(given: Mapping[str, Any], segments: PathLike | None) -> str:
    """Where the segments of a job are kept."""
    destination = str(given["destination"])
    name = default_segments(Path(destination.rsplit("://", 1)[-1]))
    if segments is None and is_url(destination):
        return destination.rsplit("/", 1)[0] + "/" + name.name
    if segments is None:
        return str(name.absolute())
    return f"{str(segments).rstrip('/')}/{'_'.join(name.parts[-2:]).strip('./_')}"


def _workers(
    executor: str, model: WorkerModel, *, devices: Sequence[str], address: str | None, count: int | None
) -> Workers:
    if executor == "ray":
        from rdvfi.video.ray_workers import RayWorkers

        return RayWorkers(model, address=address, count=count)
    chosen = list(devices) or [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    if not chosen:
        raise ValueError("devices is empty, and there is no CUDA device here; name devices, such as cpu")
    return LocalWorkers(model, chosen)


def _distributed(
    asked: list[dict[str, Any]],
    pool: Workers,
    segments: PathLike | None,
    *,
    resume: bool,
    progress: Progress | None,
) -> list[JobResult]:
    """Segments of all jobs by workers, outputs by this process."""
    results: list[JobResult | None] = [None] * len(asked)
    planned: list[Distributed] = []
    numbers: list[int] = []
    for number, given in enumerate(asked):
        if resume and _exists(given["destination"]):
            results[number] = _done(given)
            continue
        try:
            planned.append(_planned(len(planned), given, _place(given, segments), resume))
            numbers.append(number)
        except (OSError, ValueError, LookupError) as error:
            results[number] = JobResult(given["source"], given["destination"], None, error)
    if planned:
        Dispatcher(planned, pool, progress).run()
    for number, job in zip(numbers, planned, strict=True):
        results[number] = JobResult(asked[number]["source"], asked[number]["destination"], job.result, job.error)
    return [result for result in results if result is not None]


def _planned(index: int, given: dict[str, Any], place: str, resume: bool) -> Distributed:
    """A job that was checked, and what happens before its first segment and after its last one."""
    if given["contact_sheet"] is not None:
        raise ValueError("contact_sheet needs all pairs in one place; leave it out, or use the executor process")
    if "-" in (str(given["source"]), str(given["destination"])):
        raise ValueError("pipes, as - is one, need the executor process")
    _refuse_existing_url(given)
    local = fetched(given)
    check_destination(Path(local["destination"]), overwrite=given["overwrite"])
    job = read_job(**local)
    store: list[SegmentStore] = []

    def prepare(identity: dict[str, str]) -> frozenset[int]:
        store.append(open_store(place, lambda: identity, job.target.absolute().parent))
        if resume:
            store[0].check()
        else:
            store[0].remove()
        store[0].claim()
        return frozenset(number for number in store[0].finished() if store[0].record(number) is not None)

    def write(count: int) -> VideoReport:
        with uploaded(given["destination"]):
            return job.put_together(store[0], count)

    return Distributed(index, _portable(given), place, _expected(job), prepare, write, str(given["destination"]))


def _portable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that mean the same on another machine: of files, whole paths."""

    def whole(path: Any) -> Any:
        return path if is_url(path) or path is None else str(Path(path).absolute())

    source = given["source"]
    many = not isinstance(source, str | os.PathLike)
    return {
        **given,
        "source": [whole(each) for each in source] if many else whole(source),
        "destination": whole(given["destination"]),
    }


def _expected(job: VideoJob) -> int:
    """About how many segments it has."""
    slow = job.timing.slow
    frames = job.retiming.count(job.info.frames, job.info.span * slow, job.info.tick * slow)
    return max(1, math.ceil(frames / (job.given["segment_frames"] + 1)))
