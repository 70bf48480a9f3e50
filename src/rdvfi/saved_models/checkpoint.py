"""Saved models: a JSON file of registered names and plain values, and a safetensors file.

Loading never runs code that a file chooses: the configuration names registry entries, the weights are
plain tensors, and both are checked key by key before anything is loaded. Files are written under a
temporary name in the same folder and renamed when they are complete.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from rdvfi._atomic import atomic
from rdvfi._hub import fetch, is_hub_id
from rdvfi._small_text import read_small_text
from rdvfi._tensors import name_difference
from rdvfi.saved_models.weight_files import STAGES, write_weights

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

PARTS = tuple(STAGES)

REFERENCES = ("source", "revision", "lora", "prompt_embeds", "image_embeds")
"""Parameters of a backbone that refer to weights stored elsewhere; all None if the model contains them."""


def is_referenced(backbone: Mapping[str, Any]) -> bool:
    """Whether the specification of a backbone refers to weights stored elsewhere (``source``)."""
    return backbone["config"].get("source") is not None


def without_references(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a backbone, without references to weights stored elsewhere."""
    config = {key: None if key in REFERENCES else v for key, v in backbone["config"].items()}
    return {**backbone, "config": config}


@dataclass(frozen=True)
class Pretrained:
    """A model without its weights: the specification of each part (see `rdvfi.registry`)."""

    backbone: dict[str, Any]
    trajectory: dict[str, Any]
    renderer: dict[str, Any]
    motion_area: int
    trained: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    """Trained parts that were trained in another model than the rest."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of a saved model, with its parsed configuration."""

    config: Pretrained
    config_path: Path
    weights_path: Path


def write_config(path: Path, config: Pretrained) -> None:
    """Write a configuration file; it appears under its name only when complete."""
    table = {"format": "rdvfi", "format_version": FORMAT_VERSION, **asdict(config)}
    text = json.dumps(table, indent=2, allow_nan=False) + "\n"
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_config(path: Path) -> Pretrained:
    """Read a configuration file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged, or of another kind or version.
    """
    table = _read_table(path)
    _add_new_keys(table)
    expected = {field.name for field in fields(Pretrained)}
    if table.keys() != expected:
        raise ValueError(f"{path}: {name_difference('keys', expected, table)}")
    _check_values(path, table)
    return Pretrained(**{**table, "trained": tuple(table["trained"]), "apart": tuple(table["apart"])})


def _read_table(path: Path) -> dict[str, Any]:
    """The JSON table of a configuration file, without its format and version, which are checked."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: not a saved rdvfi model")
    try:
        table = json.loads(read_small_text(path))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(table, dict) or table.pop("format", None) != "rdvfi":
        raise ValueError(f"{path} is not the configuration of an rdvfi model")
    version = table.pop("format_version", None)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(f"{path} has format version {version!r}; this version of rdvfi reads {FORMAT_VERSION}")
    return table


def _add_new_keys(table: dict[str, Any]) -> None:
    """Add the keys that files of version 0.1 lack, with the values that version had."""
    table.setdefault("apart", [])
    renderer = table.get("renderer")
    if isinstance(renderer, dict) and renderer.get("name") == "synthesis" and isinstance(renderer.get("config"), dict):
        renderer["config"].setdefault("one_light", False)


def _check_values(path: Path, table: Mapping[str, Any]) -> None:
    area = table["motion_area"]
    if isinstance(area, bool) or not isinstance(area, int) or area < 1:
        raise ValueError(f"{path}: motion_area must be a number of pixels; got {area!r}")
    for part in PARTS:
        if not isinstance(table[part], dict) or not isinstance(table[part].get("config"), dict):
            raise ValueError(f"{path}: a {part} is described by a name and a config; got {str(table[part])[:100]}")
    for key in ("trained", "apart"):
        parts = table[key]
        if not isinstance(parts, list) or not all(part in PARTS for part in parts):
            raise ValueError(f"{path}: {key} must be a list of parts; got {parts!r}")


def save_pretrained(folder: str | os.PathLike[str], config: Pretrained, state: Mapping[str, Tensor]) -> None:
    """Write both files into ``folder``, which is created if needed."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a model is saved as a folder")
    path.mkdir(parents=True, exist_ok=True)
    write_weights(path / WEIGHTS_NAME, state)
    write_config(path / CONFIG_NAME, config)


def load_pretrained(folder_or_hub_id: str | os.PathLike[str], *, revision: str | None = None) -> ModelFiles:
    """The files of a saved model in a folder or on the hub, downloaded if needed."""
    folder = Path(folder_or_hub_id).expanduser()
    if not folder.is_dir():
        if not is_hub_id(folder_or_hub_id):
            raise FileNotFoundError(f"{folder} is not a folder with a saved model")
        folder = fetch(str(folder_or_hub_id), revision, [CONFIG_NAME, WEIGHTS_NAME])
    config_path = folder / CONFIG_NAME
    return ModelFiles(read_config(config_path), config_path, folder / WEIGHTS_NAME)


def plain_values(specification: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The plain values of a specification and of the components in it, by names such as ``flow.radius``."""
    values: dict[str, Any] = {}
    for key, value in specification["config"].items():
        if isinstance(value, Mapping):
            values |= plain_values(value, f"{prefix}{key}.")
        elif key not in REFERENCES:
            values[f"{prefix}{key}"] = value
    return values


def check_choice(include_backbone: bool | None, parts: Sequence[str] | None) -> None:
    """Raise ValueError if the choices of what to save contradict each other or are empty."""
    if parts is None:
        return
    if include_backbone is not None:
        raise ValueError("give include_backbone or parts, not both")
    if isinstance(parts, str) or not parts:
        raise ValueError(f"parts must be a list of parts, at least one; got {parts!r}")
    check_parts(parts)


def check_parts(parts: Sequence[str]) -> None:
    """Raise ValueError unless all names are names of parts."""
    for part in parts:
        if part not in STAGES:
            raise ValueError(f"a part is one of {', '.join(STAGES)}; got {part!r}")
