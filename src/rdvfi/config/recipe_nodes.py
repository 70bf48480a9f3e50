"""The schema of recipes: configuration nodes of the registered components in Hydra's store.

Every registered factory has one node, a dataclass created from its signature, so a recipe is checked
field by field against the signatures themselves.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, get_args, get_origin

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING

from rdvfi._signature import Parameter, convert, without_none
from rdvfi.registry import Registry, backbones, bases, flows, renderers, trajectories
from rdvfi.saved_models.staged_model import MOTION_AREA

GROUPS: dict[str, Registry[Any]] = {
    "backbone": backbones,
    "coarse": flows,
    "flow": flows,
    "basis": bases,
    "trajectory": trajectories,
    "renderer": renderers,
}
"""The groups of a recipe, and the registry of the choices for each."""

ROOT = "interpolator"
"""Name of the root node, which is first in the defaults of every recipe."""

NAME = "_name_"
"""The field of a node with the registered name."""

CHANNELS = "latent_channels"

Choices = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By group, a registered name and the values that replace defaults of its node."""


def store_nodes(choices: Choices | None = None) -> None:
    """Add the root node and one node per registered entry to Hydra's store.

    For your own programs with ``@hydra.main`` (`rdvfi.build_from`); `rdvfi.build` needs no such call.

    Args:
        choices: Entries whose nodes have other values than their defaults.
    """
    store = ConfigStore.instance()
    entries = ((group, name, registry[name]) for group, registry in GROUPS.items() for name in registry)
    store.repo = _merge(store.repo, _default_nodes(tuple(entries)))
    for group, (name, values) in (choices or {}).items():
        store.store(group=group, name=name, node=make_node(GROUPS[group], name, **values), provider="rdvfi")


@lru_cache(maxsize=4)
def _default_nodes(entries: tuple[tuple[str, str, Any], ...]) -> dict[str, Any]:
    """The root node and the nodes of entries (group, name, factory), in the form of Hydra's store."""
    fields = [("motion_area", int, dataclasses.field(default=MOTION_AREA))]
    fields += [(group, Any, dataclasses.field(default=None)) for group in GROUPS]
    store = ConfigStore.instance()
    before, store.repo = store.repo, {}
    try:
        store.store(name=ROOT, node=dataclasses.make_dataclass("InterpolatorConfig", fields), provider="rdvfi")
        for group, name, _ in entries:
            store.store(group=group, name=name, node=make_node(GROUPS[group], name), provider="rdvfi")
        return store.repo
    finally:
        store.repo = before


def make_node(registry: Registry[Any], name: str, **values: Any) -> type:
    """The dataclass of one entry: its plain parameters with their types and defaults, or with other ``values``."""
    fields: list[tuple[str, Any, Any]] = [(NAME, str, dataclasses.field(default=name))]
    for parameter in registry.parameters(name).values():
        if follows_backbone(registry, parameter):
            fields.append((parameter.name, int | None, dataclasses.field(default=values.get(parameter.name))))
            continue
        if parameter.name in values:
            value = _convert_value(registry, name, parameter, values[parameter.name])
            parameter = dataclasses.replace(parameter, default=value)
        if parameter.component is not None:
            continue
        fields.append((parameter.name, _field_type(parameter.annotation), _default(parameter)))
    return dataclasses.make_dataclass(f"{registry.group}:{name}", fields)


def _convert_value(registry: Registry[Any], name: str, parameter: Parameter, value: Any) -> Any:
    """A value converted to the type of its parameter; missing values and references are left to Hydra."""
    if isinstance(value, str) and (value == MISSING or "${" in value):
        return value
    return convert(parameter.annotation, value, f"{registry.group} {name!r}: {parameter.name}")


def follows_backbone(registry: Registry[Any], parameter: Parameter) -> bool:
    """Whether a parameter without a value gets the number of latent channels of the backbone."""
    return registry is not backbones and parameter.name == CHANNELS


def _field_type(annotation: Any) -> Any:
    """The annotation for OmegaConf, which has no tuples; those of different types are checked by `_convert_value`."""
    kind, optional = without_none(annotation)
    if get_origin(kind) is tuple:
        items = {part for part in get_args(kind) if part is not Ellipsis}
        kind = list[items.pop()] if len(items) == 1 else list[Any]
    return kind | None if optional else kind


def _default(parameter: Parameter) -> Any:
    if parameter.required:
        return dataclasses.field(default=MISSING)
    value = parameter.default
    if isinstance(value, (list, tuple)):
        return dataclasses.field(default_factory=lambda: list(value))
    return dataclasses.field(default=value)


@contextmanager
def nodes_in_store(choices: Choices | None = None) -> Iterator[None]:
    """Add the nodes to Hydra's global store within this context; see `store_nodes`."""
    Plugins.instance()  # the first call adds Hydra's own nodes to the store
    store = ConfigStore.instance()
    before = store.repo
    try:
        store_nodes(choices)
        yield
    finally:
        store.repo = before


def _merge(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A new tree with the branches and leaves of both trees; those of ``other`` win."""
    merged = dict(tree)
    for key, value in other.items():
        merged[key] = _merge(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged
