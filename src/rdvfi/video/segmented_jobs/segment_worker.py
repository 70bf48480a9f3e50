"""A worker process: holds a model and a reader, and computes segments on request."""

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.media.outputs.temporary_files import remove_stale_files
from rdvfi.video.engine import Engine
from rdvfi.video.job_options import JobOptions
from rdvfi.video.ready import ModelLike, ready_model
from rdvfi.video.reel import ReelStep
from rdvfi.video.segmented_jobs.remote_files import download_sources, release
from rdvfi.video.segmented_jobs.segment_output import SegmentOutput
from rdvfi.video.segmented_jobs.segment_store import open_store
from rdvfi.video.segmented_jobs.segments import Part, Segment
from rdvfi.video.video_job import VideoJob, read_job

_NEAR = 250
"""Frames that are decoded and passed over, rather than to enter the file anew at a key frame before."""


@dataclass(frozen=True)
class Task:
    """One segment of one job, in plain values that travel."""

    job: int
    number: int
    options: JobOptions
    identity: dict[str, str]
    place: str
    """Of the segments."""
    part: Part | None
    """What it consists of, if that is known; else the file is read from its beginning."""


@dataclass(frozen=True)
class Made:
    """What came of a task."""

    kept: bool = True
    """Whether the segment is in the store; if not, the file cannot be entered anywhere, or has fewer segments."""
    count: int | None = None
    """How many segments the job has, if that is known now."""
    notes: tuple[str, ...] = ()
    """Of the source, as far as it was read."""


class Unplanned(Exception):
    """The frames that were read are not those of the plan."""


@dataclass(frozen=True)
class WorkerModel:
    """Which model workers use, and where."""

    model: ModelLike
    device: str | None = None
    dtype: torch.dtype | None = None
    allow_untrained: bool = False
    threads: int | None = None
    """CPU threads of a worker."""

    def ready(self) -> Interpolator:
        """The model in its place; one that was given built, and not by name, is moved there."""
        if not isinstance(self.model, Interpolator):
            return ready_model(self.model, self.device, self.dtype, allow_untrained=self.allow_untrained)
        return ready_model(self.model, None, None, allow_untrained=self.allow_untrained).to(self.device, self.dtype)


class SegmentWorker:
    """Makes segments.

    Args:
        model: Which model it keeps.
    """

    def __init__(self, model: WorkerModel) -> None:
        self._selected, self._model = model, None
        self._task: Task | None = None
        self._downloaded: dict[int, tuple[JobOptions, JobOptions]] = {}
        self._opened: tuple[VideoJob, Engine] | None = None
        self._steps: Generator[ReelStep] | None = None
        self._segments: Generator[Segment] | None = None
        self._next = 0

    def load(self) -> None:
        """Load the model, which may take minutes."""
        if self._selected.threads is not None:
            torch.set_num_threads(self._selected.threads)
        remove_stale_files(Path(tempfile.gettempdir()))  # of workers that were killed
        self._model = self._selected.ready()

    def identity(self, job: int, options: JobOptions) -> dict[str, str]:
        """What a job is; see `rdvfi.video.segmented_jobs.job_identity`."""
        assert self._model is not None
        return self._read(job, options).identity(self._model)

    @torch.inference_mode()
    def make(self, task: Task) -> Made:
        """Make a segment, and have it appear in the store.

        Whoever makes segments in rising order goes on in the file. To go back, or far ahead, enters it anew: at a
        key frame where the task says which frames it needs, else at its beginning.
        """
        job, engine = self._open(task)
        store = open_store(task.place, lambda: task.identity, Path(tempfile.gettempdir()))
        segment = self._walk_to(task.number) if task.part is None else self._enter(task.part)
        if segment is None:
            return Made(kept=False, count=self._next, notes=tuple(job.source.notes()))
        try:
            with SegmentOutput(job.encoders(), store=store) as output:
                engine.make(segment, output, always=True)
                if task.part is not None and not job.source.seekable:
                    raise Unplanned
                output.finish()
        except BaseException as error:  # where it stands in the file is not known any more
            self.close()
            if isinstance(error, Unplanned):
                return Made(kept=False)
            raise
        count = task.number + 1 if segment.last else None
        return Made(count=count, notes=tuple(job.source.notes()) if task.part is not None or segment.last else ())

    def close(self) -> None:
        """Release the file."""
        for each in (self._steps, self._segments):
            if each is not None:
                each.close()
        self._steps = self._segments = self._opened = self._task = None

    def _open(self, task: Task) -> tuple[VideoJob, Engine]:
        assert self._model is not None
        before = self._task
        again = before is not None and (before.job, before.part is None) == (task.job, task.part is None)
        if self._opened is None or not again or (task.part is None and task.number < self._next):
            self.close()
            job = self._read(task.job, task.options)
            self._opened, self._next = (job, job.engine(self._model)), 0
        self._task = task
        return self._opened

    def _read(self, number: int, options: JobOptions) -> VideoJob:
        """Open a job, with local copies of its sources; those of other jobs are removed."""
        for other in [each for each in self._downloaded if each != number]:
            release(self._downloaded.pop(other)[0])
        if number not in self._downloaded:
            self._downloaded[number] = options, download_sources(options)
        return read_job(self._downloaded[number][1])

    def _walk_to(self, number: int) -> Segment | None:
        """The segment of this number; None if the job has fewer."""
        assert self._opened is not None
        self._segments = self._segments or self._opened[1].segments()
        for segment in self._segments:
            self._next += 1
            if segment.number == number:
                return segment
            for _ in segment.steps:
                pass
        return None

    def _enter(self, part: Part) -> Segment:
        assert self._opened is not None
        if self._steps is None or not self._next <= part.first <= self._next + _NEAR:
            if self._steps is not None:
                self._steps.close()
            self._steps = self._opened[1].steps(part)
        self._next = part.first
        return Segment(part.number, self._taken(self._steps, part), part.last)

    def _taken(self, steps: Iterator[ReelStep], part: Part) -> Iterator[ReelStep]:
        """The steps of a part; raises Unplanned if these are not there."""
        due = {index: (start, end) for index, start, end in part.spans}
        for step in steps:
            index, start, end, last, _ = step.interval
            if index not in due:
                continue
            as_planned = due.pop(index)
            if as_planned != (start, as_planned[1] if last else end) or last != (part.last and not due):
                raise Unplanned
            self._next = max(self._next, index + 1)
            yield step
            if not due:
                return
        raise Unplanned
