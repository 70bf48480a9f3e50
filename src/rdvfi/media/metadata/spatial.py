"""Stereoscopic and spherical video metadata."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import av
from av.sidedata.sidedata import Type

from rdvfi.media.metadata.side_data import side_data

_MODES = {1: (1, 11), 2: (3, 2), 3: (13, 14), 4: (5, 4), 6: (7, 6), 7: (9, 8)}
"""Of FFmpeg's ways to pack two views: Matroska's StereoMode, and that with the right eye first."""
_NAMES = (
    "mono left_right bottom_top top_bottom checkerboard_rl checkerboard_lr row_interleaved_rl row_interleaved_lr "
    "col_interleaved_rl col_interleaved_lr anaglyph_cyan_red right_left anaglyph_green_magenta block_lr block_rl"
).split()
"""Of StereoMode, as the tag of a track tells it."""
_OF_WEBM, _OF_MP4 = frozenset({1, 2, 3, 11}), frozenset({1, 3})
_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2
_ISO, _MATROSKA = frozenset({".mp4", ".m4v"}), frozenset({".mkv", ".webm"})


@dataclass(frozen=True)
class Spatial:
    """What is carried from file to file."""

    stereo_mode: int = 0
    """Matroska's number of how both eyes share a frame; 0 is one view."""
    projection: int = 0
    """Matroska's ProjectionType: 1 is equirectangular, 2 a cube map; 0 is flat."""
    bounds: tuple[int, ...] = ()
    """Of the projection, as MP4 and Matroska store them behind a version: top, bottom, left, right of an
    equirectangular one, layout and padding of a cube map."""
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Yaw, pitch and roll in degrees."""
    unknown: bool = False
    """There is a projection that has no number in Matroska."""

    @classmethod
    def of(cls, frame: av.VideoFrame, tags: Mapping[str, str]) -> "Spatial":
        """What a frame says, by itself or from its container, and else the tags of its track."""
        said = tags.get("stereo_mode", "mono")
        mode = _stereo(frame) or (_NAMES.index(said) if said in _NAMES else 0)
        return cls(mode, *_projection(frame))

    def __bool__(self) -> bool:
        return bool(self.stereo_mode or self.projection)

    def fits(self, suffix: str) -> "Spatial":
        """As much of it as files of a suffix hold."""
        if suffix not in _ISO | _MATROSKA:
            return Spatial()
        modes = {".webm": _OF_WEBM, ".mkv": range(1, 15)}.get(suffix, _OF_MP4)
        mode = self.stereo_mode if self.stereo_mode in modes else 0
        return Spatial(mode, self.projection, self.bounds, self.angles)

    @property
    def tag(self) -> str | None:
        """The tag of a track that says the same."""
        return _NAMES[self.stereo_mode] if self.stereo_mode else None

    def notes(self, suffix: str) -> Iterator[str]:
        """What of it a file lacks."""
        kept = self.fits(suffix)
        if kept.stereo_mode != self.stereo_mode:
            yield f"that frames are stereoscopic ({_NAMES[self.stereo_mode]}) cannot be written to {suffix}"
        if kept.projection != self.projection or self.unknown:
            yield f"that frames are a projection of all around (360 degrees) cannot be written to {suffix}"


def _stereo(frame: av.VideoFrame) -> int:
    data = side_data(frame, Type.STEREO3D)
    if data is None:
        return 0
    kind, flags = struct.unpack("=2i", data[:8])
    return _MODES.get(kind, (0, 0))[flags & 1]


def _projection(frame: av.VideoFrame) -> tuple[int, tuple[int, ...], tuple[float, float, float], bool]:
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
