"""Recipes of training: YAML files of typed fields, composed by Hydra and checked before anything.

A recipe is one stage (``rdvfi_s/motion``) or a sequence of stages (``rdvfi_s``, a list).
Every field has a type, taken from dataclasses and from the signatures of the registered losses; a
field that does not exist, or a value of another type, is refused at composition.
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
    Kind,
    LoraConfig,
    ModelConfig,
    NoiseConfig,
    SourceKind,
    Stage,
    as_stage,
    stage_node,
)
from rdvfi.training.teacher import check_teacher

FOLDER = RECIPES / "train"
SCHEMA = "training_stage"


_EVERY = "every"


@dataclass(frozen=True)
class _Sequence:
    """A recipe of several stages: their names, shared overrides, and overrides of each stage."""

    stages: list[str]
    shared: list[str]
    own: dict[str, list[str]] = field(default_factory=dict)

    def overrides(self, stage: str) -> list[str]:
        """Overrides of a stage by its sequence, the most specific last."""
        return [*self.shared, *self.own.get(_EVERY, []), *self.own.get(Path(stage).name, [])]


def list_training_recipes() -> list[str]:
    """The recipes of this package: sequences, and their stages as ``sequence/stage``."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        found += [path.stem, *(f"{path.stem}/{Path(name).name}" for name in _sequence(path).stages)]
        found += [f"{path.stem}/{file.stem}" for file in (FOLDER / path.stem).glob("*.yaml")]
    return sorted(set(found))


def compose_stages(recipe: str, overrides: Sequence[str]) -> list[Stage]:
    """The stages of a recipe, with the overrides applied to each.

    Args:
        recipe: A recipe of this package, or a YAML file of your own.
        overrides: ``field=value``, for example ``losses.lpips=0.2`` or ``engine.steps=100``.

    Raises:
        ValueError: If the recipe, a field or a value is not valid.
    """
    path, shared = _find(recipe)
    sequence = _sequence(path)
    if not sequence.stages:
        return [_compose(path, [*shared, *overrides])]
    return [_compose(_near(path, name), [*sequence.overrides(name), *overrides]) for name in sequence.stages]


def _sequence(path: Path) -> _Sequence:
    """The stages that a recipe lists; none if it is a stage itself."""
    table = recipe_table(path)
    if "stages" not in table:
        return _Sequence([], [])
    names, model = table["stages"], table.get("model", {})
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"recipe {path}: stages must be a list of recipes")
    numbers = table.get("numbers", {})
    known = table.keys() <= {"stages", "model", "numbers"} and isinstance(model, dict) and isinstance(numbers, dict)
    if not known:
        raise ValueError(
            f"recipe {path}: a sequence has `stages`, `model` for all of them, and `numbers` by stage; "
            f"got {sorted(table)}"
        )
    stray = numbers.keys() - {_EVERY, *(Path(name).name for name in names)}
    if stray:
        raise ValueError(f"recipe {path}: numbers of {sorted(stray)}, which is no stage of it, nor {_EVERY!r}")
    own = {stage: _flat(fields) for stage, fields in numbers.items()}
    return _Sequence(names, _flat(model, "model."), own)


def _flat(fields: Mapping[str, Any], place: str = "") -> list[str]:
    """Nested fields as overrides: ``engine.steps=100``."""
    found: list[str] = []
    for key, value in fields.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{place}{key}.")
        else:
            found.append(f"{place}{key}={format_value(value)}")
    return found


_PATHS = ("data.clips", "data.folder", "out", "model.start", "model.config_dir")
"""Overrides whose values are paths, which need no quotes."""


def written_out(overrides: Sequence[str], config_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Overrides as the fields that they stand for: ``data.clips=FOLDER`` is the folder and the kind of its samples,
    and ``hydra.searchpath=[FOLDER]``, as ``config_dir``, the model's folder of configuration groups.
    """
    found = [] if config_dir is None else [f"model.config_dir={format_value(os.fspath(config_dir))}"]
    for text in overrides:
        key, equals, value = text.partition("=")
        folders = search_folders(text)
        if len(folders) > 1:
            raise ValueError(f"training takes one folder of configuration groups; got {text!r}")
        if folders:
            key, value = "model.config_dir", folders[0]
        if key in _PATHS and not _readable(key, value):
            value = format_value(value)
        if key == "data.clips":
            found += [f"data.folder={value}", "data.source=clips"]
        else:
            found.append(f"{key}{equals}{value}")
    return found


def _readable(key: str, path: str) -> bool:
    """Whether Hydra reads this path as it stands; several values with commas may be the name of one folder."""
    try:
        return not (parse_override(f"{key}={path}").is_sweep_override() and Path(path).exists())
    except ValueError:
        return False


def own_folders(overrides: Sequence[str]) -> tuple[str, ...]:
    """The folder of configuration groups that overrides name, as an address for Hydra.

    Raises:
        ValueError: If it does not exist.
    """
    named = [str(parse_override(text).value()) for text in overrides if text.startswith("model.config_dir=")]
    return tuple(resolve_config_folder(path) for path in named[-1:] if path != "None")


@contextmanager
def stored_stages(recipe: str) -> Iterator[list[tuple[Path, list[str]]]]:
    """Files of the stages of a recipe, and its overrides of each, for Hydra's command line."""
    path, shared = _find(recipe)
    sequence = _sequence(path)
    with nodes_in_store():
        ConfigStore.instance().store(name=SCHEMA, node=stage_node(), provider="rdvfi")
        yield [(_near(path, name), sequence.overrides(name)) for name in sequence.stages] or [(path, shared)]


def _compose(path: Path, given: Sequence[str]) -> Stage:
    overrides = written_out(given)
    for override in overrides:
        if "=" not in override or override.startswith(("hydra", "+", "~")):
            raise ValueError(f"an override reads field=value; got {override!r}")
        _check_replaced(override)
        check_single_value(override)
    try:
        with nodes_in_store():
            ConfigStore.instance().store(name=SCHEMA, node=stage_node(), provider="rdvfi")
            with isolated_hydra(), hydra.initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
                folders = search_path(own_folders(overrides), recipes=False)
                composed = hydra.compose(path.stem, [*overrides, folders])
        if "engine" not in composed:
            raise ValueError(f"recipe {_shown(path)} must have {SCHEMA!r} first in its defaults")
        stage = as_stage(composed)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"recipe {_shown(path)}: {explain_dataclass_error(error, *_CLASSES)}") from error
    try:
        _check(stage)
    except ValueError as error:
        raise ValueError(f"recipe {_shown(path)}: {error}") from error
    return stage


_CLASSES = (
    (Stage, ModelConfig, DataConfig, EngineConfig, NoiseConfig, LoraConfig),
    {
        "Stage": "",
        "ModelConfig": "model.",
        "DataConfig": "data.",
        "EngineConfig": "engine.",
        "NoiseConfig": "noise.",
        "LoraConfig": "lora.",
    },
)
"""The classes of a stage's fields, and where each stands."""

_REPLACED = {
    "settings.estimates.hidden": "settings.estimates.occluded",
    "engine.tensorboard": "engine.trackers=[tensorboard]",
    "engine.slim": "the checkpoints in the folder `checkpoints`, which are whole",
    "slim": "the checkpoints in the folder `checkpoints`, which are whole",
}
"""Fields of version 0.1.0, and what replaced them."""


def _check_replaced(override: str) -> None:
    name = override.partition("=")[0]
    if name in _REPLACED:
        raise ValueError(f"{name} is of rdvfi 0.1.0; it was replaced by {_REPLACED[name]}")


def _check(stage: Stage) -> None:
    stage.engine.check()
    data = stage.data
    if len(data.size) != 2 or min(data.size) < 16:
        raise ValueError(f"data.size must be a height and a width; got {data.size}")
    if len(data.kinds) != len(data.samples):
        raise ValueError(f"data.samples must give a number for each of data.kinds {data.kinds}; got {data.samples}")
    if data.batch < 1:
        raise ValueError(f"data.batch must be at least 1; got {data.batch}")
    if not data.colours >= 0:
        raise ValueError(f"data.colours must not be negative; got {data.colours}")
    if not 0 <= data.held_out < 1 or (data.held_out and data.source is not SourceKind.clips):
        raise ValueError(f"data.held_out is a share in [0, 1) of clips (data.clips=FOLDER); got {data.held_out}")
    if data.source is SourceKind.pairs and stage.kind is not Kind.coarse:
        raise ValueError(
            f"data.source=pairs is for the coarse flow; a stage of kind {stage.kind.name} needs "
            "what lies between the pictures"
        )
    if data.teacher is not None:
        check_teacher(data.teacher)
        if data.source not in (SourceKind.pool, SourceKind.crops, SourceKind.pairs):
            raise ValueError(
                "data.teacher is asked about the film of a pool; it cannot be asked about "
                f"data.source={data.source.name}"
            )
    for name in ("reconstruct_from", "fine_from"):
        if not 0 <= getattr(stage, name) <= 1:
            raise ValueError(f"{name} must be in [0, 1]; got {getattr(stage, name)}")
    negative = [name for name, weight in stage.losses.items() if not weight >= 0]
    if negative:
        raise ValueError(f"losses.{negative[0]} must not be negative")
    if stage.kind is not Kind.ship and not any(weight > 0 for weight in stage.losses.values()):
        raise ValueError("every loss has weight zero; give one, such as losses.l2=1")


def _find(recipe: str) -> tuple[Path, list[str]]:
    """The file of a recipe, and the overrides that the sequence it belongs to has for it."""
    if (path := user_recipe_file(recipe)) is not None:
        return path, []
    name = recipe.replace("-", "_")
    known = list_training_recipes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"no training recipe {recipe!r}{hint} (recipes: {', '.join(known)})")
    whole, _, stage = name.partition("/")
    path = FOLDER / f"{whole}.yaml"
    if not stage:
        return path, []
    sequence = _sequence(path)
    each = next((each for each in sequence.stages if Path(each).name == stage), None)
    if each is None:  # beside the sequence, and not in it
        return FOLDER / whole / f"{stage}.yaml", sequence.shared
    return _near(path, each), sequence.overrides(each)


def _near(path: Path, name: str) -> Path:
    """A stage that a sequence names: beside its own file, or one of this package."""
    for folder in (path.parent, FOLDER):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    return _find(name)[0]


def _shown(path: Path) -> str:
    inside = path.is_relative_to(FOLDER)
    return repr(path.relative_to(FOLDER).with_suffix("").as_posix() if inside else str(path))


def as_table(stage: Stage) -> str:
    """A stage as YAML, as it is run; it is left beside the results."""
    values = dataclasses.asdict(stage)
    values["kind"], values["data"]["source"] = stage.kind.name, stage.data.source.name
    values["losses"] = {name: weight for name, weight in stage.losses.items() if weight}
    values["settings"] = {name: stage.settings[name] for name in values["losses"]}
    return yaml.safe_dump(values, sort_keys=False)
