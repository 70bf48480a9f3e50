"""Stereoscopic and spherical video metadata."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import av
from av.sidedata.sidedata import Type

from rdvfi.media.metadata.side_data import side_data

_STEREO_MODES = {1: (1, 11), 2: (3, 2), 3: (13, 14), 4: (5, 4), 6: (7, 6), 7: (9, 8)}
"""For FFmpeg's types of packing two views: Matroska's StereoMode, and the one with the right eye first."""
_STEREO_MODE_TAGS = (
    "mono left_right bottom_top top_bottom checkerboard_rl checkerboard_lr row_interleaved_rl row_interleaved_lr "
    "col_interleaved_rl col_interleaved_lr anaglyph_cyan_red right_left anaglyph_green_magenta block_lr block_rl"
).split()
"""Value of the track's tag ``stereo_mode`` for each StereoMode."""
_WEBM_STEREO_MODES, _MP4_STEREO_MODES = frozenset({1, 2, 3, 11}), frozenset({1, 3})
_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2
"""FFmpeg's numbers of projections."""
_SPATIAL_SUFFIXES = frozenset({".mp4", ".m4v", ".mkv", ".webm"})
"""Suffixes of files in which FFmpeg writes this metadata; MOV is not among them."""


@dataclass(frozen=True)
class SpatialMetadata:
    """Layout of stereoscopic frames and projection of spherical ones."""

    stereo_mode: int = 0
    """Matroska's StereoMode; 0 is a single view."""
    projection: int = 0
    """Matroska's ProjectionType: 0 flat, 1 equirectangular, 2 cube map."""
    bounds: tuple[int, ...] = ()
    """Of the projection, as MP4 and Matroska store them after the version: top, bottom, left, right of an
    equirectangular one, layout and padding of a cube map."""
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Yaw, pitch and roll in degrees."""
    unknown: bool = False
    """Whether there is a projection that Matroska has no number for."""

    @classmethod
    def from_frame(cls, frame: av.VideoFrame, tags: Mapping[str, str]) -> "SpatialMetadata":
        """Read the side data of the first frame; ``tags`` of its track give the stereo mode if the frame does not."""
        tag = tags.get("stereo_mode", "mono")
        mode = _stereo_mode(frame) or (_STEREO_MODE_TAGS.index(tag) if tag in _STEREO_MODE_TAGS else 0)
        return cls(mode, *_projection(frame))

    def __bool__(self) -> bool:
        return bool(self.stereo_mode or self.projection)

    def supported_by(self, suffix: str) -> "SpatialMetadata":
        """The part of this metadata that files with a suffix can hold."""
        if suffix not in _SPATIAL_SUFFIXES:
            return SpatialMetadata()
        modes = {".webm": _WEBM_STEREO_MODES, ".mkv": range(1, 15)}.get(suffix, _MP4_STEREO_MODES)
        mode = self.stereo_mode if self.stereo_mode in modes else 0
        return SpatialMetadata(mode, self.projection, self.bounds, self.angles)

    @property
    def stereo_mode_tag(self) -> str | None:
        """Value of the track's tag ``stereo_mode``; None for a single view."""
        return _STEREO_MODE_TAGS[self.stereo_mode] if self.stereo_mode else None

    def notes(self, suffix: str) -> Iterator[str]:
        """One sentence for each part of this metadata that files with a suffix cannot hold."""
        supported = self.supported_by(suffix)
        if supported.stereo_mode != self.stereo_mode:
            yield f"the stereo layout ({self.stereo_mode_tag}) cannot be written to {suffix}"
        if supported.projection != self.projection or self.unknown:
            yield f"the 360-degree projection cannot be written to {suffix}"


def _stereo_mode(frame: av.VideoFrame) -> int:
    data = side_data(frame, Type.STEREO3D)
    if data is None:
        return 0
    packing, flags = struct.unpack("=2i", data[:8])
    return _STEREO_MODES.get(packing, (0, 0))[flags & 1]


def _projection(frame: av.VideoFrame) -> tuple[int, tuple[int, ...], tuple[float, float, float], bool]:
    """Projection, bounds, angles, and whether the projection is unknown."""
    data = side_data(frame, Type.SPHERICAL)
    if data is None:
        return 0, (), (0.0, 0.0, 0.0), False
    kind, yaw, pitch, roll, left, top, right, bottom, padding = struct.unpack("=4i5I", data[:36])
    angles = (yaw / 65536, pitch / 65536, roll / 65536)
    if kind == _CUBEMAP:
        return 2, (0, padding), angles, False
    if kind in (_EQUIRECTANGULAR, _TILE):
        return 1, (top, bottom, left, right), angles, False
    return 0, (), angles, True
