"""Corrections of a completed video file that its muxer does not support."""

import re
from collections.abc import Mapping
from pathlib import Path

from rdvfi.media.image_files.images import HOLDING_PROFILE, add_profile
from rdvfi.media.metadata.matroska import write_aspect
from rdvfi.media.other_tracks.track_writers import SILENT
from rdvfi.media.reader import SourceInfo
from rdvfi.media.video_files.probe import open_video

_SHAPED = frozenset({".mkv", ".webm"})
_PACKED = re.compile(rb"\x00\x00\x00\x0dst3d.{9,400}?vexu", re.DOTALL)
_OF_THE_FILE = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|encoded_by|encoding_tool|software|duration|.*_(uid|umid)|"
    r"(company|product|generation|toolkit|modification|wm)[_/].*|application_platform|operational_pattern_ul|uid|"
    r"timecode.*|metadatacreator|has(video|audio|metadata|keyframes|cuepoints)|canseektoend|isvbr|devicemanufacturer.*",
    re.IGNORECASE,
)
"""Tags of files in MXF, ASF, FLV, MP4 and others that describe the file."""
_HEADER = 1 << 16
"""Bytes at the start of an MP4 file in which its first track is described."""


def put_right(path: Path, suffix: str, info: SourceInfo) -> list[str]:
    """Add to a complete file what it does not say yet.

    Returns:
        What it still does not say, in sentences.
    """
    notes, aspect = [], info.layout.aspect
    if suffix in _SHAPED and aspect is not None and not write_aspect(path, aspect):
        notes.append(f"pixels are {aspect} as wide as high, which this {suffix} file does not say")
    if suffix in (".mp4", ".m4v") and info.spatial.fits(suffix).stereo_mode:
        _one_description(path)
    if info.profile and suffix in HOLDING_PROFILE:
        add_profile(path, info.profile)
    lost = _lost_tags(path, suffix, kept_tags(info.metadata))
    if lost:
        notes.append(f"{suffix} files do not hold these tags of the film: {', '.join(lost)}")
    return notes


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a file that say something of the film, and nothing of the file itself."""
    kept = {key: value for key, value in tags.items() if not _OF_THE_FILE.fullmatch(key)}
    return {key.lower() if key.startswith("COM.") else key: value for key, value in kept.items()}  # so writes Matroska


def _lost_tags(path: Path, suffix: str, tags: Mapping[str, str]) -> list[str]:
    """Names of tags that a reader of the complete file does not find; a language stands behind some of them."""
    found: set[str] = set()
    if tags and suffix not in SILENT:
        with open_video(path) as container:
            found = {key.casefold() for key in container.metadata}
    names: dict[str, str] = {}
    for key in tags:
        names.setdefault(key.casefold().split("-")[0], key)
    return [key for name, key in names.items() if not {name, key.casefold()} & found]


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
