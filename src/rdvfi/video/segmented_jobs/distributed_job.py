"""The main process of a job whose segments are made by workers."""

import math
import time
from collections.abc import Iterable
from pathlib import Path

from rdvfi.media.outputs.output import check_destination
from rdvfi.media.video_files.codecs import AUTO
from rdvfi.video.job_options import JobOptions
from rdvfi.video.job_report import VideoReport
from rdvfi.video.segmented_jobs.remote_files import download_sources, is_complete, is_url, release, uploaded
from rdvfi.video.segmented_jobs.segment_store import SegmentStore, open_store
from rdvfi.video.segmented_jobs.segments import SegmentRecord
from rdvfi.video.video_job import read_job


class DistributedJob:
    """A job that was read and checked; sources of URLs are copied for that.

    Args:
        options: What the job is.
        place: Of its segments.
        resume: Use the segments that are there.

    Raises:
        ValueError: If it cannot be done, or not by workers.
        OSError: If a file cannot be read, or the destination exists.
    """

    def __init__(self, options: JobOptions, place: str, *, resume: bool) -> None:
        self._options, self._place, self._resume = options, place, resume
        self._begun = time.perf_counter()
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
        self.parts = self._job.parts()

    @property
    def expected(self) -> int:
        """How many segments it has, about."""
        if self.parts is not None:
            return len(self.parts)
        info, slow = self._job.info, self._job.timing.slow
        frames = self._job.retiming.count(info.frames, info.span * slow, info.tick * slow)
        return max(1, math.ceil(frames / (self._options.segment_frames + 1)))

    def prepare(self, identity: dict[str, str]) -> set[int]:
        """Make the place of the segments that of this job; the segments that are there already.

        Raises:
            OtherJob: If there are some of another job, and these are to be resumed.
        """
        self._store = open_store(self._place, lambda: identity, self._job.target.absolute().parent)
        if self._resume:
            self._store.check()
        else:
            self._store.remove()
        self._store.claim()
        there = {number: self._store.record(number) for number in self._store.finished()}
        kept = {number: SegmentRecord.from_json(record) for number, record in there.items() if record is not None}
        if self.parts is not None and not all(self._as_planned(*each) for each in kept.items()):
            self.parts = None  # an earlier run met damage, and read the file from its beginning
        return set(kept)

    def _as_planned(self, number: int, record: SegmentRecord) -> bool:
        assert self.parts is not None
        spans = self.parts[number].spans if number < len(self.parts) else ()
        return record.starts == [[index, str(start)] for index, start, _ in spans]

    def walk(self) -> None:
        """Forget what was planned and made: the file has to be read from its beginning."""
        assert self._store is not None
        self.parts = None
        self._store.remove()
        self._store.claim()

    def write(self, count: int, notes: Iterable[str]) -> VideoReport:
        """Put the output together of so many segments."""
        assert self._store is not None
        with uploaded(self._options.destination):
            return self._job.put_together(self._store, count, self._begun, notes)

    def close(self) -> None:
        """Remove copies of its sources."""
        release(self._options)


def refuse_existing_url(options: JobOptions) -> None:
    """Refuse to replace an existing output at a URL; local outputs are checked when they are opened.

    Raises:
        FileExistsError: If it exists and ``overwrite`` is off.
    """
    destination = options.destination
    if is_url(destination) and not options.overwrite and is_complete(destination):
        raise FileExistsError(f"{destination} exists; pass overwrite=True to replace it, or choose another name")
