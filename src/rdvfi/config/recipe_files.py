"""Files of recipes: those of this package, by name, and YAML files of the user."""

import logging
import os
from pathlib import Path
from typing import Any

from rdvfi._small_text import read_small_yaml
from rdvfi.config.overrides import one_line
from rdvfi.registry import did_you_mean

RECIPES = Path(__file__).parents[1] / "conf"
_RENAMED = {"rdvfi_s2": "rdvfi_s"}
"""Former names of recipes, and their present names."""

_log = logging.getLogger(__name__)


def list_recipes() -> list[str]:
    """Names of the recipes of this package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(recipe: str | os.PathLike[str]) -> Path:
    """The file of a recipe, given by name or as a YAML file; raises ValueError if there is none."""
    if not isinstance(recipe, (str, os.PathLike)):
        raise ValueError(f"a recipe is named by a string or a path; got {recipe!r}")
    if (path := user_recipe_file(recipe)) is not None:
        return path
    name = str(recipe).replace("-", "_")
    if name in _RENAMED:
        _log.warning("the recipe %s has been renamed to %s", name, _RENAMED[name])
        name = _RENAMED[name]
    if name not in list_recipes():
        hint = did_you_mean(name, list_recipes())
        known = ", ".join(list_recipes())
        raise ValueError(f"no recipe named {os.fspath(recipe)!r}{hint} (recipes: {known})")
    return RECIPES / f"{name}.yaml"


def user_recipe_file(recipe: str | os.PathLike[str]) -> Path | None:
    """The path if a recipe is a YAML file of the user, None if it is a name; raises ValueError if it does not exist."""
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        return None
    if not path.is_file():
        reason = "is no file" if path.exists() else "does not exist"
        raise ValueError(f"recipe {os.fspath(recipe)!r} {reason}")
    return path


def recipe_table(path: Path) -> dict[str, Any]:
    """Read the YAML table of a recipe, of a model or of training; settings of Hydra itself are refused.

    Raises:
        ValueError: If it is not valid YAML, too large, or not a table of names and values.
    """
    try:
        table = read_small_yaml(path)
    except ValueError as error:
        raise ValueError(f"recipe {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(table, dict) or "hydra" in table:
        raise ValueError(f"recipe {path} must be a table of names and values, without `hydra`")
    return table
