"""Models from recipes: Hydra composes and checks, registered names are built.

A recipe chooses a registered entry for each *group*::

    model = rdvfi.build("rdvfi_s", "basis=linear", "renderer.width=32")

A component that needs another one (a parameter whose type is an interface) receives the entry that
the recipe chose: a `FlowEstimator` that of the group ``flow``, a `CoarseFlow` that of ``coarse``, a
`Basis` that of ``basis``. A parameter ``latent_channels`` without a value gets the number of channels of the
backbone. Hydra does not instantiate anything: its composed values are turned into specifications of
`rdvfi.registry`, so a recipe can call registered factories only.

A saved model can be used like a recipe: its own choices and values, which overrides change. In both cases
weights of another model are kept where they fit (`rdvfi.saved_models.exchange`).
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rdvfi._signature import Parameter
from rdvfi.config.overrides import Overrides, explain_error, one_line, read_overrides
from rdvfi.config.recipe_files import RECIPES, find_recipe, recipe_table
from rdvfi.config.recipe_nodes import CHANNELS, GROUPS, NAME, ROOT, Choices, follows_backbone, nodes_in_store
from rdvfi.interpolator import Interpolator
from rdvfi.registry import backbones, create_from_spec, did_you_mean, renderers, trajectories
from rdvfi.saved_models.checkpoint import Pretrained
from rdvfi.saved_models.exchange import Fit
from rdvfi.saved_models.model_names import find_files

ModelStart = str | os.PathLike[str] | Interpolator
"""A model to take weights from: a name or folder for `rdvfi.create_model`, or a model."""

PRIMARY = "rdvfi_model"
"""Name of Hydra's primary configuration within `recipe_in_store` and `model_in_store`."""

_log = logging.getLogger(__name__)


def build(
    recipe: str | os.PathLike[str],
    *overrides: str,
    start: ModelStart | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> Interpolator:
    """A model with fresh weights, built by a recipe.

    Args:
        recipe: A recipe of this package (`list_recipes`), or a YAML file of your own.
        *overrides: Hydra overrides: ``"basis=linear"`` chooses, ``"flow.radius=3"`` sets.
        start: A model whose trained weights are copied where they fit (`rdvfi.saved_models.exchange`); a logged
            warning names the other components.
        config_dir: A folder with your own configuration groups, such as ``renderer/wide.yaml``;
            ``"hydra.searchpath=[FOLDER]"`` among the overrides does the same.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid, or no component reads a value
            that an override sets.
    """
    values = compose(recipe, *overrides, config_dir=config_dir)
    return _build_model(values, f"recipe {os.fspath(recipe)!r}", start)


def build_from(cfg: Mapping[str, Any], *, start: ModelStart | None = None) -> Interpolator:
    """A model of a configuration that your own program has composed, for example with ``@hydra.main``.

    Call `rdvfi.config.store_nodes` before, and let the defaults of the configuration begin with
    ``interpolator``; or nest it under a key, and pass the part under that key.

    Args:
        cfg: The composed groups: backbone, coarse, flow, basis, trajectory, renderer; and motion_area.
        start: As for `build`.

    Raises:
        ValueError: If it is not the configuration of a model, or its choices do not fit together.
    """
    try:
        config = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
        values = OmegaConf.to_container(config, resolve=True, enum_to_str=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"the configuration: {one_line(error)}") from error
    known = ("motion_area", *GROUPS)
    assert isinstance(values, dict)
    unknown = [str(key) for key in values if key not in known]
    missing = [key for key in ("motion_area", "backbone", "trajectory", "renderer") if key not in values]
    if unknown or missing:
        wrong = f"has {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        hint = did_you_mean(unknown[0], known) if unknown else ""
        raise ValueError(f"the configuration of a model {wrong}{hint}; expected {', '.join(known)}")
    all_groups = dict.fromkeys(GROUPS) | {str(key): value for key, value in values.items()}
    return _build_model(all_groups, "the configuration", start)


def exchange_parts(
    model: Interpolator, *overrides: str, config_dir: str | os.PathLike[str] | None = None, name: str = "the model"
) -> Interpolator:
    """A model with components exchanged by overrides; weights that fit are kept.

    Args:
        model: The model, which is not changed.
        *overrides: As for `build`, as is ``config_dir``.
        name: Name of the model in messages.

    Raises:
        ValueError: If an override is not valid, or the parts do not fit together.
        TypeError: If a component of the model was not built by a registry.
    """
    with model_in_store(model, overrides, config_dir=config_dir) as (folder, checked):
        values = _compose_values(folder, PRIMARY, checked, f"model {name!r}")
    return _build_model(values, f"model {name!r}", model).eval().requires_grad_(False)


def compose(
    recipe: str | os.PathLike[str], *overrides: str, config_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The values of a recipe with overrides, checked, as plain nested dictionaries.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid.
    """
    with recipe_in_store(recipe, overrides, config_dir=config_dir) as (folder, checked):
        return _compose_values(folder, PRIMARY, checked, f"recipe {os.fspath(recipe)!r}")


@contextmanager
def recipe_in_store(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str],
    *,
    config_dir: str | os.PathLike[str] | None = None,
    sweeps: bool = False,
) -> Iterator[tuple[Path, Overrides]]:
    """Store a recipe as Hydra's primary configuration, so that overrides may change a choice and its values together.

    Yields:
        The folder of the recipe, and the checked overrides; with ``sweeps`` they may have several values.
    """
    path, where = find_recipe(recipe), f"recipe {os.fspath(recipe)!r}"
    table = recipe_table(path)
    checked = read_overrides(overrides, sweeps=sweeps, config_dir=config_dir)
    with nodes_in_store():
        values = _compose_values(path.parent, path.stem, Overrides((), checked.folders), where, final=False)
    choices = {group: _split_entry(entry) for group, entry in values.items() if _is_chosen(entry)}
    other_values = {key: value for key, value in values.items() if key not in choices and value is not None}
    used = _used_groups(values) | checked.chosen
    for group in table:
        if group in GROUPS and group not in used and isinstance(table[group], dict):
            raise ValueError(f"{where}: {_unused_group_message(group, values)}")
    with _primary_in_store(choices, other_values):
        yield path.parent, checked.for_choices(choices)


@contextmanager
def model_in_store(
    model: Interpolator,
    overrides: Sequence[str],
    *,
    config_dir: str | os.PathLike[str] | None = None,
    sweeps: bool = False,
) -> Iterator[tuple[Path, Overrides]]:
    """Store the choices and values of a model as Hydra's primary configuration; see `recipe_in_store`."""
    saved, checked = model.pretrained(), read_overrides(overrides, sweeps=sweeps, config_dir=config_dir)
    choices = _choices_of_model(saved, model.generator.latent_channels)
    with _primary_in_store(choices, {"motion_area": saved.motion_area}):
        yield RECIPES, checked.for_choices(choices)


@contextmanager
def _primary_in_store(choices: Choices, values: Mapping[str, Any]) -> Iterator[None]:
    with nodes_in_store(choices):
        groups = [{group: choices[group][0] if group in choices else None} for group in GROUPS]
        primary = {"defaults": [ROOT, *groups, "_self_"], **values}
        ConfigStore.instance().store(name=PRIMARY, node=primary, provider="rdvfi")
        yield


def _split_entry(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return entry[NAME], {key: value for key, value in entry.items() if key != NAME}


def _choices_of_model(saved: Pretrained, channels: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The choice of a saved model for each group, with its values; ``latent_channels`` follow the backbone."""
    choices: dict[str, tuple[str, dict[str, Any]]] = {}

    def add(group: str, spec: Mapping[str, Any]) -> None:
        name, values = spec["name"], {}
        registry = GROUPS[group]
        parameters = registry.parameters(name)
        for key, value in spec["config"].items():
            if parameters[key].component is not None:
                if value is not None:
                    add(_slot_group(group, name, parameters[key]), value)
            elif not (follows_backbone(registry, parameters[key]) and value == channels):
                values[key] = value
        if choices.setdefault(group, (name, values)) != (name, values):
            raise ValueError(f"this model has two different parts of the group {group}; exchange parts of it in Python")

    for group in ("backbone", "trajectory", "renderer"):
        add(group, getattr(saved, group))
    return choices


def _compose_values(folder: Path, name: str, overrides: Overrides, where: str, *, final: bool = True) -> dict[str, Any]:
    """The configuration that Hydra composes; if it is ``final``, it is complete and every override is used."""
    try:
        with isolated_hydra(), hydra.initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            composed = hydra.compose(name, [*overrides.texts, search_path(overrides.folders)])
        values = OmegaConf.to_container(composed, resolve=final, enum_to_str=True, throw_on_missing=final)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{where}: {explain_error(error)}") from error
    if not isinstance(values, dict) or not values.keys() >= {"motion_area", *GROUPS}:
        raise ValueError(f"{where} must have {ROOT!r} first in its defaults")
    table = {str(key): value for key, value in values.items()}
    if final:
        used = _used_groups(table)
        for group, text in overrides.first_by_group.items():
            if group not in used and _is_chosen(table[group]):
                raise ValueError(f"{where}: override {text!r}: {_unused_group_message(group, table)}")
    return table


@contextmanager
def isolated_hydra() -> Iterator[None]:
    """Use Hydra without changing its global state, since this may run inside a program with ``@hydra.main``."""
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        yield
    finally:
        state.hydra = outer


def search_path(folders: Sequence[str], *, recipes: bool = True) -> str:
    """Hydra's override for folders of the user, and for the recipes of models (whose folder ``train`` is no group)."""
    return f"hydra.searchpath=[{','.join((*folders, f'file://{RECIPES}') if recipes else folders)}]"


def _used_groups(composed: Mapping[str, Any]) -> set[str]:
    """The groups whose choice is used by a part of the model."""
    used: set[str] = set()

    def follow(group: str) -> None:
        used.add(group)
        entry = composed[group]
        if not _is_chosen(entry) or entry[NAME] not in GROUPS[group]:
            return
        for parameter in GROUPS[group].parameters(entry[NAME]).values():
            if parameter.component is not None and parameter.slot in GROUPS:
                follow(str(parameter.slot))

    for group in ("backbone", "trajectory", "renderer"):
        follow(group)
    return used


def _unused_group_message(group: str, composed: Mapping[str, Any]) -> str:
    parts = (f"{part} {composed[part][NAME]!r}" for part in ("backbone", "trajectory") if _is_chosen(composed[part]))
    return f"nothing reads the group {group}: neither {' nor '.join(parts)} takes one"


def _build_model(composed: Mapping[str, Any], where: str, start: ModelStart | None) -> Interpolator:
    backbone, trajectory, renderer = (_specification(composed, part) for part in ("backbone", "trajectory", "renderer"))
    source = start if start is None or isinstance(start, Interpolator) else Interpolator.from_files(find_files(start))
    state = torch.get_rng_state() if source is not None else None
    try:
        generator = create_from_spec(backbones, _fill_channels(backbone, None))
        channels = generator.latent_channels
        model = Interpolator(
            generator,
            create_from_spec(trajectories, _fill_channels(trajectory, channels)),
            create_from_spec(renderers, _fill_channels(renderer, channels)),
            motion_area=composed["motion_area"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} makes no model: {error}") from error
    finally:
        if state is not None:
            torch.set_rng_state(state)
    if source is not None:
        _warn_of_untrained(where, model.take_weights(source))
    return model


def _warn_of_untrained(where: str, fits: Mapping[str, Fit]) -> None:
    fresh = [place for fit in fits.values() for place in fit.fresh]
    if fresh:
        _log.warning("%s: no trained weights fit %s: untrained", where, ", ".join(fresh))


def _fill_channels(spec: Any, channels: int | None) -> Any:
    """A specification in which a number of latent channels that is None is replaced by that of the backbone.

    Inside the backbone itself (``channels`` is None) the key is removed, so that the factory uses its default.
    """
    if not isinstance(spec, dict):
        return spec
    unset = {key for key, value in spec.items() if key == CHANNELS and value is None}
    filled = {key: _fill_channels(value, channels) for key, value in spec.items()}
    if channels is not None:
        return filled | dict.fromkeys(unset, channels)
    return {key: value for key, value in filled.items() if key not in unset}


def _specification(composed: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The specification of the entry chosen for a group, including the entries in its slots."""
    entry = composed[group]
    if not _is_chosen(entry):
        raise ValueError(
            f"the recipe chooses no {group}: add `{group}: NAME` to its defaults, or {group}=NAME to the overrides"
        )
    name, config = _split_entry(entry)
    for parameter in GROUPS[group].parameters(name).values():
        if parameter.component is None:
            continue
        slot = _slot_group(group, name, parameter)
        if parameter.required or _is_chosen(composed[slot]):
            config[parameter.name] = _specification(composed, slot)
    return {"name": name, "config": config}


def _is_chosen(values: Any) -> bool:
    """Whether the values of a group include a choice; a recipe may set values without one."""
    return isinstance(values, dict) and NAME in values


def _slot_group(group: str, name: str, parameter: Parameter) -> str:
    """The group whose choice fills a parameter whose type is an interface."""
    if parameter.slot in GROUPS:
        return str(parameter.slot)
    interface = parameter.component
    raise ValueError(
        f"{group} {name!r} takes a {interface.__name__ if interface else '?'} as "
        f"{parameter.name!r}, which is no group of a recipe; build it in Python"
    )
