"""A worker: keeps a model and its place in a file, and makes segments that it is asked for."""

import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rdvfi.interpolator import Interpolator
from rdvfi.video.engine import Engine
from rdvfi.video.ready import ModelLike, ready_model
from rdvfi.video.remote_files import fetched
from rdvfi.video.segment_output import SegmentOutput
from rdvfi.video.segment_store import open_store
from rdvfi.video.segments import Segment
from rdvfi.video.video_job import VideoJob, read_job


@dataclass(frozen=True)
class Task:
    """One segment of one job, in plain values that travel."""

    job: int
    number: int
    given: dict[str, Any]
    """Arguments of `rdvfi.video.video_job.read_job`."""
    identity: dict[str, str]
    place: str
    """Of the segments."""


@dataclass(frozen=True)
class Made:
    """A segment is in the store."""

    job: int
    number: int
    count: int | None
    """How many segments the job has, if that is known now."""


@dataclass(frozen=True)
class WorkerModel:
    """Which model workers use, and where."""

    model: ModelLike
    device: str | None = None
    dtype: torch.dtype | None = None
    allow_untrained: bool = False
    threads: int | None = None
    """CPU threads of a worker."""


class SegmentWorker:
    """Makes segments.

    Args:
        model: Which model it keeps.
    """

    def __init__(self, model: WorkerModel) -> None:
        if model.threads is not None:
            torch.set_num_threads(model.threads)
        self._model = _ready(model)
        self._job: tuple[int, VideoJob] | None = None
        self._engine: Engine | None = None
        self._segments: Generator[Segment] | None = None
        self._next = 0

    def identity(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What a job is; see `rdvfi.video.job_identity`."""
        return read_job(**fetched(given)).identity(self._model)

    @torch.inference_mode()
    def make(self, task: Task) -> Made:
        """Make a segment, and have it appear in the store.

        Whoever makes segments in rising order reads the file once; to go back starts at its beginning.
        """
        job = self._opened(task)
        store = open_store(task.place, lambda: task.identity, Path(tempfile.gettempdir()))
        segment = self._walk_to(task.number)
        if segment is None or self._engine is None:
            return Made(task.job, task.number, self._next)
        with SegmentOutput(job.encoders(), store=store) as output:
            self._engine.make(segment, output, always=True)
            output.finish()
        return Made(task.job, task.number, task.number + 1 if segment.last else None)

    def close(self) -> None:
        """Release the file."""
        if self._segments is not None:
            self._segments.close()
        self._segments = self._job = None

    def _opened(self, task: Task) -> VideoJob:
        if self._job is None or self._job[0] != task.job or task.number < self._next:
            self.close()
            job = read_job(**fetched(task.given))
            self._job, self._next = (task.job, job), 0
            self._engine = job.engine(self._model)
            self._segments = self._engine.segments()
        return self._job[1]

    def _walk_to(self, number: int) -> Segment | None:
        """The segment of this number; None if the job has fewer."""
        assert self._segments is not None
        for segment in self._segments:
            self._next += 1
            if segment.number == number:
                return segment
            for _ in segment.steps:
                pass
        return None


def _ready(model: WorkerModel) -> Interpolator:
    """The model in its place; one that was given built, and not by name, is moved there."""
    if not isinstance(model.model, Interpolator):
        return ready_model(model.model, model.device, model.dtype, allow_untrained=model.allow_untrained)
    return ready_model(model.model, None, None, allow_untrained=model.allow_untrained).to(model.device, model.dtype)
