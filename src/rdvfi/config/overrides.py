"""Overrides of recipes, ``group=name`` and ``group.field=value``: parsing, validation and error messages.

The grammar is Hydra's. A choice must be registered, or be a file in a folder of the user on the search path
(``renderer/wide.yaml``). A list of values (``basis=linear,cubic``) is a sweep, which only ``--multirun`` accepts.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from rdvfi._signature import Parameter, format_parameter
from rdvfi.config.recipe_nodes import GROUPS
from rdvfi.registry import Registry, did_you_mean, normalise

OVERRIDE_KEYS = (*GROUPS, "motion_area")
"""First words of valid overrides."""

_SEARCH_PATH = "hydra.searchpath"


@dataclass(frozen=True)
class Overrides:
    """Checked overrides."""

    texts: tuple[str, ...]
    """The overrides, without those of the search path."""
    folders: tuple[str, ...] = ()
    """Folders of the user for Hydra's search path, as addresses."""

    def for_choices(self, groups: Collection[str]) -> "Overrides":
        """The overrides of a configuration that has choices for these groups; ``coarse=null`` becomes ``~coarse``."""
        texts = (f"~{text[:-5]}" if text.endswith("=null") and text[:-5] in GROUPS else text for text in self.texts)
        return replace(self, texts=tuple(text for text in texts if text[0] != "~" or text[1:] in groups))

    @property
    def first_by_group(self) -> dict[str, str]:
        """The first override of each group."""
        first: dict[str, str] = {}
        for text in self.texts:
            first.setdefault(_group_of(text), text)
        return {group: text for group, text in first.items() if group in GROUPS}

    @property
    def chosen(self) -> set[str]:
        """All groups if an override changes a choice, since other parts may use other groups; else none."""
        return set(GROUPS) if any(text.partition("=")[0] in GROUPS for text in self.texts) else set()


def is_override(word: str) -> bool:
    """Whether a word of a command line is an override of a part of a model, or a setting of Hydra."""
    return "=" in word and (_group_of(word) in OVERRIDE_KEYS or word.lstrip("+").startswith(("hydra.", "hydra/")))


def is_hydra_setting(word: str) -> bool:
    """Whether a word is a setting of Hydra itself, such as ``hydra/launcher=joblib``, other than its search path."""
    return re.match(r"\+{0,2}hydra[./]", word) is not None and not word.startswith(f"{_SEARCH_PATH}=")


def read_overrides(
    overrides: Sequence[str], *, sweeps: bool = False, config_dir: str | os.PathLike[str] | None = None
) -> Overrides:
    """Parse and check overrides; with ``sweeps`` they may have several values.

    Raises:
        ValueError: If an override is not valid, or chooses an unknown entry.
    """
    folders = [] if config_dir is None else [resolve_config_folder(config_dir)]
    texts: list[str] = []
    for text in overrides:
        search_paths = search_folders(text) if isinstance(text, str) else []
        folders += map(resolve_config_folder, search_paths)
        texts += [] if search_paths else [text]
    checked = [_check_override(text, sweeps=sweeps, folders=folders) for text in texts]
    return Overrides(tuple(checked), tuple(folders))


def search_folders(text: str) -> list[str]:
    """The folders of ``hydra.searchpath=[FOLDER]``; none for other overrides."""
    key, _, paths = text.partition("=")
    return [path.strip() for path in paths.strip("[] ").split(",") if path.strip()] if key == _SEARCH_PATH else []


def format_value(value: object) -> str:
    """A plain value in Hydra's override grammar, with all characters escaped."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{format_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(format_value, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    # In a quoted text a backslash escapes only before a quote, so only those backslashes are doubled.
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value)
    return f"'{escaped}'"


def check_single_value(text: str) -> None:
    """Raise ValueError if an override has several values, or cannot be parsed."""
    if parse_override(text).is_sweep_override():
        raise ValueError(
            f"override {text!r} gives several values, which is a sweep: add --multirun (-m) at the command line, or "
            "give one; a list is written [a,b]"
        )


def parse_override(text: str) -> Override:
    """An override, parsed by Hydra's grammar; raises ValueError if it is not valid."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ValueError(f"override {text!r} cannot be read: {one_line(error)}") from error


def resolve_config_folder(path: str | os.PathLike[str]) -> str:
    """The address of a folder of the user for Hydra's search path; raises ValueError if it does not exist."""
    path = os.fspath(path)
    if path.startswith("pkg://"):
        spec = importlib.util.find_spec(path.removeprefix("pkg://"))
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"the package of configurations {path} does not exist")
        return path
    path = path.removeprefix("file://")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"the folder of configurations {path} does not exist")
    return f"file://{folder.resolve()}"


def _group_of(text: str) -> str:
    return re.split(r"[.=]", text.lstrip("~"), maxsplit=1)[0]


def _check_override(text: str, *, sweeps: bool, folders: Sequence[str]) -> str:
    """An override with the registered spelling of its choice; raises ValueError if it is not valid."""
    if isinstance(text, str) and text.startswith("~") and text[1:] in GROUPS:
        text = f"{text[1:]}=null"
    if not isinstance(text, str) or "=" not in text:
        raise ValueError(f"an override reads group=name or group.field=value; got {text!r}")
    key, value = text.split("=", 1)
    head = key.split(".")[0]
    if head not in OVERRIDE_KEYS:
        hint = did_you_mean(head, OVERRIDE_KEYS)
        raise ValueError(f"override {text!r}: no group {head!r}{hint} (groups: {', '.join(OVERRIDE_KEYS)})")
    is_sweep = parse_override(text).is_sweep_override()
    if not sweeps:
        check_single_value(text)
    if key not in GROUPS or (is_sweep and "(" in value):
        return text
    return f"{key}={','.join(_check_choice(key, name.strip(), text, folders) for name in value.split(','))}"


def _check_choice(group: str, name: str, text: str, folders: Sequence[str]) -> str:
    own = user_choices(group, folders)
    if name == "null" or name in own or any(not folder.startswith("file://") for folder in folders):
        return name
    registry, key = GROUPS[group], normalise(name)
    if key not in registry:
        known = [*registry, *own]
        raise ValueError(
            f"override {text!r}: no {group} named {name!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
        )
    return key


def user_choices(group: str, folders: Sequence[str]) -> list[str]:
    """Names of the choices for a group in folders of the user."""
    paths = [Path(folder.removeprefix("file://")) / group for folder in folders if folder.startswith("file://")]
    return sorted({file.stem for path in paths for file in path.glob("*.yaml")})


def explain_error(error: Exception) -> str:
    """The message for an error of Hydra about a field of an entry: names the parameters, types and defaults."""
    text = f"{error} {error.__cause__ or ''}"
    if unknown := re.search(r"Key '([^']+)' not in '(\w+):([\w-]+)'", text):
        field, group, name = unknown.groups()
        return _registry_of(group).unknown_parameter_message(name, field)
    if wrong := re.search(r"full_key: \w+\.(\w+)\s+object_type=(\w+):([\w-]+)", text):
        field, group, name = wrong.groups()
        parameter = _registry_of(group).parameters(name).get(field)
        return one_line(error) + ("" if parameter is None else f"; expected {format_parameter(parameter)}")
    if unset := re.search(r"Could not override '(\w+)\.(\w+)'.*is not in struct", text, re.DOTALL):
        group, field = unset.groups()
        return f"no {group} is chosen, so {group}.{field} sets nothing; choose one too, as {group}=NAME"
    return one_line(error)


def explain_dataclass_error(error: Exception, classes: Sequence[type], inside: Mapping[str, str]) -> str:
    """The message for an error of Hydra about a field of a dataclass: names the fields, types and defaults.

    Args:
        error: An error of Hydra or OmegaConf.
        classes: Dataclasses of the configuration.
        inside: The prefix of the fields of each class, by its name, such as ``engine.``.
    """
    text, known = f"{error} {error.__cause__ or ''}", {cls.__name__: cls for cls in classes}
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text)
    if unknown and unknown[2] in known:
        names, prefix = [field.name for field in dataclasses.fields(known[unknown[2]])], inside[unknown[2]]
        hint = did_you_mean(unknown[1], names)
        return f"no field {prefix}{unknown[1]}{hint} (fields: {', '.join(prefix + name for name in names)})"
    wrong = re.search(r"full_key: ([\w.]+)\s+object_type=(\w+)", text)
    if wrong and wrong[2] in known:
        field = next((f for f in dataclasses.fields(known[wrong[2]]) if f.name == wrong[1].split(".")[-1]), None)
        if field is not None:
            return (
                f"{one_line(error)}; expected {format_parameter(Parameter(wrong[1], field.type, _default_of(field)))}"
            )
    return one_line(error)


def _default_of(field: dataclasses.Field[object]) -> object:
    if field.default is not dataclasses.MISSING:
        return Parameter("", None).default if field.default == "???" else field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _registry_of(group: str) -> Registry[Any]:
    return next(registry for registry in GROUPS.values() if registry.group == group)


def one_line(error: Exception) -> str:
    """The message of an error of Hydra on one line, without its advice to append fields, which checked nodes refuse."""
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip().replace("object_type=", "in ") for text in texts for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("To append", "full_key"))]
    return " ".join(dict.fromkeys(lines))
