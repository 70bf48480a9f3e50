"""Recipes of training: YAML files of typed fields, composed by Hydra and checked before anything.

A recipe is one stage (``rdvfi_s/motion``) or a sequence of stages (``rdvfi_s``, a list).
Every field has a type, taken from dataclasses and from the signatures of the registered losses; a
field that does not exist, or a value of another type, is refused at composition.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rdvfi.config import RECIPES, one_line, stored_nodes
from rdvfi.registry import did_you_mean
from rdvfi.training.losses.registry import losses
from rdvfi.training.stage import (
    DataConfig,
    EngineConfig,
    Kind,
    LoraConfig,
    ModelConfig,
    NoiseConfig,
    SourceKind,
    Stage,
    stage_node,
)
from rdvfi.training.teaching import check_teacher

FOLDER = RECIPES / "train"
SCHEMA = "training_stage"

_NAME = "_name_"


def list_training_recipes() -> list[str]:
    """The recipes of this package: sequences, and their stages as ``sequence/stage``."""
    found = (path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml"))
    return sorted(path.as_posix() for path in found)


def compose_stages(recipe: str, overrides: Sequence[str]) -> list[Stage]:
    """The stages of a recipe, with the overrides applied to each.

    Args:
        recipe: A recipe of this package, or a YAML file of your own.
        overrides: ``field=value``, for example ``losses.lpips=0.2`` or ``engine.steps=100``.

    Raises:
        ValueError: If the recipe, a field or a value is not valid.
    """
    path = _find(recipe)
    table = _read(path)
    if set(table) == {"stages"}:
        names = table["stages"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"recipe {path}: stages must be a list of recipes")
        inside = [_near(path, name) for name in names]
        return [_compose(file, overrides) for file in inside]
    return [_compose(path, overrides)]


def _compose(path: Path, overrides: Sequence[str]) -> Stage:
    for override in overrides:
        if "=" not in override or override.startswith(("hydra", "+", "~")):
            raise ValueError(f"an override reads field=value; got {override!r}")
    try:
        with stored_nodes():
            ConfigStore.instance().store(name=SCHEMA, node=stage_node(), provider="rdvfi")
            with hydra.initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
                composed = hydra.compose(path.stem, list(overrides))
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"recipe {_shown(path)}: {one_line(error)}") from error
    if not isinstance(values, dict) or "engine" not in values:
        raise ValueError(f"recipe {_shown(path)} must have {SCHEMA!r} first in its defaults")
    return _stage({str(key): value for key, value in values.items()}, _shown(path))


def _stage(values: dict[str, Any], where: str) -> Stage:
    """The plain values as what they stand for."""
    groups: dict[str, type] = {
        "model": ModelConfig,
        "data": DataConfig,
        "engine": EngineConfig,
        "noise": NoiseConfig,
        "lora": LoraConfig,
    }
    built = {name: kind(**values[name]) for name, kind in groups.items()}
    weights = {_loss(name): float(weight) for name, weight in values["losses"].items()}
    settings = {
        _loss(name): {key: value for key, value in given.items() if key != _NAME}
        for name, given in values["settings"].items()
    }
    stage = Stage(**{**values, **built, "losses": weights, "settings": settings})
    try:
        _check(stage)
    except ValueError as error:
        raise ValueError(f"recipe {where}: {error}") from error
    return stage


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


def _loss(field: str) -> str:
    return next(name for name in losses if name.replace("-", "_") == field)


def _find(recipe: str) -> Path:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"recipe {os.fspath(recipe)!r} does not exist")
        return path
    name = recipe.replace("-", "_")
    known = list_training_recipes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"no training recipe {recipe!r}{hint} (recipes: {', '.join(known)})")
    return FOLDER / f"{name}.yaml"


def _near(path: Path, name: str) -> Path:
    """A stage that a sequence names: beside its own file, or one of this package."""
    own = path.parent / f"{name}.yaml"
    return own if own.is_file() else _find(name)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(table, dict) or "hydra" in table:
        raise ValueError(f"recipe {path} must be a table of fields and values, without `hydra`")
    return table


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
