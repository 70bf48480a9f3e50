"""Models from recipes: Hydra's schema, derived from the registries.

Every registered factory gives one Hydra node, a dataclass made from its signature, so a recipe
is checked field by field against the constructors themselves and nothing repeats them. A recipe
chooses an entry for each *group*::

    model = rdvfi.build("rdvfi_s", "basis=linear", "flow.radius=3")

A component that needs another one (a parameter whose type is an interface) receives the one that
the recipe chose: a `FlowEstimator` that of the group ``flow``, a `CoarseFlow` that of ``coarse``, a
`Basis` that of ``basis``. A parameter ``latent_channels`` that a
recipe leaves open is that of the backbone. Hydra composes and checks; it never
instantiates. The result is turned into specifications of `rdvfi.registry`, so a recipe can call
registered factories and nothing else.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rdvfi._signature import Parameter, without_none
from rdvfi.interpolator import Interpolator
from rdvfi.pretrained import MOTION_AREA
from rdvfi.registry import (
    Registry,
    backbones,
    bases,
    create_from_spec,
    did_you_mean,
    flows,
    normalise,
    renderers,
    trajectories,
)

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

RECIPES = Path(__file__).parent / "conf"

_NAME = "_name_"
_CHANNELS = "latent_channels"


def build(recipe: str | os.PathLike[str], *overrides: str) -> Interpolator:
    """A model with fresh weights, as a recipe says.

    Args:
        recipe: A recipe of this package (`list_recipes`), or a YAML file of your own.
        *overrides: Hydra overrides: ``"basis=linear"`` chooses, ``"flow.radius=3"`` sets.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid; nothing was built.
    """
    composed = compose(recipe, *overrides)
    backbone, trajectory, renderer = (_spec(composed, part) for part in ("backbone", "trajectory", "renderer"))
    try:
        generator = create_from_spec(backbones, _with_channels(backbone, None))
        channels = generator.latent_channels
        return Interpolator(
            generator,
            create_from_spec(trajectories, _with_channels(trajectory, channels)),
            create_from_spec(renderers, _with_channels(renderer, channels)),
            motion_area=composed["motion_area"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"recipe {os.fspath(recipe)!r} makes no model: {error}") from error


def list_recipes() -> list[str]:
    """The recipes of this package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def compose(recipe: str | os.PathLike[str], *overrides: str) -> dict[str, Any]:
    """The values that a recipe and overrides come to, checked, as plain nested dictionaries.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid.
    """
    path = _find(recipe)
    _check_file(path)
    checked = [_check_override(override) for override in overrides]
    try:
        with (
            stored_nodes(),
            hydra.initialize_config_dir(str(path.parent.resolve()), version_base="1.3"),
        ):
            # A recipe of one's own may start from one of ours.
            ours = f"hydra.searchpath=[file://{RECIPES}]"
            composed = hydra.compose(path.stem, [*checked, ours])
        values = OmegaConf.to_container(composed, resolve=True, enum_to_str=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"recipe {os.fspath(recipe)!r}: {_unknown_field(error) or one_line(error)}") from error
    if not isinstance(values, dict) or not values.keys() >= {"motion_area", *GROUPS}:
        raise ValueError(f"recipe {os.fspath(recipe)!r} must have {ROOT!r} first in its defaults")
    return {str(key): value for key, value in values.items()}


def store_nodes() -> None:
    """Put the root node and one node per registered entry into Hydra's store.

    For programs of one's own with ``@hydra.main``; `build` needs no such call.
    """
    store = ConfigStore.instance()
    fields = [(group, Any, dataclasses.field(default=None)) for group in GROUPS]
    root = dataclasses.make_dataclass(
        "InterpolatorConfig",
        [("motion_area", int, dataclasses.field(default=MOTION_AREA)), *fields],
    )
    store.store(name=ROOT, node=root, provider="rdvfi")
    for group, registry in GROUPS.items():
        for name in registry:
            node = node_of(registry, name)
            store.store(group=group, name=name, node=node, provider="rdvfi")


def node_of(registry: Registry[Any], name: str) -> type:
    """The dataclass of one entry: its plain parameters with their types and defaults."""
    fields: list[tuple[str, Any, Any]] = [(_NAME, str, dataclasses.field(default=name))]
    for parameter in registry.parameters(name).values():
        if _follows_backbone(registry, parameter):
            fields.append((parameter.name, int | None, dataclasses.field(default=None)))
        elif parameter.component is None:
            fields.append((parameter.name, _field_type(parameter.annotation), _default(parameter)))
    return dataclasses.make_dataclass(f"{registry.group}:{name}", fields)


def _follows_backbone(registry: Registry[Any], parameter: Parameter) -> bool:
    """Whether a recipe that leaves it open means the number of the backbone's channels."""
    return registry is not backbones and parameter.name == _CHANNELS


def _with_channels(spec: Any, channels: int | None) -> Any:
    """A specification in which the channels that were left open are the backbone's.

    Inside the backbone itself (``channels`` is None) they are the factory's own default.
    """
    if not isinstance(spec, dict):
        return spec
    opened = {key for key, value in spec.items() if key == _CHANNELS and value is None}
    filled = {key: _with_channels(value, channels) for key, value in spec.items()}
    if channels is not None:
        return filled | dict.fromkeys(opened, channels)
    return {key: value for key, value in filled.items() if key not in opened}


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


def _spec(composed: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The specification of the entry chosen for ``group``, with those that fill its slots."""
    chosen = composed[group]
    if not _is_chosen(chosen):
        raise ValueError(f"the recipe chooses no {group}: add `{group}: NAME` to its defaults")
    config = {key: value for key, value in chosen.items() if key != _NAME}
    name = chosen[_NAME]
    for parameter in GROUPS[group].parameters(name).values():
        if parameter.component is None:
            continue
        slot = _slot(group, name, parameter)
        if parameter.required or _is_chosen(composed[slot]):
            config[parameter.name] = _spec(composed, slot)
    return {"name": name, "config": config}


def _is_chosen(values: Any) -> bool:
    """A group without a choice may still hold values that the recipe set for one."""
    return isinstance(values, dict) and _NAME in values


def _slot(group: str, name: str, parameter: Parameter) -> str:
    """The group that fills a parameter whose type is an interface."""
    if parameter.slot in GROUPS:
        return str(parameter.slot)
    interface = parameter.component
    raise ValueError(
        f"{group} {name!r} takes a {interface.__name__ if interface else '?'} as "
        f"{parameter.name!r}, which no group of a recipe gives; build it in Python"
    )


def _find(recipe: str | os.PathLike[str]) -> Path:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"recipe {os.fspath(recipe)!r} does not exist")
        return path
    name = str(recipe).replace("-", "_")
    if name not in list_recipes():
        hint = did_you_mean(name, list_recipes())
        known = ", ".join(list_recipes())
        raise ValueError(f"no recipe named {os.fspath(recipe)!r}{hint} (recipes: {known})")
    return RECIPES / f"{name}.yaml"


def _check_file(path: Path) -> None:
    """The file is a YAML table, and leaves Hydra's own settings (what it imports) alone."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(table, dict) or "hydra" in table:
        raise ValueError(f"recipe {path} must be a table of groups and values, without `hydra`")


def _check_override(override: str) -> str:
    """An override whose choice is a registered name, in its canonical spelling."""
    if not isinstance(override, str) or "=" not in override:
        raise ValueError(f"an override reads group=name or group.field=value; got {override!r}")
    key, value = override.split("=", 1)
    head = key.split(".")[0]
    known = [*GROUPS, "motion_area"]
    if head not in known:
        raise ValueError(
            f"override {override!r}: no group {head!r}{did_you_mean(head, known)} (groups: {', '.join(known)})"
        )
    if key not in GROUPS:
        return override
    if value == "null":
        return f"~{key}"  # Hydra's spelling of "no choice"
    registry, name = GROUPS[key], normalise(value)
    if name not in registry:
        hint, names = did_you_mean(name, registry), ", ".join(registry)
        raise ValueError(f"override {override!r}: no {key} named {value!r}{hint} (known: {names})")
    return f"{key}={name}"


@contextmanager
def stored_nodes() -> Iterator[None]:
    """Our nodes in Hydra's store, which is global, for as long as we need them."""
    Plugins.instance()  # Hydra's own nodes go into the store when this is first made
    store = ConfigStore.instance()
    before = store.repo
    store.repo = _copied(before)
    try:
        store_nodes()
        yield
    finally:
        store.repo = before


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _unknown_field(error: Exception) -> str | None:
    """Hydra's complaint about a field that an entry does not have, in the registry's words."""
    found = re.search(r"Key '([^']+)' not in '(\w+):([\w-]+)'", str(error) + str(error.__cause__))
    if found is None:
        return None
    field, group, name = found.groups()
    registry = next(registry for registry in GROUPS.values() if registry.group == group)
    return registry.unknown(name, field)


def one_line(error: Exception) -> str:
    """Hydra's text without its advice to append fields, which our checked nodes refuse."""
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    lines = [line.replace("object_type=", "in ") for line in lines]
    kept = [line for line in lines if line and not line.startswith(("To append", "full_key"))]
    return " ".join(dict.fromkeys(kept))
