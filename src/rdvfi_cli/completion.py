"""Values that a shell completes: models, recipes, protocols and registered components.

They are read from the installed files, because importing `rdvfi` imports torch, which takes seconds. Names that a
plug-in registers are known only after it is imported, so they are not offered.
"""

import importlib.util
import re
from pathlib import Path

import typer

_REGISTRATION = re.compile(r'^@(backbones|flows|bases|trajectories|renderers)\.register\(\s*"([\w-]+)"', re.MULTILINE)
"""The decorator of a built-in component, with its registry and name."""

REGISTRIES = {
    "backbone": "backbones",
    "coarse": "flows",
    "flow": "flows",
    "basis": "bases",
    "trajectory": "trajectories",
    "renderer": "renderers",
}
"""The registry of each group of an override ``GROUP=NAME``."""

BASELINES = ("blend", "dis", "dis-448", "minterpolate", "rife", "wan-50", "wan-1", "gi")


def model_names() -> list[str]:
    """Models whose weights are installed."""
    return _stems("weights/*.safetensors")


def recipe_names() -> list[str]:
    """Recipes of models."""
    return _stems("conf/*.yaml")


def protocol_names() -> list[str]:
    """Evaluation protocols."""
    return _stems("evaluation/protocols/*.yaml")


def training_recipe_names() -> list[str]:
    """Recipes of training: sequences, and the stages in their folders as ``SEQUENCE/STAGE``."""
    names = _stems("conf/train/*.yaml")
    return sorted([*names, *(f"{name}/{stage}" for name in names for stage in _stems(f"conf/train/{name}/*.yaml"))])


def component_names() -> dict[str, list[str]]:
    """Names of the built-in components by registry."""
    names: dict[str, list[str]] = {registry: [] for registry in REGISTRIES.values()}
    for package in ("backbones", "motion", "render"):
        for path in _package_folder().glob(f"{package}/**/*.py"):
            for registry, name in _REGISTRATION.findall(path.read_text(encoding="utf-8")):
                names[registry].append(name)
    return {registry: sorted(found) for registry, found in names.items()}


def described_names() -> list[str]:
    """Names that ``rdvfi info`` describes: models, recipes and components."""
    return [*model_names(), *recipe_names(), *(name for names in component_names().values() for name in names)]


def complete_methods(incomplete: str) -> list[str]:
    """The last of several methods that are separated by commas: models and baselines."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*model_names(), *BASELINES)]


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Overrides ``GROUP=NAME`` of a model; nothing for other words, so that the shell offers files."""
    names = component_names()
    return _complete_assignment({key: names[registry] for key, registry in REGISTRIES.items()}, ctx, incomplete)


def complete_training_setting(ctx: typer.Context, incomplete: str) -> list[str]:
    """``recipe=NAME`` of ``rdvfi train``."""
    return _complete_assignment({"recipe": training_recipe_names()}, ctx, incomplete)


def _complete_assignment(values: dict[str, list[str]], ctx: typer.Context, incomplete: str) -> list[str]:
    """``KEY=VALUE`` as one word; bash splits it at ``=`` and expects VALUE alone after it."""
    words = [word for given in ctx.params.values() if isinstance(given, (list, tuple)) for word in map(str, given)]
    key = next((word for word in reversed(words) if word != "="), "")
    if key in values and (not incomplete or words[-1] == "="):
        return values[key]
    return [f"{key}={value}" for key, known in values.items() if incomplete for value in known]


def _stems(pattern: str) -> list[str]:
    return sorted(path.stem for path in _package_folder().glob(pattern))


def _package_folder() -> Path:
    """The folder of the installed package, found without importing it."""
    spec = importlib.util.find_spec("rdvfi")
    return Path(spec.origin).parent if spec and spec.origin else Path()
