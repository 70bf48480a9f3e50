"""Plug-ins: modules that register components, announced by entry points and imported once.

A package announces one in the group ``rdvfi.plugins``. At the first look-up in a registry every
announced module is imported; importing it registers. A plug-in that cannot be imported, for whatever
reason, is left out: what it had registered by then goes again, a warning names it, and the host goes
on. So is a plug-in that removes or replaces entries which are not its own.
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
    """A plug-in that was announced."""

    name: str
    module: str
    package: str
    """The distribution that announces it, with its version."""
    registered: tuple[str, ...]
    """What it added, as ``group name``."""
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
    """Import every announced plug-in, at the first call, and return their states.

    Warns:
        RuntimeWarning: For each that is left out.
    """
    global _statuses
    with _lock:
        if _statuses is None:
            _statuses = []  # first, since a plug-in may look something up while it loads
            try:
                for entry in entry_points(group=PLUGIN_GROUP):
                    _statuses.append(_load(entry, registries))
            except BaseException:
                _statuses = None  # the rest loads at the next look-up
                raise
        return _statuses


def _load(entry: EntryPoint, registries: Sequence[_Registry]) -> PluginStatus:
    before = [registry.entries() for registry in registries]
    failure = None
    try:
        entry.load()
    except KeyboardInterrupt:  # the user's, not the plug-in's; but half of it is no use
        _restore(registries, before)
        raise
    except BaseException as error:  # sys.exit too: a plug-in does not end its host
        failure = _told(error)
    after = [registry.entries() for registry in registries]
    harmed = _lost(registries, before, after)
    if failure is None and harmed:
        failure = f"it removed or replaced {', '.join(harmed)}"
    added = _added(registries, before, after)
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


def _told(error: BaseException) -> str:
    """An error in one line: where it was raised, and at the end the import that failed first, if one did."""
    last = error
    while (earlier := last.__cause__ or last.__context__) is not None:
        last = earlier
    place = traceback.extract_tb(last.__traceback__)
    where = f" ({place[-1].filename}, line {place[-1].lineno})" if place else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if last is not error:
        text += f"; because of {type(last).__name__}: {' '.join(str(last).split())}"
    name = getattr(last, "name", None) if isinstance(last, ImportError) else None
    return f"{text}{where}" + (f"; the failed import is {name!r}" if name else "")


def _restore(registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]]) -> None:
    for registry, entries in zip(registries, before, strict=True):
        registry.restore(entries)


def _lost(
    registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Entries that were there before and are not the same after."""
    triples = zip(registries, before, after, strict=True)
    return [f"{r.group} {name!r}" for r, old, new in triples for name in sorted(old) if new.get(name) is not old[name]]


def _added(
    registries: Sequence[_Registry], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    triples = zip(registries, before, after, strict=True)
    return tuple(f"{r.group} {name}" for r, old, new in triples for name in sorted(new.keys() - old.keys()))
