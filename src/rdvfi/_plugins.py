"""Plug-ins: modules that register components, declared by entry points and imported once.

A package declares them in the group ``rdvfi.plugins``. At the first look-up in a registry every
declared module is imported, and registers its components. A plug-in that cannot be imported, for any
reason, is left out: its entries are removed again, a warning names it, and the program continues. A plug-in that
removes or replaces entries of others is left out, too.
"""

import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

PLUGIN_GROUP = "rdvfi.plugins"


@dataclass(frozen=True)
class PluginStatus:
    """The state of a declared plug-in."""

    name: str
    module: str
    package: str
    """The distribution that declares it, with its version."""
    registered: tuple[str, ...]
    """The entries that it added, as ``group name``."""
    failure: str | None = None
    """Why it was left out, in one line."""


@runtime_checkable
class _Registry(Protocol):
    group: str

    def entries(self) -> dict[str, Any]: ...

    def restore(self, entries: Mapping[str, Any]) -> None: ...


_lock = threading.RLock()
_statuses: list[PluginStatus] | None = None


def load_plugins(registries: Sequence[_Registry]) -> list[PluginStatus]:
    """Import every declared plug-in, at the first call, and return their states.

    Warns:
        RuntimeWarning: For each plug-in that is left out.
    """
    global _statuses
    with _lock:
        if _statuses is None:
            _statuses = []  # set first, since a plug-in may look up entries while it loads
            try:
                for entry in entry_points(group=PLUGIN_GROUP):
                    _statuses.append(_load_plugin(entry, registries))
            except BaseException:
                _statuses = None  # load again at the next look-up
                raise
        return _statuses


def _load_plugin(entry: EntryPoint, registries: Sequence[_Registry]) -> PluginStatus:
    before = [registry.entries() for registry in registries]
    failure = None
    try:
        entry.load()
    except KeyboardInterrupt:  # of the user, not of the plug-in
        _restore(registries, before)
        raise
    except BaseException as error:  # also SystemExit: a plug-in must not end the program
        failure = _format_error(error)
    after = [registry.entries() for registry in registries]
    removed = _removed_entries(registries, before, after)
    if failure is None and removed:
        failure = f"it removed or replaced {', '.join(removed)}"
    added = _added_entries(registries, before, after)
    if failure is not None:
        _restore(registries, before)
        added = ()
        warnings.warn(
            f"rdvfi plug-in {entry.name!r} ({entry.value}) could not be loaded and is left out: {failure}",
            RuntimeWarning,
            stacklevel=5,
        )
    package = "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return PluginStatus(entry.name, entry.value, package, added, failure)


def _format_error(error: BaseException) -> str:
    """An error on one line, with its first cause, where that was raised, and the name of a failed import."""
    cause = error
    while (earlier := cause.__cause__ or cause.__context__) is not None:
        cause = earlier
    frames = traceback.extract_tb(cause.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if cause is not error:
        text += f"; because of {type(cause).__name__}: {' '.join(str(cause).split())}"
    name = getattr(cause, "name", None) if isinstance(cause, ImportError) else None
    return f"{text}{where}" + (f"; the failed import is {name!r}" if name else "")


def _restore(registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]]) -> None:
    for registry, entries in zip(registries, before, strict=True):
        registry.restore(entries)


def _removed_entries(
    registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Entries that existed before and are missing or different after."""
    triples = zip(registries, before, after, strict=True)
    return [f"{r.group} {name!r}" for r, old, new in triples for name in sorted(old) if new.get(name) is not old[name]]


def _added_entries(
    registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    triples = zip(registries, before, after, strict=True)
    return tuple(f"{r.group} {name}" for r, old, new in triples for name in sorted(new.keys() - old.keys()))
