"""Descriptions of registered components, models and recipes, for ``rdvfi models`` and ``rdvfi info``.

Properties that neither the signature nor `About` contains are read from the component itself, which is built with its
defaults (on torch's meta device, without memory for its weights). If that fails, because weights are missing, the
reason is given, and the component can be built with other values.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdvfi._fit import decodes
from rdvfi._plugins import PLUGIN_GROUP
from rdvfi._signature import format_parameter
from rdvfi.about import About
from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Renderer, TrajectoryModel
from rdvfi.interpolator import Interpolator
from rdvfi.registry import REGISTRIES, Registry, create_sample
from rdvfi.saved_models.model_names import WEIGHTS_FOLDER

SIZE = (256, 448)
"""Motion size, (h, w), for which shapes are given: that of 16:9 video."""


@dataclass(frozen=True)
class EntryInfo:
    """A registered entry."""

    group: str
    name: str
    summary: str
    package: str
    licence: str | None
    about: About
    parameters: tuple[str, ...]
    """As in a signature: name, type, default."""
    properties: dict[str, Any] = field(default_factory=dict)
    """Attributes of the component, by name."""
    missing: str | None = None
    """Why the component could not be built, and has no properties here."""


@dataclass(frozen=True)
class PartInfo:
    """One part of a model."""

    part: str
    specification: dict[str, Any]
    weights: int
    state: str
    """'trained', 'trained apart', 'untrained', 'pretrained', or 'nothing to train'."""


@dataclass(frozen=True)
class ModelInfo:
    """A model with weights."""

    name: str
    motion_area: int
    parts: tuple[PartInfo, ...]
    properties: dict[str, Any]
    card: str | None = None


@dataclass(frozen=True)
class RecipeInfo:
    """A recipe and its choices."""

    name: str
    summary: str
    choices: dict[str, Any]


def entry_info(registry: Registry[Any], name: str, **values: Any) -> EntryInfo:
    """Everything known about a registered entry.

    Args:
        registry: Where it is registered.
        name: Its name.
        **values: Parameters to build it with, instead of its defaults.

    Raises:
        KeyError: If no entry has this name.
    """
    factory, about = registry[name], registry.about(name)
    module = str(getattr(factory, "__module__", "?"))
    properties, missing = {}, None
    try:
        properties = properties_of(_built(registry, name, values))
    except Exception as error:  # of a plug-in's own kind, too
        missing = f"{type(error).__name__}: {error}"
    return EntryInfo(
        registry.group,
        next(entry for entry in registry if registry[entry] is factory),
        (factory.__doc__ or "not stated").strip().splitlines()[0],
        module.split(".")[0],
        about.licence or _licence(module.split(".")[0]),
        about,
        tuple(format_parameter(parameter) for parameter in registry.parameters(name).values()),
        properties,
        missing,
    )


def model_info(model: Interpolator, name: str) -> ModelInfo:
    """Parts of a model, and which of them are trained."""
    saved, untrained = model.pretrained(), model.untrained_parts()
    stages = (model.generator, model.trajectory, model.renderer)
    parts = []
    for part, stage in zip(("backbone", "trajectory", "renderer"), stages, strict=True):
        count = _count(stage)
        if part in untrained:
            state = "untrained"
        elif part in saved.trained:
            state = "trained apart" if part in saved.apart else "trained"
        else:
            state = "pretrained" if count else "nothing to train"
        parts.append(PartInfo(part, getattr(saved, part), count, state))
    card = WEIGHTS_FOLDER / f"{name}.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    return ModelInfo(name, model.motion_area, tuple(parts), properties_of(model.generator), text)


def recipe_info(name: str, *overrides: str) -> RecipeInfo:
    """The choices of a recipe of the package or in a file; nothing is built."""
    from rdvfi.config import compose

    return RecipeInfo(name, recipe_summary(name), compose(name, *overrides))


def recipe_summary(name: str) -> str:
    """The comment at the top of a recipe."""
    from rdvfi.config import RECIPES

    file = Path(name) if Path(name).suffix in (".yaml", ".yml") else RECIPES / f"{name}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def properties_of(component: nn.Module) -> dict[str, Any]:
    """Attributes of a component: shapes, sizes, types, inputs and requirements."""
    properties: dict[str, Any] = {}
    if isinstance(component, KeyframeGenerator):
        shape = component.noise_shape(1, *SIZE)
        properties["a latent at 448x256"] = list(shape[2:])
        properties["noise at 448x256"] = list(shape)
        properties |= _attributes(component, "stride", "size_multiple", "time_symmetric")
        properties |= _attributes(component, "gives_prior", "keyframe_count")
        properties["decodes"] = decodes(component)
    if isinstance(component, (FlowEstimator, TrajectoryModel)):
        properties |= _attributes(component, "reads")
    if isinstance(component, (FlowEstimator, TrajectoryModel, Renderer)):
        properties |= _attributes(component, "latent_channels")
    if isinstance(component, TrajectoryModel):
        properties |= _attributes(component, "grid", "needs_prior", "basis_reach")
    if isinstance(component, Renderer):
        properties["grids"] = sorted(grid.name for grid in component.grids)
    if isinstance(component, (KeyframeGenerator, FlowEstimator)):
        properties |= _attributes(component, "pretrained")
    if isinstance(component, Basis):
        properties["knots used, of 9"] = component.used(9)
    own = _own(component)
    properties["weights"] = sum(parameter.numel() for parameter in own)
    if own:
        properties["weights that learn"] = sum(p.numel() for p in own if p.requires_grad)
        properties["types"] = sorted({str(p.dtype).removeprefix("torch.") for p in own})
    return properties


def _attributes(component: nn.Module, *names: str) -> dict[str, Any]:
    values = {name: getattr(component, name) for name in names}
    return {key: v.name if isinstance(v, Enum) else v for key, v in values.items()}


def _own(component: nn.Module) -> list[nn.Parameter]:
    """Parameters that do not belong to a component in a slot of it."""
    slots = (KeyframeGenerator, FlowEstimator, TrajectoryModel, Renderer)
    inner = [m for m in component.modules() if m is not component and isinstance(m, slots)]
    theirs = {id(parameter) for module in inner for parameter in module.parameters()}
    return [p for p in component.parameters() if id(p) not in theirs]


def _count(component: nn.Module) -> int:
    return sum(parameter.numel() for parameter in component.parameters())


def _built(registry: Registry[Any], name: str, values: Mapping[str, Any]) -> nn.Module:
    """An entry, built with the given values, defaults, and simple components in its slots."""
    heavy = registry.interface is KeyframeGenerator
    with torch.random.fork_rng(devices=[]), torch.device("meta" if heavy else "cpu"):
        return create_sample(registry, name, **values)


def _licence(package: str) -> str | None:
    """The licence of the distribution that a package belongs to."""
    found = _distribution(package)
    if found is None:
        return None
    keys = [key for key in ("License-Expression", "License") if key in found.metadata]
    stated = (found.metadata[key] for key in keys)
    return next((licence for licence in stated if licence), None)


def _distribution(package: str) -> Distribution | None:
    for entry in entry_points(group=PLUGIN_GROUP):
        if entry.value.split(".")[0].split(":")[0] == package and entry.dist is not None:
            return entry.dist
    try:
        return distribution(package)
    except PackageNotFoundError:
        return None


def find(name: str, *overrides: str) -> list[EntryInfo | ModelInfo | RecipeInfo]:
    """All that a name stands for: a model, a recipe, entries of registries, a saved folder or a recipe's file.

    Args:
        name: Of whatever it is.
        *overrides: Of a model or a recipe, ``basis=linear``; of an entry its parameters, ``width=32``.

    Raises:
        ValueError: If it stands for nothing, or nothing that has this name takes an override.
    """
    import yaml

    from rdvfi.config import list_recipes
    from rdvfi.models import create_model, list_models
    from rdvfi.registry import did_you_mean, normalise

    key = normalise(name)
    found: list[EntryInfo | ModelInfo | RecipeInfo] = []
    if Path(name).suffix in (".yaml", ".yml"):
        found.append(recipe_info(name, *overrides))
    elif key in list_models() or os.sep in name or Path(name).is_dir():
        found.append(model_info(create_model(name, *overrides), key if key in list_models() else name))
    elif key.replace("-", "_") in list_recipes():
        found.append(recipe_info(key.replace("-", "_"), *overrides))
    entries = [registry for registry in REGISTRIES if key in registry]
    values = {}
    for text in overrides if entries and not found else ():
        parameter, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"a parameter reads key=value; got {text!r}")
        values[parameter] = yaml.safe_load(value)
    if values:
        unknown = [
            registry.unknown_parameter_message(key, name)
            for registry in entries
            for name in values
            if name not in registry.parameters(key)
        ]
        if unknown:
            raise ValueError(unknown[0])
    found += [entry_info(registry, key, **values) for registry in entries]
    if found:
        return found
    known = [*list_models(), *list_recipes(), *(entry for r in REGISTRIES for entry in r)]
    raise ValueError(f"nothing is called {name!r}{did_you_mean(key, known)}; `rdvfi models` lists what there is")
