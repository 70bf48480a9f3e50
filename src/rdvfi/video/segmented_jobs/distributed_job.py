"""A job whose segments are made by workers, as the main process sees it."""

import math
import time
from collections.abc import Iterable
from pathlib import Path

from rdvfi.media.outputs.output import check_destination
from rdvfi.media.video_files.codecs import AUTO
from rdvfi.video.job_options import JobOptions
from rdvfi.video.job_report import VideoReport
from rdvfi.video.segmented_jobs.remote_files import (
    download_sources,
    is_complete,
    is_url,
    release_sources,
    upload_output,
)
from rdvfi.video.segmented_jobs.segment_store import SegmentStore, open_store
from rdvfi.video.segmented_jobs.segments import SegmentRecord
from rdvfi.video.video_job import read_job


class DistributedJob:
    """Opens and validates a job; sources at URLs are downloaded for that.

    Args:
        options: Of the job.
        place: Folder or URL of its segments.
        resume: Reuse stored segments.

    Raises:
        ValueError: If an option is unusable, or not supported by workers.
        OSError: If a file cannot be read, or the destination exists.
    """

    def __init__(self, options: JobOptions, place: str, *, resume: bool) -> None:
        self._options, self._place, self._resume = options, place, resume
        self._start_time = time.perf_counter()
        if options.contact_sheet is not None:
            raise ValueError("contact_sheet needs all pairs in one place; leave it out, or use the executor process")
        if "-" in (str(options.source), str(options.destination)):
            raise ValueError("pipes, as - is one, need the executor process")
        if options.codec == AUTO:
            raise ValueError("codec is 'auto', which workers may choose differently; name one")
        refuse_existing_url(options)
        local = download_sources(options)
        check_destination(Path(local.destination), overwrite=local.overwrite)
        self._job = read_job(local)
        self._store: SegmentStore | None = None
        self.plans = self._job.plan_segments()
        """The planned segments; None if they are not known without decoding."""

    @property
    def expected_segments(self) -> int:
        """About how many segments the job has."""
        if self.plans is not None:
            return len(self.plans)
        info, slow = self._job.info, self._job.options.timing.slow
        frames = self._job.retiming.count(info.frames, info.span * slow, info.tick * slow)
        return max(1, math.ceil(frames / (self._options.segment_frames + 1)))

    def open_store(self, identity: dict[str, str]) -> set[int]:
        """Open the segment store for this job; returns the numbers of the segments that are stored already.

        Raises:
            OtherJob: If the job is resumed, and the stored segments are those of another job.
        """
        self._store = open_store(self._place, lambda: identity, self._job.options.target.absolute().parent)
        if self._resume:
            self._store.check()
        else:
            self._store.remove()
        self._store.claim()
        stored = {number: self._store.record(number) for number in self._store.finished()}
        records = {number: SegmentRecord.from_json(record) for number, record in stored.items() if record is not None}
        if self.plans is not None and not all(self._matches_plan(*item) for item in records.items()):
            self.plans = None  # an earlier run found damage, and read the source from its beginning
        return set(records)

    def _matches_plan(self, number: int, record: SegmentRecord) -> bool:
        assert self.plans is not None
        intervals = self.plans[number].intervals if number < len(self.plans) else ()
        return record.starts == [[index, str(start)] for index, start, _ in intervals]

    def discard_plans(self) -> None:
        """Discard plans and segments: the source has to be read from its beginning."""
        assert self._store is not None
        self.plans = None
        self._store.remove()
        self._store.claim()

    def write(self, count: int, notes: Iterable[str]) -> VideoReport:
        """Write the output from ``count`` stored segments."""
        assert self._store is not None
        with upload_output(self._options.destination):
            return self._job.join_segments(self._store, count, self._start_time, notes)

    def close(self) -> None:
        """Remove downloaded sources."""
        release_sources(self._options)


def refuse_existing_url(options: JobOptions) -> None:
    """Refuse to replace an existing output at a URL; local outputs are checked when they are opened.

    Raises:
        FileExistsError: If it exists and ``overwrite`` is off.
    """
    destination = options.destination
    if is_url(destination) and not options.overwrite and is_complete(destination):
        raise FileExistsError(f"{destination} exists; pass overwrite=True to replace it, or choose another name")
