"""Descriptions of registered components, models and recipes, for ``rdvfi models`` and ``rdvfi info``.

Properties that neither the signature nor `About` contains are read from the component itself, which is built with its
defaults (on torch's meta device, without memory for its weights). If that fails, because weights are missing, the
reason is given, and the component can be built with other values.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from importlib.metadata import Distribution, PackageNotFoundError, entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdvfi._fit import has_decoder
from rdvfi._plugins import PLUGIN_GROUP
from rdvfi._signature import format_parameter
from rdvfi.about import About
from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Renderer, TrajectoryModel
from rdvfi.interpolator import Interpolator
from rdvfi.registry import REGISTRIES, Registry, create_sample
from rdvfi.saved_models.model_names import WEIGHTS_FOLDER

SIZE = (256, 448)
"""The motion size (h, w) for which shapes are given: that of 16:9 video."""


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
    """Name, type and default, in the form of a signature."""
    properties: dict[str, Any] = field(default_factory=dict)
    """Attributes of the component, by name."""
    missing: str | None = None
    """Why the component could not be built, so that its properties are unknown."""


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
    """The description of a registered entry.

    Args:
        registry: The registry of the entry.
        name: The name of the entry.
        **values: Parameters to build it with, instead of its defaults.

    Raises:
        KeyError: If no entry has this name.
    """
    factory, about = registry[name], registry.about(name)
    package = str(getattr(factory, "__module__", "?")).split(".")[0]
    properties, missing = {}, None
    try:
        properties = properties_of(_build_entry(registry, name, values))
    except Exception as error:  # a plug-in may raise any
        missing = f"{type(error).__name__}: {error}"
    return EntryInfo(
        registry.group,
        next(entry for entry in registry if registry[entry] is factory),
        (factory.__doc__ or "not stated").strip().splitlines()[0],
        package,
        about.licence or _licence(package),
        about,
        tuple(format_parameter(parameter) for parameter in registry.parameters(name).values()),
        properties,
        missing,
    )


def model_info(model: Interpolator, name: str) -> ModelInfo:
    """The description of a model: its parts, and which of them are trained."""
    saved, untrained = model.pretrained(), model.untrained_parts()
    stages = (model.generator, model.trajectory, model.renderer)
    parts = []
    for part, stage in zip(("backbone", "trajectory", "renderer"), stages, strict=True):
        count = sum(parameter.numel() for parameter in stage.parameters())
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
        properties["decodes"] = has_decoder(component)
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
    parameters = _own_parameters(component)
    properties["weights"] = sum(parameter.numel() for parameter in parameters)
    if parameters:
        properties["weights that learn"] = sum(p.numel() for p in parameters if p.requires_grad)
        properties["types"] = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    return properties


def _attributes(component: nn.Module, *names: str) -> dict[str, Any]:
    values = {name: getattr(component, name) for name in names}
    return {key: v.name if isinstance(v, Enum) else v for key, v in values.items()}


def _own_parameters(component: nn.Module) -> list[nn.Parameter]:
    """Parameters of a component, without those of the components in its slots."""
    interfaces = (KeyframeGenerator, FlowEstimator, TrajectoryModel, Renderer)
    inner = [m for m in component.modules() if m is not component and isinstance(m, interfaces)]
    inner_parameters = {id(parameter) for module in inner for parameter in module.parameters()}
    return [parameter for parameter in component.parameters() if id(parameter) not in inner_parameters]


def _build_entry(registry: Registry[Any], name: str, values: Mapping[str, Any]) -> nn.Module:
    is_large = registry.interface is KeyframeGenerator
    with torch.random.fork_rng(devices=[]), torch.device("meta" if is_large else "cpu"):
        return create_sample(registry, name, **values)


def _licence(package: str) -> str | None:
    distribution = _find_distribution(package)
    if distribution is None:
        return None
    keys = [key for key in ("License-Expression", "License") if key in distribution.metadata]
    return next((distribution.metadata[key] for key in keys if distribution.metadata[key]), None)


def _find_distribution(package: str) -> Distribution | None:
    for entry in entry_points(group=PLUGIN_GROUP):
        if entry.value.split(".")[0].split(":")[0] == package and entry.dist is not None:
            return entry.dist
    try:
        return metadata.distribution(package)
    except PackageNotFoundError:
        return None


def find(name: str, *overrides: str) -> list[EntryInfo | ModelInfo | RecipeInfo]:
    """Descriptions of everything with a name: a model, a recipe, registered entries.

    Args:
        name: A model, the folder of a saved model, a hub id, a recipe or its file, or a registered entry.
        *overrides: Overrides of a model or a recipe, such as ``basis=linear``, or parameters of an entry, ``width=32``.

    Raises:
        ValueError: If nothing has this name, or an override is not valid.
    """
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
    registries = [registry for registry in REGISTRIES if key in registry]
    values = _parse_parameters(registries, key, overrides) if registries and not found else {}
    found += [entry_info(registry, key, **values) for registry in registries]
    if not found:
        known = [*list_models(), *list_recipes(), *(entry for r in REGISTRIES for entry in r)]
        raise ValueError(f"nothing is called {name!r}{did_you_mean(key, known)}; `rdvfi models` lists all names")
    return found


def _parse_parameters(registries: Sequence[Registry[Any]], name: str, texts: Sequence[str]) -> dict[str, Any]:
    """The parameters of an entry in texts ``key=value``; raises ValueError if the entry does not take one of them."""
    import yaml

    values = {}
    for text in texts:
        parameter, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"a parameter must have the form key=value; got {text!r}")
        values[parameter] = yaml.safe_load(value)
    for registry in registries:
        for parameter in values:
            if parameter not in registry.parameters(name):
                raise ValueError(registry.unknown_parameter_message(name, parameter))
    return values
