"""A worker: holds a model and an open source, and makes segments on request."""

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.temporary_files import remove_stale_files
from rdvfi.video.engine import Engine
from rdvfi.video.job_options import JobOptions
from rdvfi.video.model_loading import ModelLike, prepare_model
from rdvfi.video.playback import PlaybackStep
from rdvfi.video.segmented_jobs.remote_files import download_sources, release_sources
from rdvfi.video.segmented_jobs.segment_output import SegmentOutput
from rdvfi.video.segmented_jobs.segment_store import open_store
from rdvfi.video.segmented_jobs.segments import Segment, SegmentPlan
from rdvfi.video.video_job import VideoJob, read_job

_MAX_SKIPPED_FRAMES = 250
"""Largest number of frames that are decoded and skipped, instead of seeking to a later key frame."""


@dataclass(frozen=True)
class Task:
    """One segment of one job, in values that can be sent to a worker."""

    job: int
    number: int
    options: JobOptions
    identity: dict[str, str]
    place: str
    """Folder or URL of the segments."""
    plan: SegmentPlan | None
    """The frames of the segment; None if unknown: then the source is read from its beginning."""


@dataclass(frozen=True)
class TaskResult:
    """The result of a task."""

    kept: bool = True
    """Whether the segment is in the store; if not, the frames differ from the plan, or the job has fewer segments."""
    count: int | None = None
    """The number of segments of the job, if it is known now."""
    notes: tuple[str, ...] = ()
    """Notes on the source, as far as it was read."""


class PlanMismatch(Exception):
    """The frames that were read differ from the plan."""


@dataclass(frozen=True)
class WorkerModel:
    """The model of the workers, and where it runs."""

    model: ModelLike
    device: str | None = None
    dtype: torch.dtype | None = None
    allow_untrained: bool = False
    threads: int | None = None
    """CPU threads of each worker."""

    def load(self) -> Interpolator:
        """Load a named model on its device, or move a given one there."""
        if not isinstance(self.model, Interpolator):
            return prepare_model(self.model, self.device, self.dtype, allow_untrained=self.allow_untrained)
        return prepare_model(self.model, None, None, allow_untrained=self.allow_untrained).to(self.device, self.dtype)


class SegmentWorker:
    """Makes segments of jobs with a model that it loads once."""

    def __init__(self, model: WorkerModel) -> None:
        self._worker_model, self._model = model, None
        self._task: Task | None = None
        self._downloaded: dict[int, tuple[JobOptions, JobOptions]] = {}
        self._opened: tuple[VideoJob, Engine] | None = None
        self._steps: Generator[PlaybackStep] | None = None
        """Those that follow the last planned segment."""
        self._segments: Generator[Segment] | None = None
        """Those that follow the last one that was not planned."""
        self._next = 0
        """Number of the next frame of the steps, or of the next one of the segments."""

    def load(self) -> None:
        """Load the model, which may take minutes."""
        if self._worker_model.threads is not None:
            torch.set_num_threads(self._worker_model.threads)
        remove_stale_files(Path(tempfile.gettempdir()))  # of workers that were killed
        self._model = self._worker_model.load()

    def identity(self, job: int, options: JobOptions) -> dict[str, str]:
        """The settings that the frames of a job depend on; see `rdvfi.video.segmented_jobs.job_identity`."""
        assert self._model is not None
        return self._read(job, options).identity(self._model)

    @torch.inference_mode()
    def make(self, task: Task) -> TaskResult:
        """Make a segment and store it.

        Segments in increasing order continue to read the source. To go back, or far ahead, the source is opened again:
        at a key frame if the segment is planned, else at its beginning.
        """
        job, engine = self._open(task)
        store = open_store(task.place, lambda: task.identity, Path(tempfile.gettempdir()))
        segment = self._read_to(task.number) if task.plan is None else self._seek(task.plan)
        if segment is None:
            return TaskResult(kept=False, count=self._next, notes=tuple(job.source.notes()))
        try:
            with SegmentOutput(job.encoder_factory(), store=store) as output:
                engine.make(segment, output, always=True)
                if task.plan is not None and not job.source.seekable:
                    raise PlanMismatch
                output.finish()
        except BaseException as error:  # the position in the source is not known any more
            self.close()
            if isinstance(error, PlanMismatch):
                return TaskResult(kept=False)
            raise
        count = task.number + 1 if segment.last else None
        return TaskResult(count=count, notes=tuple(job.source.notes()) if task.plan is not None or segment.last else ())

    def close(self) -> None:
        """Close the source."""
        for generator in (self._steps, self._segments):
            if generator is not None:
                generator.close()
        self._steps = self._segments = self._opened = self._task = None

    def _open(self, task: Task) -> tuple[VideoJob, Engine]:
        assert self._model is not None
        previous = self._task
        continues = previous is not None and (previous.job, previous.plan is None) == (task.job, task.plan is None)
        if self._opened is None or not continues or (task.plan is None and task.number < self._next):
            self.close()
            job = self._read(task.job, task.options)
            self._opened, self._next = (job, job.create_engine(self._model)), 0
        self._task = task
        return self._opened

    def _read(self, number: int, options: JobOptions) -> VideoJob:
        """Open a job, with local copies of its sources; those of other jobs are removed."""
        for other in [job for job in self._downloaded if job != number]:
            release_sources(self._downloaded.pop(other)[0])
        if number not in self._downloaded:
            self._downloaded[number] = options, download_sources(options)
        return read_job(self._downloaded[number][1])

    def _read_to(self, number: int) -> Segment | None:
        """Read the source up to a segment; None if the job has fewer."""
        assert self._opened is not None
        self._segments = self._segments or self._opened[1].segments()
        for segment in self._segments:
            self._next += 1
            if segment.number == number:
                return segment
            for _ in segment.steps:
                pass
        return None

    def _seek(self, plan: SegmentPlan) -> Segment:
        """Open the source at a planned segment, or continue to it if it is near."""
        assert self._opened is not None
        if self._steps is None or not self._next <= plan.first_frame <= self._next + _MAX_SKIPPED_FRAMES:
            if self._steps is not None:
                self._steps.close()
            self._steps = self._opened[1].steps(plan)
        self._next = plan.first_frame
        return Segment(plan.number, self._planned_steps(self._steps, plan), plan.last)

    def _planned_steps(self, steps: Iterator[PlaybackStep], plan: SegmentPlan) -> Iterator[PlaybackStep]:
        """The steps of a plan; raises PlanMismatch if those that are read differ from it."""
        missing = {index: (start, end) for index, start, end in plan.intervals}
        for step in steps:
            index, start, end, last, _ = step.interval
            if index not in missing:
                continue
            planned = missing.pop(index)
            # The end of the last interval is not known before it is decoded.
            if planned != (start, planned[1] if last else end) or last != (plan.last and not missing):
                raise PlanMismatch
            self._next = max(self._next, index + 1)
            yield step
            if not missing:
                return
        raise PlanMismatch
