"""Metadata that is added to a finished video file because its muxer does not write it."""

import re
from collections.abc import Mapping
from pathlib import Path

from rdvfi.media.image_files.images import ICC_PROFILE_ANIMATIONS, add_profile
from rdvfi.media.metadata.matroska import write_pixel_aspect
from rdvfi.media.other_tracks.track_writers import VIDEO_ONLY_SUFFIXES
from rdvfi.media.reader import SourceInfo
from rdvfi.media.video_files.probe import open_video

_MATROSKA_SUFFIXES = frozenset({".mkv", ".webm"})
_ST3D_THEN_VEXU = re.compile(rb"\x00\x00\x00\x0dst3d.{9,400}?vexu", re.DOTALL)
_CONTAINER_TAGS = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|encoded_by|encoding_tool|software|duration|.*_(uid|umid)|"
    r"(company|product|generation|toolkit|modification|wm)[_/].*|application_platform|operational_pattern_ul|uid|"
    r"timecode.*|metadatacreator|has(video|audio|metadata|keyframes|cuepoints)|canseektoend|isvbr|devicemanufacturer.*",
    re.IGNORECASE,
)
"""Tags that describe the file and not its content, in MXF, ASF, FLV, MP4 and others."""
_MP4_HEADER_BYTES = 1 << 16
"""Bytes at the start of an MP4 file that hold the description of its first track."""


def finalize_file(path: Path, suffix: str, info: SourceInfo) -> list[str]:
    """Add metadata of the source to a finished file whose final name has this suffix.

    Returns:
        One sentence for each kind of metadata that the file still lacks.
    """
    notes, aspect = [], info.layout.aspect
    if suffix in _MATROSKA_SUFFIXES and aspect is not None and not write_pixel_aspect(path, aspect):
        notes.append(f"the pixel aspect ratio {aspect} is not stored in this {suffix} file")
    if suffix in (".mp4", ".m4v") and info.spatial.supported_by(suffix).stereo_mode:
        _disable_vexu_box(path)
    if info.profile and suffix in ICC_PROFILE_ANIMATIONS:
        add_profile(path, info.profile)
    missing = _missing_tags(path, suffix, content_tags(info.metadata))
    if missing:
        notes.append(f"{suffix} files cannot hold these tags of the video: {', '.join(missing)}")
    return notes


def content_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a file that describe its content, without those that describe the file itself."""
    content = {key: value for key, value in tags.items() if not _CONTAINER_TAGS.fullmatch(key)}
    # Matroska writes Apple's keys in lower case.
    return {key.lower() if key.startswith("COM.") else key: value for key, value in content.items()}


def _missing_tags(path: Path, suffix: str, tags: Mapping[str, str]) -> list[str]:
    """The keys of ``tags`` that cannot be read back from a file; a key may end in a language, as ``title-eng``."""
    written: set[str] = set()
    if tags and suffix not in VIDEO_ONLY_SUFFIXES:
        with open_video(path) as container:
            written = {key.casefold() for key in container.metadata}
    keys: dict[str, str] = {}
    for key in tags:
        keys.setdefault(key.casefold().split("-")[0], key)
    return [key for name, key in keys.items() if not {name, key.casefold()} & written]


def _disable_vexu_box(path: Path) -> None:
    """Rename Apple's box ``vexu`` to ``free``, which readers skip.

    FFmpeg writes two boxes: ``st3d`` holds the stereo layout, while its ``vexu`` only says that there are two
    views. Readers that know both prefer ``vexu`` and lose the layout.
    """
    with path.open("r+b") as file:
        match = _ST3D_THEN_VEXU.search(file.read(_MP4_HEADER_BYTES))
        if match is not None:
            file.seek(match.end() - 4)
            file.write(b"free")
