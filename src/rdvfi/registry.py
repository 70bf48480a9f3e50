"""Registries: a name refers to a factory, and the signature of the factory is its configuration.

There are five: `backbones`, `flows`, `bases`, `trajectories` and `renderers`, one for each
interface. A plug-in only has to register::

    @rdvfi.backbones.register("mine")
    def mine(*, width: int = 64, coarse: CoarseFlow) -> KeyframeGenerator:
        return MyGenerator(width, coarse)

An object made by `Registry.create` stores its *specification*: the registered name and plain values, and the
specifications of the components in its slots. `spec_of` returns it and `create_from_spec` builds the same object
again. Models are saved this way, so a saved model contains names of registered factories and never a path to code.

A package declares plug-ins by entry points in the group ``rdvfi.plugins`` whose value is a
module. The module is imported at the first look-up, and registers its components then.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from torch import nn

from rdvfi._memory import is_out_of_memory
from rdvfi._plugins import load_plugins
from rdvfi._signature import Parameter, convert, parameters_of, qualified_name
from rdvfi.about import About
from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Renderer, TrajectoryModel

T = TypeVar("T", bound=nn.Module)
Factory = TypeVar("Factory", bound=Callable[..., Any])

_SPEC = "_rdvfi_spec"


class UnwrappedError(Exception):
    """Base class of exceptions that a factory may raise and that `Registry.create` passes on unchanged."""


class UnknownNameError(KeyError):
    """An unregistered name. Its message is shown without the quotes of a plain KeyError."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Replaced:
    """The replacement of a renamed parameter: its present name, and present values for former ones.

    Values that are not listed are unchanged.
    """

    name: str
    values: tuple[tuple[Any, Any], ...] = ()

    def value(self, former: Any) -> Any:
        """The present value of a former one."""
        return next((new for old, new in self.values if type(old) is type(former) and old == former), former)


@dataclass(frozen=True)
class _Entry:
    """A registered factory, its parameters and its description."""

    factory: Callable[..., Any]
    parameters: dict[str, Parameter]
    about: About
    renamed: dict[str, Replaced]


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """Named factories of one interface. ``my_name`` and ``my-name`` are the same name.

    Args:
        interface: The class of the components that the factories make.
        group: The kind of an entry, in messages and in recipes.
    """

    def __init__(self, interface: type[T], group: str) -> None:
        self.interface = interface
        self.group = group
        self._entries: dict[str, _Entry] = {}

    def register(
        self, name: str, *, about: About | None = None, renamed: Mapping[str, "str | Replaced"] | None = None
    ) -> Callable[[Factory], Factory]:
        """Decorator: register a class or factory function under ``name``.

        Args:
            name: The name of the entry, in the registry, in recipes and in saved models.
            about: Licences, origin of weights, citation.
            renamed: Former names of parameters and their present names. Models saved with the former names
                can be loaded; errors of recipes that use them name the present ones.

        Raises:
            ValueError: If the name is taken or empty, or ``renamed`` maps to an unknown parameter.
            TypeError: If a parameter of the signature cannot be configured (see `rdvfi._signature`).
        """
        key = normalise(name)
        if not key:
            raise ValueError(f"a {self.group} needs a name")

        def add(factory: Factory) -> Factory:
            parameters = parameters_of(factory)
            self._check_free(key, factory)
            former = {old: Replaced(new) if isinstance(new, str) else new for old, new in (renamed or {}).items()}
            for old, new in former.items():
                if old in parameters or new.name not in parameters:
                    raise ValueError(
                        f"{self.group} {key!r}: {old!r} cannot have been renamed to {new.name!r}; its "
                        f"parameters are {', '.join(parameters) or 'none'}"
                    )
            self._entries[key] = _Entry(factory, parameters, about or About(), former)
            return factory

        return add

    def _check_free(self, key: str, factory: Callable[..., Any]) -> None:
        owner = self._entries.get(key)
        if owner is None:
            return
        name, owner_name = qualified_name(factory), qualified_name(owner.factory)
        if name.startswith("__main__.") and name == owner_name:
            return  # a notebook cell that is run again replaces its own entry
        raise ValueError(
            f"{self.group} {key!r} is already registered by {owner_name}; choose another name, or unregister it first"
        )

    def unregister(self, name: str) -> None:
        """Remove an entry."""
        del self._entries[self._find(name)]

    def create(self, name: str, **config: Any) -> T:
        """Build the component that is registered under ``name``.

        Args:
            name: A registered name.
            **config: The factory's own parameters; their names and types are checked.

        Raises:
            KeyError: If no entry has this name.
            TypeError: If a parameter is unknown, missing or of the wrong type, or if the factory
                does not return a component of this registry's interface.
        """
        key = self._find(name)
        config = self._bind(key, config)
        component = _call_factory(f"{self.group} {key!r}", self._entries[key], config)
        if not isinstance(component, self.interface):
            raise TypeError(
                f"{self.group} {key!r} made a {type(component).__name__}; expected a {self.interface.__name__}"
            )
        setattr(component, _SPEC, (key, config))
        return component

    def parameters(self, name: str) -> dict[str, Parameter]:
        """The parameters that ``create(name, ...)`` takes, in order."""
        return dict(self._entries[self._find(name)].parameters)

    def renamed(self, name: str) -> dict[str, "Replaced"]:
        """Former names of the parameters of ``name``, and their replacements."""
        return dict(self._entries[self._find(name)].renamed)

    def about(self, name: str) -> About:
        """Licences, origin of weights and citation, as given when the entry was registered."""
        return self._entries[self._find(name)].about

    def unknown_parameter_message(self, name: str, parameter: str) -> str:
        """The message for a parameter that ``name`` does not take, with its present name or the closest one."""
        entry = self._entries[self._find(name)]
        if parameter in entry.renamed:
            return f"{self.group} {name!r}: {parameter!r} is called {entry.renamed[parameter].name!r} now"
        known = ", ".join(entry.parameters) or "none"
        hint = did_you_mean(parameter, entry.parameters)
        return f"{self.group} {name!r} has no parameter {parameter!r}{hint} (it takes: {known})"

    def entries(self) -> dict[str, Any]:
        """A copy of the registered entries, without loading plug-ins; see `restore`."""
        return dict(self._entries)

    def restore(self, entries: Mapping[str, Any]) -> None:
        """Restore the entries that `entries` returned."""
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Callable[..., T]:
        return self._entries[self._find(name)].factory

    def __contains__(self, name: object) -> bool:
        load_plugins(REGISTRIES)
        return isinstance(name, str) and normalise(name) in self._entries

    def __iter__(self) -> Iterator[str]:
        load_plugins(REGISTRIES)
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        load_plugins(REGISTRIES)
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.group}: {', '.join(self)})"

    def _find(self, name: str) -> str:
        load_plugins(REGISTRIES)
        key = normalise(name)
        if key in self._entries:
            return key
        hint = did_you_mean(key, self._entries)
        known = ", ".join(sorted(self._entries)) or "none"
        raise UnknownNameError(f"no {self.group} named {name!r}{hint} (registered: {known})")

    def _bind(self, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The checked configuration, in the order of the signature, including defaults."""
        parameters = self._entries[key].parameters
        for name in config:
            if name not in parameters:
                raise TypeError(self.unknown_parameter_message(key, name))
        missing = [p.name for p in parameters.values() if p.required and p.name not in config]
        if missing:
            raise TypeError(f"{self.group} {key!r} needs {', '.join(missing)}")
        return {
            name: convert(parameter.annotation, config.get(name, parameter.default), f"{self.group} {key!r}: {name}")
            for name, parameter in parameters.items()
        }


def _call_factory(what: str, entry: _Entry, config: Mapping[str, Any]) -> Any:
    """Call a factory; exceptions of unexpected kinds become a ValueError or MemoryError that names the values."""
    try:
        return entry.factory(**config)
    except (OSError, ValueError, TypeError, LookupError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, UnwrappedError):
            raise
        given = ", ".join(
            f"{name}={value!r}"
            for name, value in config.items()
            if not isinstance(value, nn.Module) and value != entry.parameters[name].default
        )
        if is_out_of_memory(error):
            raise MemoryError(f"not enough memory to make {what} with {given or 'its defaults'}") from error
        raise ValueError(f"{what} cannot be made with {given or 'its defaults'}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of the message of an error of another library, with its type if that is informative."""
    text = str(error).strip().split("\n")[0][:200]
    return text if isinstance(error, RuntimeError) and text else f"{type(error).__name__}: {text}"


def normalise(name: str) -> str:
    """The canonical spelling of a name: ``rdvfi_s`` is ``rdvfi-s``.

    Raises:
        TypeError: If it is not text.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be a string; got {name!r}")
    return name.strip().replace("_", "-")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known name, if one is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def spec_of(component: nn.Module) -> dict[str, Any]:
    """The specification of a component: ``{"name": ..., "config": {...}}``, plain values only.

    Raises:
        TypeError: If it, or a component in a slot of it, was not made by a registry.
    """
    specification = getattr(component, _SPEC, None)
    if specification is None:
        raise TypeError(
            f"this {type(component).__name__} was built by hand, so it cannot be described by a "
            "registered name; make it with a registry's `create`"
        )
    name, config = specification
    return {"name": name, "config": {key: _plain_value(value) for key, value in config.items()}}


def registered_name(component: nn.Module) -> str | None:
    """The registered name of a component; None if it was not built by a registry."""
    specification = getattr(component, _SPEC, None)
    return None if specification is None else specification[0]


def _plain_value(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return spec_of(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return value


def create_from_spec(registry: Registry[T], spec: Any) -> T:
    """Build a component from its specification (`spec_of`). Only registered factories are called.

    Raises:
        KeyError: If it names an entry that is not registered.
        TypeError: If it is not a specification, or does not match the signature of the factory.
    """
    if not isinstance(spec, dict) or spec.keys() != {"name", "config"}:
        raise TypeError(f"a {registry.group} is described by a name and a config; got {spec!r}")
    name, config = spec["name"], spec["config"]
    if not isinstance(config, dict):
        raise TypeError(f"the config of {registry.group} {name!r} must be a table; got {config!r}")
    parameters = registry.parameters(name)
    built = {}
    for key, value in with_new_names(registry, name, config).items():
        interface = parameters[key].component if key in parameters else None
        if interface is None or value is None:
            built[key] = value
        else:
            built[key] = create_from_spec(registry_of(interface), value)
    return registry.create(name, **built)


def with_new_names(registry: Registry[Any], name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A saved configuration with the present names of its parameters.

    Raises:
        TypeError: If it has a parameter under both names.
    """
    renamed = registry.renamed(name)
    present: dict[str, Any] = {}
    for key, value in config.items():
        replacement = renamed.get(key)
        new_key = key if replacement is None else replacement.name
        if new_key in present or (replacement is not None and new_key in config):
            raise TypeError(f"{registry.group} {name!r} has {new_key!r} twice, the second time as {key!r}")
        present[new_key] = value if replacement is None else replacement.value(value)
    return present


SAMPLES = {"coarse": "dis", "flow": "local", "basis": "cubic"}
"""Components for required slots in examples and checks, by group; they need no training."""


def create_sample(registry: Registry[T], name: str, **given: Any) -> T:
    """Build an entry with its defaults, for descriptions and checks; `SAMPLES` fill its slots.

    Args:
        registry: The registry of the entry.
        name: The name of the entry.
        **given: Values and components to use instead of the defaults.
    """
    for parameter in registry.parameters(name).values():
        if parameter.required and parameter.slot in SAMPLES and parameter.name not in given:
            assert parameter.component is not None
            given[parameter.name] = registry_of(parameter.component).create(SAMPLES[parameter.slot])
    return registry.create(name, **given)


def registry_of(interface: type[nn.Module]) -> Registry[Any]:
    """The registry whose components fill a slot of this interface."""
    return next(r for r in REGISTRIES if issubclass(interface, r.interface))


backbones = Registry(KeyframeGenerator, "backbone")
flows = Registry(FlowEstimator, "flow")
bases = Registry(Basis, "basis")
trajectories = Registry(TrajectoryModel, "trajectory")
renderers = Registry(Renderer, "renderer")

REGISTRIES: tuple[Registry[Any], ...] = (backbones, flows, bases, trajectories, renderers)
