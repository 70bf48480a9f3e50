"""Training recipes: YAML files with typed fields, composed by Hydra and validated before training starts.

A recipe is one stage (``rdvfi_s/synthesis``) or a sequence of stages (``rdvfi_s``).
Every field has a type, taken from dataclasses and from the signatures of the registered losses; an
unknown field or a value of another type is an error.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from rdvfi.config import RECIPES, isolated_hydra, nodes_in_store, search_path
from rdvfi.config.overrides import (
    check_single_value,
    explain_dataclass_error,
    format_value,
    parse_override,
    resolve_config_folder,
    search_folders,
)
from rdvfi.config.recipe_files import recipe_table, user_recipe_file
from rdvfi.registry import did_you_mean
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.stage import (
    DataConfig,
    LoraConfig,
    ModelConfig,
    NoiseConfig,
    Stage,
    stage_from_config,
    stage_schema,
)
from rdvfi.training.stage_validation import validate_stage

FOLDER = RECIPES / "train"
SCHEMA = "training_stage"


_ALL_STAGES = "every"
"""Key of the overrides of all stages of a sequence."""


@dataclass(frozen=True)
class _StageSequence:
    """The stages that a recipe lists, with overrides for the model of all stages and for each stage."""

    stages: list[str]
    model_overrides: list[str]
    stage_overrides: dict[str, list[str]] = field(default_factory=dict)

    def overrides(self, stage: str) -> list[str]:
        """The overrides of a stage; later ones are more specific."""
        shared = self.stage_overrides.get(_ALL_STAGES, [])
        return [*self.model_overrides, *shared, *self.stage_overrides.get(Path(stage).name, [])]


def list_training_recipes() -> list[str]:
    """Names of the recipes of this package: sequences, and their stages as ``sequence/stage``."""
    names: set[str] = set()
    for path in sorted(FOLDER.glob("*.yaml")):
        names |= {path.stem, *(f"{path.stem}/{Path(stage).name}" for stage in _read_sequence(path).stages)}
        names |= {f"{path.stem}/{file.stem}" for file in (FOLDER / path.stem).glob("*.yaml")}
    return sorted(names)


def compose_stages(recipe: str, overrides: Sequence[str]) -> list[Stage]:
    """The stages of a recipe, each with the overrides applied.

    Args:
        recipe: Name of a recipe of this package, or path of a YAML file.
        overrides: ``field=value``, for example ``losses.lpips=0.2`` or ``engine.steps=100``.

    Raises:
        ValueError: If the recipe, a field or a value is not valid.
    """
    files = _stage_files(recipe)
    return [_compose_stage(path, [*own_overrides, *overrides]) for path, own_overrides in files]


def _stage_files(recipe: str) -> list[tuple[Path, list[str]]]:
    """The files of the stages of a recipe, with its overrides for each."""
    path, own_overrides = _find_recipe(recipe)
    sequence = _read_sequence(path)
    if not sequence.stages:
        return [(path, own_overrides)]
    return [(_find_stage_file(path, name), sequence.overrides(name)) for name in sequence.stages]


def _read_sequence(path: Path) -> _StageSequence:
    """The sequence of a recipe file; without stages if it is a stage itself."""
    table = recipe_table(path)
    if "stages" not in table:
        return _StageSequence([], [])
    names, model = table["stages"], table.get("model", {})
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"recipe {path}: stages must be a list of recipes")
    numbers = table.get("numbers", {})
    has_known_keys = table.keys() <= {"stages", "model", "numbers"}
    if not has_known_keys or not isinstance(model, dict) or not isinstance(numbers, dict):
        raise ValueError(
            f"recipe {path}: a sequence has `stages`, `model` for all stages, and `numbers` by stage; "
            f"got {sorted(table)}"
        )
    unknown = numbers.keys() - {_ALL_STAGES, *(Path(name).name for name in names)}
    if unknown:
        raise ValueError(f"recipe {path}: numbers of {sorted(unknown)}, which is no stage of it, nor {_ALL_STAGES!r}")
    stage_overrides = {stage: _flatten(fields) for stage, fields in numbers.items()}
    return _StageSequence(names, _flatten(model, "model."), stage_overrides)


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested fields as overrides, such as ``engine.steps=100``."""
    overrides: list[str] = []
    for key, value in fields.items():
        if isinstance(value, Mapping):
            overrides += _flatten(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={format_value(value)}")
    return overrides


_PATH_FIELDS = ("data.clips", "data.folder", "out", "model.start", "model.config_dir")
"""Fields whose values are paths, which the user need not quote."""


def expand_overrides(overrides: Sequence[str], config_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Expand the short forms of overrides, and quote paths where Hydra's grammar requires it.

    ``data.clips=FOLDER`` becomes ``data.folder`` and ``data.source``; ``hydra.searchpath=[FOLDER]`` and the argument
    ``config_dir`` become ``model.config_dir``.

    Raises:
        ValueError: If the search path has several folders.
    """
    expanded = [] if config_dir is None else [f"model.config_dir={format_value(os.fspath(config_dir))}"]
    for text in overrides:
        key, equals, value = text.partition("=")
        folders = search_folders(text)
        if len(folders) > 1:
            raise ValueError(f"training takes one folder of configuration groups; got {text!r}")
        if folders:
            key, value = "model.config_dir", folders[0]
        if key in _PATH_FIELDS and not _is_plain_path(key, value):
            value = format_value(value)
        if key == "data.clips":
            expanded += [f"data.folder={value}", "data.source=clips"]
        else:
            expanded.append(f"{key}{equals}{value}")
    return expanded


def _is_plain_path(key: str, path: str) -> bool:
    """Whether a path needs no quotes; an existing path with commas does, since Hydra would parse it as a sweep."""
    try:
        return not (parse_override(f"{key}={path}").is_sweep_override() and Path(path).exists())
    except ValueError:
        return False


def config_folders(overrides: Sequence[str]) -> tuple[str, ...]:
    """The folder of configuration groups that overrides name, as a URL for Hydra; empty if they name none.

    Raises:
        ValueError: If it does not exist.
    """
    folders = [str(parse_override(text).value()) for text in overrides if text.startswith("model.config_dir=")]
    return tuple(resolve_config_folder(path) for path in folders[-1:] if path != "None")


@contextmanager
def registered_stages(recipe: str) -> Iterator[list[tuple[Path, list[str]]]]:
    """Files of the stages of a recipe, with its overrides for each, while their schema is registered with Hydra."""
    files = _stage_files(recipe)
    with nodes_in_store():
        ConfigStore.instance().store(name=SCHEMA, node=stage_schema(), provider="rdvfi")
        yield files


def _compose_stage(path: Path, overrides: Sequence[str]) -> Stage:
    overrides = expand_overrides(overrides)
    for override in overrides:
        if "=" not in override or override.startswith(("hydra", "+", "~")):
            raise ValueError(f"an override must have the form field=value; got {override!r}")
        _refuse_replaced_field(override)
        check_single_value(override)
    try:
        with nodes_in_store():
            ConfigStore.instance().store(name=SCHEMA, node=stage_schema(), provider="rdvfi")
            with isolated_hydra(), hydra.initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
                folders = search_path(config_folders(overrides), recipes=False)
                composed = hydra.compose(path.stem, [*overrides, folders])
        if "engine" not in composed:
            raise ValueError(f"recipe {_display_name(path)} must have {SCHEMA!r} first in its defaults")
        stage = stage_from_config(composed)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        prefixes = {cls.__name__: prefix for cls, prefix in zip(_CONFIG_CLASSES, _FIELD_PREFIXES, strict=True)}
        explanation = explain_dataclass_error(error, _CONFIG_CLASSES, prefixes)
        raise ValueError(f"recipe {_display_name(path)}: {explanation}") from error
    try:
        validate_stage(stage)
    except ValueError as error:
        raise ValueError(f"recipe {_display_name(path)}: {error}") from error
    return stage


_CONFIG_CLASSES = (Stage, ModelConfig, DataConfig, EngineConfig, NoiseConfig, LoraConfig)
_FIELD_PREFIXES = ("", "model.", "data.", "engine.", "noise.", "lora.")

_REPLACED_FIELDS = {
    "settings.estimates.hidden": "settings.estimates.occluded",
    "engine.tensorboard": "engine.trackers=[tensorboard]",
    "engine.slim": "the checkpoints in the folder `checkpoints`, which are complete",
    "slim": "the checkpoints in the folder `checkpoints`, which are complete",
}
"""Fields of version 0.1.0, and what replaced them."""


def _refuse_replaced_field(override: str) -> None:
    name = override.partition("=")[0]
    if name in _REPLACED_FIELDS:
        raise ValueError(f"{name} is of rdvfi 0.1.0; it was replaced by {_REPLACED_FIELDS[name]}")


def _find_recipe(recipe: str) -> tuple[Path, list[str]]:
    """The file of a recipe, and the overrides of its sequence for it."""
    if (path := user_recipe_file(recipe)) is not None:
        return path, []
    name = recipe.replace("-", "_")
    known = list_training_recipes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"no training recipe {recipe!r}{hint} (recipes: {', '.join(known)})")
    group, _, stage = name.partition("/")
    path = FOLDER / f"{group}.yaml"
    if not stage:
        return path, []
    sequence = _read_sequence(path)
    listed = next((listed for listed in sequence.stages if Path(listed).name == stage), None)
    if listed is None:  # in the folder of the sequence, but not part of it
        return FOLDER / group / f"{stage}.yaml", sequence.model_overrides
    return _find_stage_file(path, listed), sequence.overrides(listed)


def _find_stage_file(path: Path, name: str) -> Path:
    """The file of a stage that a sequence lists, relative to the sequence's own file or to this package."""
    for folder in (path.parent, FOLDER):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    return _find_recipe(name)[0]


def _display_name(path: Path) -> str:
    if path.is_relative_to(FOLDER):
        return repr(path.relative_to(FOLDER).with_suffix("").as_posix())
    return repr(str(path))


def stage_yaml(stage: Stage) -> str:
    """The complete configuration of a stage as YAML."""
    values = dataclasses.asdict(stage)
    values["kind"], values["data"]["source"] = stage.kind.name, stage.data.source.name
    values["losses"] = {name: weight for name, weight in stage.losses.items() if weight}
    values["settings"] = {name: stage.settings[name] for name in values["losses"]}
    return yaml.safe_dump(values, sort_keys=False)
