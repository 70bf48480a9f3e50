"""Video: exact timing, reading and writing of files, and interpolation with bounded memory."""

from rdvfi.video.engine import LowConfidenceWarning, UncertainPair, VideoReport
from rdvfi.video.interpolate import interpolate_video

__all__ = ["LowConfidenceWarning", "UncertainPair", "VideoReport", "interpolate_video"]
