"""The manifest of the training data: origin and licence of every file."""

import json
from pathlib import Path

from rdvfi._atomic import atomic

MANIFEST_FILE = "manifest.json"
_COMMON_FIELDS = ("source", "sha256", "version", "title", "attribution", "split")
REQUIRED_FIELDS = {
    "film.npy": (*_COMMON_FIELDS, "licence", "frames", "held_out"),
    "photographs.npz": (*_COMMON_FIELDS, "licences"),
}
"""Fields of the entry of each file in a complete manifest."""

Manifest = dict[str, dict[str, object]]
"""Entries by name of the file."""


def read_manifest(data: Path) -> Manifest:
    """The manifest of a data folder; empty if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    file = data / MANIFEST_FILE
    if not file.exists():
        return {}
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged, delete it and build again: {error}") from error
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise ValueError(f"{file} is not a manifest with entries by file; delete it and build again")
    return manifest


def check_manifest(data: Path) -> Manifest:
    """The manifest of a data folder, which must have all `REQUIRED_FIELDS`.

    Raises:
        ValueError: If it is damaged, or lacks a field, as those of older versions do.
    """
    manifest = read_manifest(data)
    for name, fields in REQUIRED_FIELDS.items():
        missing = [field for field in fields if field not in manifest.get(name, {})]
        if missing:
            raise ValueError(
                f"{data / MANIFEST_FILE} lacks {', '.join(missing)} of {name}; rdvfi data build PACKAGES DATA "
                "writes it again and keeps complete files"
            )
    return manifest


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Write the manifest of a data folder atomically."""
    with atomic(data / MANIFEST_FILE) as partial:
        partial.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
