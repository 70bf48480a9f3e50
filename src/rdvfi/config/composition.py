"""Models from recipes: Hydra composes and checks, registered names are built.

A recipe chooses an entry for each *group*::

    model = rdvfi.build("rdvfi_s", "basis=linear", "renderer.width=32")

A component that needs another one (a parameter whose type is an interface) receives the one that
the recipe chose: a `FlowEstimator` that of the group ``flow``, a `CoarseFlow` that of ``coarse``, a
`Basis` that of ``basis``. A parameter ``latent_channels`` that a recipe leaves open is that of the
backbone. Hydra never instantiates: what it composed is turned into specifications of
`rdvfi.registry`, so a recipe can call registered factories and nothing else.

A saved model is a recipe too: its own choices and values, which overrides change. In both cases
what is built keeps the weights of another model, where there is one, by the rule of `rdvfi.saved_models.exchange`.
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
from rdvfi.config.overrides import Overrides, explained, one_line, read_overrides
from rdvfi.config.recipe_files import RECIPES, find_recipe, recipe_table
from rdvfi.config.recipe_nodes import CHANNELS, GROUPS, NAME, ROOT, Chosen, follows_backbone, stored_nodes
from rdvfi.interpolator import Interpolator
from rdvfi.registry import backbones, create_from_spec, did_you_mean, renderers, trajectories
from rdvfi.saved_models.checkpoint import Pretrained
from rdvfi.saved_models.exchange import Fit
from rdvfi.saved_models.model_names import find_files

ModelStart = str | os.PathLike[str] | Interpolator
"""A model to take weights from: a name or folder for `rdvfi.create_model`, or a model."""

PRIMARY = "rdvfi_model"
"""The name of Hydra's primary configuration, while `stored_model` holds."""

_log = logging.getLogger(__name__)


def build(
    recipe: str | os.PathLike[str],
    *overrides: str,
    start: ModelStart | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> Interpolator:
    """A model with fresh weights, as a recipe says.

    Args:
        recipe: A recipe of this package (`list_recipes`), or a YAML file of your own.
        *overrides: Hydra overrides: ``"basis=linear"`` chooses, ``"flow.radius=3"`` sets.
        start: A model whose trained weights are taken where they fit (`rdvfi.saved_models.exchange`); what stays
            fresh is named in a warning of the log.
        config_dir: A folder with configuration groups of your own, as ``renderer/wide.yaml``;
            ``"hydra.searchpath=[FOLDER]"`` among the overrides does the same.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid, or nothing reads a value
            that an override sets; nothing was built.
    """
    composed = compose(recipe, *overrides, config_dir=config_dir)
    return _built(composed, f"recipe {os.fspath(recipe)!r}", start)


def build_from(cfg: Mapping[str, Any], *, start: ModelStart | None = None) -> Interpolator:
    """A model of a configuration that your own program has composed, as with ``@hydra.main``.

    Call `rdvfi.config.store_nodes` before, and let the configuration's defaults begin with
    ``interpolator``; or nest that under a key, and pass the part under that key.

    Args:
        cfg: The composed groups: backbone, coarse, flow, basis, trajectory, renderer; and motion_area.
        start: As for `build`.

    Raises:
        ValueError: If it is not a configuration of a model, or what it chooses does not fit.
    """
    try:
        given = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
        values = OmegaConf.to_container(given, resolve=True, enum_to_str=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"the configuration: {one_line(error)}") from error
    known = ("motion_area", *GROUPS)
    assert isinstance(values, dict)
    stray = [str(key) for key in values if key not in known]
    lacking = [key for key in ("motion_area", "backbone", "trajectory", "renderer") if key not in values]
    if stray or lacking:
        wrong = f"has {', '.join(stray)}" if stray else f"lacks {', '.join(lacking)}"
        hint = did_you_mean(stray[0], known) if stray else ""
        raise ValueError(f"the configuration of a model {wrong}{hint}; expected {', '.join(known)}")
    filled = dict.fromkeys(GROUPS) | {str(key): value for key, value in values.items()}
    return _built(filled, "the configuration", start)


def exchanged(
    model: Interpolator, *overrides: str, config_dir: str | os.PathLike[str] | None = None, name: str = "the model"
) -> Interpolator:
    """A model with components exchanged by overrides; weights that fit are kept.

    Args:
        model: Stays as it is.
        *overrides: As for `build`.
        name: What it is called in messages.

    Raises:
        ValueError: If an override is not valid, or the parts do not fit together.
        TypeError: If a component of the model was built by hand.
    """
    with stored_model(model, overrides, config_dir=config_dir) as (folder, given):
        composed = _composed(folder, PRIMARY, given, f"model {name!r}")
    return _built(composed, f"model {name!r}", model).eval().requires_grad_(False)


def compose(
    recipe: str | os.PathLike[str], *overrides: str, config_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The values that a recipe and overrides come to, checked, as plain nested dictionaries.

    Raises:
        ValueError: If the recipe, a choice, a field or a value is not valid.
    """
    with stored_recipe(recipe, overrides, config_dir=config_dir) as (folder, given):
        return _composed(folder, PRIMARY, given, f"recipe {os.fspath(recipe)!r}")


@contextmanager
def stored_recipe(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str],
    *,
    config_dir: str | os.PathLike[str] | None = None,
    sweeps: bool = False,
) -> Iterator[tuple[Path, Overrides]]:
    """A recipe as Hydra's primary configuration, so that a choice may be changed together with its values.

    Yields:
        The folder of the recipe, and the overrides, checked.
    """
    path, where = find_recipe(recipe), f"recipe {os.fspath(recipe)!r}"
    table = recipe_table(path)
    given = read_overrides(overrides, sweeps=sweeps, config_dir=config_dir)
    alone = Overrides((), given.folders)
    with stored_nodes():
        values = _composed(path.parent, path.stem, alone, where, final=False)
    chosen = {group: _choice(group, entry) for group, entry in values.items() if _is_chosen(entry)}
    loose = {key: value for key, value in values.items() if key not in chosen and value is not None}
    used = _used_groups(values) | given.chosen
    for group in table:
        if group in GROUPS and group not in used and isinstance(table[group], dict):
            raise ValueError(f"{where}: {_unused(group, values)}")
    with _stored(chosen, loose):
        yield path.parent, given.beside(chosen)


@contextmanager
def stored_model(
    model: Interpolator,
    overrides: Sequence[str],
    *,
    config_dir: str | os.PathLike[str] | None = None,
    sweeps: bool = False,
) -> Iterator[tuple[Path, Overrides]]:
    """The same with a model's own choices and values."""
    saved, given = model.pretrained(), read_overrides(overrides, sweeps=sweeps, config_dir=config_dir)
    chosen = _choices(saved, model.generator.latent_channels)
    with _stored(chosen, {"motion_area": saved.motion_area}):
        yield RECIPES, given.beside(chosen)


@contextmanager
def _stored(chosen: Chosen, values: Mapping[str, Any]) -> Iterator[None]:
    with stored_nodes(chosen):
        groups = [{group: chosen[group][0] if group in chosen else None} for group in GROUPS]
        primary = {"defaults": [ROOT, *groups, "_self_"], **values}
        ConfigStore.instance().store(name=PRIMARY, node=primary, provider="rdvfi")
        yield


def _choice(group: str, entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return entry[NAME], {key: value for key, value in entry.items() if key != NAME}


def _choices(saved: Pretrained, channels: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The choices of a saved model for each group, and its values; ``latent_channels`` follow the backbone."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}

    def add(group: str, spec: Mapping[str, Any]) -> None:
        name, values = spec["name"], {}
        registry = GROUPS[group]
        parameters = registry.parameters(name)
        for key, value in spec["config"].items():
            if parameters[key].component is not None:
                if value is not None:
                    add(_slot(group, name, parameters[key]), value)
            elif not (follows_backbone(registry, parameters[key]) and value == channels):
                values[key] = value
        if found.setdefault(group, (name, values)) != (name, values):
            raise ValueError(f"this model has two different parts of the group {group}; exchange parts of it in Python")

    for group in ("backbone", "trajectory", "renderer"):
        add(group, getattr(saved, group))
    return found


def _composed(folder: Path, name: str, given: Overrides, where: str, *, final: bool = True) -> dict[str, Any]:
    """The configuration that Hydra composes with these overrides.

    Args:
        folder: First on the search path.
        name: Of the configuration.
        given: Overrides.
        where: Named in errors.
        final: Whether nothing may be missing, and every override must be read by something.
    """
    try:
        with another_hydra(), hydra.initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            composed = hydra.compose(name, [*given.texts, search_path(given.folders)])
        values = OmegaConf.to_container(composed, resolve=final, enum_to_str=True, throw_on_missing=final)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{where}: {explained(error)}") from error
    if not isinstance(values, dict) or not values.keys() >= {"motion_area", *GROUPS}:
        raise ValueError(f"{where} must have {ROOT!r} first in its defaults")
    table = {str(key): value for key, value in values.items()}
    if final:
        used = _used_groups(table)
        for group, text in given.touched.items():
            if group not in used and _is_chosen(table[group]):
                raise ValueError(f"{where}: override {text!r}: {_unused(group, table)}")
    return table


@contextmanager
def another_hydra() -> Iterator[None]:
    """Inside a job of Hydra, as in a program with ``@hydra.main``, its own state stays as it is."""
    state = GlobalHydra.instance()
    before, state.hydra = state.hydra, None
    try:
        yield
    finally:
        state.hydra = before


def search_path(folders: Sequence[str], *, recipes: bool = True) -> str:
    """Hydra's override for folders of one's own, and for the recipes of models (whose folder ``train`` is no group)."""
    return f"hydra.searchpath=[{','.join((*folders, f'file://{RECIPES}') if recipes else folders)}]"


def _used_groups(composed: Mapping[str, Any]) -> set[str]:
    """The groups whose choice some part of the model takes."""
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


def _unused(group: str, composed: Mapping[str, Any]) -> str:
    parts = (f"{part} {composed[part][NAME]!r}" for part in ("backbone", "trajectory") if _is_chosen(composed[part]))
    return f"nothing reads the group {group}: neither {' nor '.join(parts)} takes one"


def _built(composed: Mapping[str, Any], where: str, start: ModelStart | None) -> Interpolator:
    """The model of a composition, with the weights of another where they fit."""
    backbone, trajectory, renderer = (_spec(composed, part) for part in ("backbone", "trajectory", "renderer"))
    source = start if start is None or isinstance(start, Interpolator) else Interpolator.from_files(find_files(start))
    state = torch.get_rng_state() if source is not None else None
    try:
        generator = create_from_spec(backbones, _with_channels(backbone, None))
        channels = generator.latent_channels
        model = Interpolator(
            generator,
            create_from_spec(trajectories, _with_channels(trajectory, channels)),
            create_from_spec(renderers, _with_channels(renderer, channels)),
            motion_area=composed["motion_area"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} makes no model: {error}") from error
    finally:
        if state is not None:
            torch.set_rng_state(state)
    if source is not None:
        _tell(where, model.take_weights(source))
    return model


def _tell(where: str, fits: Mapping[str, Fit]) -> None:
    """Warn of components with fresh, untrained weights."""
    fresh = [place for fit in fits.values() for place in fit.fresh]
    if fresh:
        _log.warning("%s: no trained weights fit %s: untrained", where, ", ".join(fresh))


def _with_channels(spec: Any, channels: int | None) -> Any:
    """A specification in which the channels that were left open are the backbone's.

    Inside the backbone itself (``channels`` is None) they are the factory's own default.
    """
    if not isinstance(spec, dict):
        return spec
    opened = {key for key, value in spec.items() if key == CHANNELS and value is None}
    filled = {key: _with_channels(value, channels) for key, value in spec.items()}
    if channels is not None:
        return filled | dict.fromkeys(opened, channels)
    return {key: value for key, value in filled.items() if key not in opened}


def _spec(composed: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The specification of the entry chosen for ``group``, with those that fill its slots."""
    chosen = composed[group]
    if not _is_chosen(chosen):
        raise ValueError(
            f"the recipe chooses no {group}: add `{group}: NAME` to its defaults, or {group}=NAME to the overrides"
        )
    config = {key: value for key, value in chosen.items() if key != NAME}
    name = chosen[NAME]
    for parameter in GROUPS[group].parameters(name).values():
        if parameter.component is None:
            continue
        slot = _slot(group, name, parameter)
        if parameter.required or _is_chosen(composed[slot]):
            config[parameter.name] = _spec(composed, slot)
    return {"name": name, "config": config}


def _is_chosen(values: Any) -> bool:
    """A group without a choice may still hold values that the recipe set for one."""
    return isinstance(values, dict) and NAME in values


def _slot(group: str, name: str, parameter: Parameter) -> str:
    """The group that fills a parameter whose type is an interface."""
    if parameter.slot in GROUPS:
        return str(parameter.slot)
    interface = parameter.component
    raise ValueError(
        f"{group} {name!r} takes a {interface.__name__ if interface else '?'} as "
        f"{parameter.name!r}, which no group of a recipe gives; build it in Python"
    )
