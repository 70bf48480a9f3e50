"""What is put right in a video file once it is complete, because its writer cannot be told."""

import re
from pathlib import Path

from rdvfi.media.matroska import write_aspect
from rdvfi.media.reader import SourceInfo

_SHAPED = frozenset({".mkv", ".webm"})
_PACKED = re.compile(rb"\x00\x00\x00\x0dst3d.{9,400}?vexu", re.DOTALL)
_HEADER = 1 << 16
"""Bytes at the start of an MP4 file in which its first track is described."""


def put_right(path: Path, suffix: str, info: SourceInfo) -> list[str]:
    """Add to a complete file what it does not say yet.

    Args:
        path: The file.
        suffix: Of its final name.
        info: The source.

    Returns:
        What it still does not say, in sentences.
    """
    aspect = info.layout.aspect
    if suffix in _SHAPED and aspect is not None and not write_aspect(path, aspect):
        return [f"pixels are {aspect} as wide as high, which this {suffix} file does not say"]
    if suffix in (".mp4", ".m4v") and info.spatial.fits(suffix).stereo_mode:
        _one_description(path)
    return []


def _one_description(path: Path) -> None:
    """Make the second box on stereoscopy a free one.

    FFmpeg writes the box ``st3d``, which says how both eyes share a frame, and Apple's ``vexu``, which
    then says that there are two and not how; readers that know both believe the second.
    """
    with path.open("r+b") as file:
        match = _PACKED.search(file.read(_HEADER))
        if match is not None:
            file.seek(match.end() - 4)
            file.write(b"free")
