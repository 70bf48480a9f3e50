"""Overrides of recipes, ``group=name`` and ``group.field=value``: parsing, validation and error messages.

The grammar is Hydra's. A choice must be registered, or be a file of a folder of one's own on the search
path (``renderer/wide.yaml``); a list of values (``basis=linear,cubic``) is a sweep, which only
``--multirun`` takes.
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

from rdvfi._signature import Parameter, shown
from rdvfi.config.recipe_nodes import GROUPS
from rdvfi.registry import Registry, did_you_mean, normalise

KNOWN = (*GROUPS, "motion_area")
"""What an override may begin with."""

_SEARCH_PATH = "hydra.searchpath"


@dataclass(frozen=True)
class Overrides:
    """Overrides that were checked."""

    texts: tuple[str, ...]
    """Without the search path."""
    folders: tuple[str, ...] = ()
    """Folders of one's own, for Hydra's search path."""

    def beside(self, chosen: Collection[str]) -> "Overrides":
        """The same where a configuration chooses something for these groups: ``coarse=null`` as Hydra spells it."""
        texts = (f"~{text[:-5]}" if text.endswith("=null") and text[:-5] in GROUPS else text for text in self.texts)
        return replace(self, texts=tuple(text for text in texts if text[0] != "~" or text[1:] in chosen))

    @property
    def touched(self) -> dict[str, str]:
        """The first override of each group."""
        found: dict[str, str] = {}
        for text in self.texts:
            found.setdefault(_head(text), text)
        return {group: text for group, text in found.items() if group in GROUPS}

    @property
    def chosen(self) -> set[str]:
        """Groups with another choice, whose parts may take other groups than before."""
        return set(GROUPS) if any(text.partition("=")[0] in GROUPS for text in self.texts) else set()


def is_override(word: str) -> bool:
    """Whether a word of a command line is an override of a model's part, or a setting of Hydra."""
    return "=" in word and (_head(word) in KNOWN or word.lstrip("+").startswith(("hydra.", "hydra/")))


def is_setting(word: str) -> bool:
    """Whether a word is a setting of Hydra itself, such as ``hydra/launcher=joblib``; its search path is none."""
    return re.match(r"\+{0,2}hydra[./]", word) is not None and not word.startswith(f"{_SEARCH_PATH}=")


def read_overrides(
    overrides: Sequence[str], *, sweeps: bool = False, config_dir: str | os.PathLike[str] | None = None
) -> Overrides:
    """Check overrides, before Hydra sees them.

    Args:
        overrides: As the user wrote them.
        sweeps: Whether one may have several values.
        config_dir: A folder of configuration groups of one's own.

    Raises:
        ValueError: If one is none, or chooses what is not there.
    """
    folders = [] if config_dir is None else [own_folder(config_dir)]
    rest: list[str] = []
    for text in overrides:
        own = search_folders(text) if isinstance(text, str) else []
        folders += map(own_folder, own)
        rest += [] if own else [text]
    checked = [_checked(text, sweeps=sweeps, folders=folders) for text in rest]
    return Overrides(tuple(text for text in checked if text is not None), tuple(folders))


def search_folders(text: str) -> list[str]:
    """The folders that ``hydra.searchpath=[FOLDER]`` names; none for another override."""
    key, _, paths = text.partition("=")
    return [path.strip() for path in paths.strip("[] ").split(",") if path.strip()] if key == _SEARCH_PATH else []


def as_text(value: object) -> str:
    """A plain value in Hydra's override grammar, with all characters escaped."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{as_text(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_text, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    # A quote ends the text unless a backslash is before it, and only before a quote is a backslash one.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def refuse_sweep(text: str) -> None:
    """An override has one value; raises ValueError if it has several, or cannot be read."""
    if parsed(text).is_sweep_override():
        raise ValueError(
            f"override {text!r} gives several values, which is a sweep: add --multirun (-m) at the command line, or "
            "give one; a list is written [a,b]"
        )


def parsed(text: str) -> Override:
    """An override as Hydra reads it; raises ValueError if it cannot."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ValueError(f"override {text!r} cannot be read: {one_line(error)}") from error


def own_folder(path: str | os.PathLike[str]) -> str:
    """A folder of one's own for Hydra's search path, as an address; raises ValueError if it does not exist."""
    path = os.fspath(path)
    if path.startswith("pkg://"):
        found = importlib.util.find_spec(path.removeprefix("pkg://"))
        if found is None or not found.submodule_search_locations:
            raise ValueError(f"the package of configurations {path} does not exist")
        return path
    path = path.removeprefix("file://")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"the folder of configurations {path} does not exist")
    return f"file://{folder.resolve()}"


def _head(text: str) -> str:
    return re.split(r"[.=]", text.lstrip("~"), maxsplit=1)[0]


def _checked(text: str, *, sweeps: bool, folders: Sequence[str]) -> str | None:
    """An override whose choices exist, in their canonical spelling; None for the choice of nothing."""
    if isinstance(text, str) and text.startswith("~") and text[1:] in GROUPS:
        text = f"{text[1:]}=null"
    if not isinstance(text, str) or "=" not in text:
        raise ValueError(f"an override reads group=name or group.field=value; got {text!r}")
    key, value = text.split("=", 1)
    head = key.split(".")[0]
    if head not in KNOWN:
        raise ValueError(
            f"override {text!r}: no group {head!r}{did_you_mean(head, KNOWN)} (groups: {', '.join(KNOWN)})"
        )
    swept = parsed(text).is_sweep_override()
    if not sweeps:
        refuse_sweep(text)
    if key not in GROUPS or (swept and "(" in value):
        return text
    return f"{key}={','.join(_name(key, name.strip(), text, folders) for name in value.split(','))}"


def _name(group: str, name: str, text: str, folders: Sequence[str]) -> str:
    own = own_choices(group, folders)
    if name == "null" or name in own or any(not folder.startswith("file://") for folder in folders):
        return name
    registry, key = GROUPS[group], normalise(name)
    if key not in registry:
        known = [*registry, *own]
        raise ValueError(
            f"override {text!r}: no {group} named {name!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
        )
    return key


def own_choices(group: str, folders: Sequence[str]) -> list[str]:
    """Choices for a group in folders of the user."""
    paths = [Path(folder.removeprefix("file://")) / group for folder in folders if folder.startswith("file://")]
    return sorted({file.stem for path in paths for file in path.glob("*.yaml")})


def explained(error: Exception) -> str:
    """An error of Hydra about a field of an entry, in terms of its parameters, types and defaults."""
    text = f"{error} {error.__cause__ or ''}"
    if unknown := re.search(r"Key '([^']+)' not in '(\w+):([\w-]+)'", text):
        field, group, name = unknown.groups()
        return _registry_of(group).unknown(name, field)
    if wrong := re.search(r"full_key: \w+\.(\w+)\s+object_type=(\w+):([\w-]+)", text):
        field, group, name = wrong.groups()
        parameter = _registry_of(group).parameters(name).get(field)
        return one_line(error) + ("" if parameter is None else f"; expected {shown(parameter)}")
    if unset := re.search(r"Could not override '(\w+)\.(\w+)'.*is not in struct", text, re.DOTALL):
        group, field = unset.groups()
        return f"no {group} is chosen, so {group}.{field} sets nothing; choose one too, as {group}=NAME"
    return one_line(error)


def explained_by(error: Exception, classes: Sequence[type], inside: Mapping[str, str]) -> str:
    """The same for fields of dataclasses.

    Args:
        error: Of Hydra or OmegaConf.
        classes: Those whose fields may be meant.
        inside: Where each stands, by its name, as ``engine.``.
    """
    text, known = f"{error} {error.__cause__ or ''}", {each.__name__: each for each in classes}
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text)
    if unknown and unknown[2] in known:
        names, where = [field.name for field in dataclasses.fields(known[unknown[2]])], inside[unknown[2]]
        hint = did_you_mean(unknown[1], names)
        return f"no field {where}{unknown[1]}{hint} (fields: {', '.join(where + name for name in names)})"
    wrong = re.search(r"full_key: ([\w.]+)\s+object_type=(\w+)", text)
    if wrong and wrong[2] in known:
        field = next((f for f in dataclasses.fields(known[wrong[2]]) if f.name == wrong[1].split(".")[-1]), None)
        if field is not None:
            return f"{one_line(error)}; expected {shown(Parameter(wrong[1], field.type, _default_of(field)))}"
    return one_line(error)


def _default_of(field: dataclasses.Field[object]) -> object:
    if field.default is not dataclasses.MISSING:
        return Parameter("", None).default if field.default == "???" else field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _registry_of(group: str) -> Registry[Any]:
    return next(registry for registry in GROUPS.values() if registry.group == group)


def one_line(error: Exception) -> str:
    """Hydra's text without its advice to append fields, which our checked nodes refuse."""
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    lines = [line.replace("object_type=", "in ") for line in lines]
    kept = [line for line in lines if line and not line.startswith(("To append", "full_key"))]
    return " ".join(dict.fromkeys(kept))
