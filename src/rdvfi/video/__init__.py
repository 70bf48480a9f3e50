"""Video: exact timing, reading and writing of files, and interpolation with bounded memory."""

from rdvfi.video.engine import LowConfidenceWarning, Stopped, UncertainPair, VideoReport
from rdvfi.video.interpolate import interpolate_video

__all__ = ["LowConfidenceWarning", "Stopped", "UncertainPair", "VideoReport", "interpolate_video"]
