"""The schema of recipes: configuration nodes of the registered components in Hydra's store.

Every registered factory gives one node, a dataclass made from its signature, so a recipe is checked
field by field against the constructors themselves and nothing repeats them.
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
"""What a recipe chooses, and the registry that each choice is from."""

ROOT = "interpolator"
"""The name of the root node, first in every recipe's defaults."""

NAME = "_name_"
"""The field of a node that holds the registered name."""

CHANNELS = "latent_channels"

Chosen = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By group, a registered name and values that its node has instead of its defaults."""


def store_nodes(chosen: Chosen | None = None) -> None:
    """Put the root node and one node per registered entry into Hydra's store.

    For programs of one's own with ``@hydra.main`` (`rdvfi.build_from`); `rdvfi.build` needs no such call.

    Args:
        chosen: Entries whose nodes have other values than their defaults.
    """
    store = ConfigStore.instance()
    entries = ((group, name, registry[name]) for group, registry in GROUPS.items() for name in registry)
    store.repo = _merged(store.repo, _default_nodes(tuple(entries)))
    for group, (name, values) in (chosen or {}).items():
        store.store(group=group, name=name, node=node_of(GROUPS[group], name, **values), provider="rdvfi")


@lru_cache(maxsize=4)
def _default_nodes(entries: tuple[tuple[str, str, Any], ...]) -> dict[str, Any]:
    """The root node and those of registered entries, group by group, as Hydra's store holds them; it only copies them.

    Args:
        entries: Group, name and factory of each.
    """
    fields = [("motion_area", int, dataclasses.field(default=MOTION_AREA))]
    fields += [(group, Any, dataclasses.field(default=None)) for group in GROUPS]
    store = ConfigStore.instance()
    before, store.repo = store.repo, {}
    try:
        store.store(name=ROOT, node=dataclasses.make_dataclass("InterpolatorConfig", fields), provider="rdvfi")
        for group, name, _ in entries:
            store.store(group=group, name=name, node=node_of(GROUPS[group], name), provider="rdvfi")
        return store.repo
    finally:
        store.repo = before


def node_of(registry: Registry[Any], name: str, **values: Any) -> type:
    """The dataclass of one entry: its plain parameters with their types and defaults.

    Args:
        registry: Where it is registered.
        name: Its name.
        **values: Plain values instead of defaults.
    """
    fields: list[tuple[str, Any, Any]] = [(NAME, str, dataclasses.field(default=name))]
    for parameter in registry.parameters(name).values():
        if follows_backbone(registry, parameter):
            fields.append((parameter.name, int | None, dataclasses.field(default=values.get(parameter.name))))
            continue
        if parameter.name in values:
            value = _plain(registry, name, parameter, values[parameter.name])
            parameter = dataclasses.replace(parameter, default=value)
        if parameter.component is not None:
            continue
        fields.append((parameter.name, _field_type(parameter.annotation), _default(parameter)))
    return dataclasses.make_dataclass(f"{registry.group}:{name}", fields)


def _plain(registry: Registry[Any], name: str, parameter: Parameter, value: Any) -> Any:
    """A value in the parameter's own type; missing values and references are left to Hydra."""
    if isinstance(value, str) and (value == MISSING or "${" in value):
        return value
    return convert(parameter.annotation, value, f"{registry.group} {name!r}: {parameter.name}")


def follows_backbone(registry: Registry[Any], parameter: Parameter) -> bool:
    """Whether a recipe that leaves it open means the number of the backbone's channels."""
    return registry is not backbones and parameter.name == CHANNELS


def _field_type(annotation: Any) -> Any:
    """The annotation as OmegaConf takes it: tuples of unequal types are checked by us instead."""
    kind, optional = without_none(annotation)
    if get_origin(kind) is tuple:
        of = {part for part in get_args(kind) if part is not Ellipsis}
        kind = list[of.pop()] if len(of) == 1 else list[Any]
    return kind | None if optional else kind


def _default(parameter: Parameter) -> Any:
    if parameter.required:
        return dataclasses.field(default=MISSING)
    value = parameter.default
    if isinstance(value, (list, tuple)):
        return dataclasses.field(default_factory=lambda: list(value))
    return dataclasses.field(default=value)


@contextmanager
def stored_nodes(chosen: Chosen | None = None) -> Iterator[None]:
    """Our nodes in Hydra's store, which is global, for as long as we need them."""
    Plugins.instance()  # Hydra's own nodes go into the store when this is first made
    store = ConfigStore.instance()
    before = store.repo
    try:
        store_nodes(chosen)
        yield
    finally:
        store.repo = before


def _merged(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with the branches and leaves of another one, which may be filled further while that one stays as it is."""
    both = dict(tree)
    for key, value in other.items():
        both[key] = _merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both
