"""The manifest of the training data: where each file comes from, and under which licence."""

import json
from pathlib import Path

from rdvfi._atomic import atomic

NAME = "manifest.json"
COMMON = ("source", "sha256", "version", "title", "attribution", "split")
REQUIRED = {"film.npy": (*COMMON, "licence", "frames", "held_out"), "photographs.npz": (*COMMON, "licences")}
"""Fields of each file's entry when the data is whole."""

Manifest = dict[str, dict[str, object]]
"""Entries by file."""


def read_manifest(data: Path) -> Manifest:
    """The manifest of a data folder as it is; empty if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    file = data / NAME
    if not file.exists():
        return {}
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged, delete it and build again: {error}") from error
    if not isinstance(manifest, dict) or not all(isinstance(v, dict) for v in manifest.values()):
        raise ValueError(f"{file} is no manifest, which has entries by file; delete it, build again")
    return manifest


def check_manifest(data: Path) -> Manifest:
    """The manifest of a data folder, once it is clear that nothing is missing in it.

    Raises:
        ValueError: If it is damaged, or lacks something, as those of older versions do.
    """
    manifest = read_manifest(data)
    for name, fields in REQUIRED.items():
        missing = [field for field in fields if field not in manifest.get(name, {})]
        if missing:
            raise ValueError(
                f"{data / NAME} does not say {', '.join(missing)} of {name}; rdvfi data build "
                "PACKAGES DATA writes it again, and keeps the files that are whole"
            )
    return manifest


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Write the manifest of a data folder, whole or not at all."""
    with atomic(data / NAME) as partial:
        partial.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
