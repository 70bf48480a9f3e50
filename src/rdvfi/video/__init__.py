"""Video: exact timing, and interpolation of files and of streams of frames with bounded memory."""

from rdvfi.video.engine import Stopped
from rdvfi.video.frames import interpolate_frames
from rdvfi.video.job import interpolate_video
from rdvfi.video.job_report import LowConfidenceWarning, PairReport, UncertainPair, VideoReport
from rdvfi.video.many import JobResult, interpolate_many
from rdvfi.video.segmented_jobs.segment_store import OtherJob

__all__ = [
    "JobResult",
    "LowConfidenceWarning",
    "OtherJob",
    "PairReport",
    "Stopped",
    "UncertainPair",
    "VideoReport",
    "interpolate_frames",
    "interpolate_many",
    "interpolate_video",
]
