"""Registries: a name stands for a factory, and a factory's signature is its configuration.

There are five: `backbones`, `flows`, `bases`, `trajectories` and `renderers`, each for one
interface. Registering is all that a plug-in does::

    @rdvfi.backbones.register("mine")
    def mine(*, width: int = 64, coarse: FlowEstimator) -> KeyframeGenerator:
        return MyGenerator(width, coarse)

An object made by `Registry.create` remembers its *specification*: the registered name and plain
values, with the specifications of the components that it was given. `spec_of` reads it and
`create_from_spec` builds the same object again; that is how models are saved, so a saved model
holds names of registered factories and never a path to code.

Packages announce plug-ins by an entry point in the group ``rdvfi.plugins`` whose value is a
module; it is imported at the first look-up, and importing it registers.
"""

import difflib
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from torch import nn

from rdvfi._signature import Parameter, convert, describe, parameters_of
from rdvfi.about import About
from rdvfi.interfaces import Basis, FlowEstimator, KeyframeGenerator, Renderer, TrajectoryModel

T = TypeVar("T", bound=nn.Module)
Factory = TypeVar("Factory", bound=Callable[..., Any])

PLUGIN_GROUP = "rdvfi.plugins"
_SPEC = "_rdvfi_spec"


class UnknownNameError(KeyError):
    """A name that no registry entry has; its text is readable, unlike a plain KeyError's."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """Named factories of one interface. ``my_name`` and ``my-name`` are the same name.

    Args:
        interface: The class of which every product must be an instance.
        group: What an entry is called, in messages and in recipes.
        package: The package with the same name in `rdvfi`, if there is one: its modules stay
            reachable as attributes (`rdvfi.backbones.compact.generator`).
    """

    def __init__(self, interface: type[T], group: str, *, package: str | None = None) -> None:
        self.interface = interface
        self.group = group
        self._package = package
        self._factories: dict[str, Callable[..., T]] = {}
        self._parameters: dict[str, dict[str, Parameter]] = {}
        self._about: dict[str, About] = {}

    def register(self, name: str, *, about: About | None = None) -> Callable[[Factory], Factory]:
        """Decorator: register a class or factory function under ``name``.

        Args:
            name: What it is called from now on, here, in recipes and in saved models.
            about: Licences, origin of weights, citation.

        Raises:
            ValueError: If the name is taken or empty.
            TypeError: If the signature cannot be configured (see `rdvfi._signature`).
        """
        key = normalise(name)
        if not key:
            raise ValueError(f"a {self.group} needs a name")

        def add(factory: Factory) -> Factory:
            parameters = parameters_of(factory)
            owner = self._factories.get(key)
            # Running a notebook cell again replaces what it registered before.
            again = describe(factory).startswith("__main__.") and owner is not None
            if owner is not None and not (again and describe(owner) == describe(factory)):
                raise ValueError(
                    f"{self.group} {key!r} is already registered by {describe(owner)}; choose "
                    "another name, or unregister it first"
                )
            self._factories[key] = factory
            self._parameters[key] = parameters
            self._about[key] = about or About()
            return factory

        return add

    def unregister(self, name: str) -> None:
        """Forget an entry."""
        key = self._find(name)
        del self._factories[key], self._parameters[key], self._about[key]

    def create(self, name: str, **config: Any) -> T:
        """Make the object that ``name`` stands for.

        Args:
            name: A registered name.
            **config: The factory's own parameters; their names and types are checked.

        Raises:
            KeyError: If no entry has this name.
            TypeError: If a parameter is unknown, missing or of the wrong type, or if the factory
                makes something else than it is registered for.
        """
        key = self._find(name)
        config = self._bind(key, config)
        product = self._factories[key](**config)
        if not isinstance(product, self.interface):
            raise TypeError(
                f"{self.group} {key!r} made a {type(product).__name__}; expected a {self.interface.__name__}"
            )
        setattr(product, _SPEC, (key, config))
        return product

    def parameters(self, name: str) -> dict[str, Parameter]:
        """The parameters that ``create(name, ...)`` takes, in order."""
        return dict(self._parameters[self._find(name)])

    def about(self, name: str) -> About:
        """Licences, origin of weights and citation, as far as they were stated."""
        return self._about[self._find(name)]

    def __getitem__(self, name: str) -> Callable[..., T]:
        return self._factories[self._find(name)]

    def __contains__(self, name: object) -> bool:
        _load_plugins()
        return isinstance(name, str) and normalise(name) in self._factories

    def __iter__(self) -> Iterator[str]:
        _load_plugins()
        return iter(sorted(self._factories))

    def __len__(self) -> int:
        _load_plugins()
        return len(self._factories)

    def __repr__(self) -> str:
        return f"Registry({self.group}: {', '.join(self)})"

    def __getattr__(self, name: str) -> ModuleType:
        package = self.__dict__.get("_package")
        module = None if package is None else sys.modules.get(f"{package}.{name}")
        if module is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return module

    def _find(self, name: str) -> str:
        _load_plugins()
        key = normalise(name)
        if key in self._factories:
            return key
        hint = did_you_mean(key, self._factories)
        known = ", ".join(sorted(self._factories)) or "none"
        raise UnknownNameError(f"no {self.group} named {name!r}{hint} (registered: {known})")

    def _bind(self, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """``config`` checked, in the signature's order, with defaults filled in."""
        parameters = self._parameters[key]
        for name in config:
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                hint = did_you_mean(name, parameters)
                raise TypeError(f"{self.group} {key!r} has no parameter {name!r}{hint} (it takes: {known})")
        missing = [p.name for p in parameters.values() if p.required and p.name not in config]
        if missing:
            raise TypeError(f"{self.group} {key!r} needs {', '.join(missing)}")
        return {
            name: convert(
                parameter.annotation,
                config.get(name, parameter.default),
                f"{self.group} {key!r}: {name}",
            )
            for name, parameter in parameters.items()
        }


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
    """What ``component`` was made from: ``{"name": ..., "config": {...}}``, plain values only.

    Raises:
        TypeError: If it, or a component that it was given, was not made by a registry.
    """
    made = getattr(component, _SPEC, None)
    if made is None:
        raise TypeError(
            f"this {type(component).__name__} was built by hand, so it cannot be described by a "
            "registered name; make it with a registry's `create`"
        )
    name, config = made
    return {"name": name, "config": {key: _plain(value) for key, value in config.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return spec_of(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def create_from_spec(registry: Registry[T], spec: Any) -> T:
    """Make the object that `spec_of` described. Only registered factories are ever called.

    Raises:
        KeyError: If it names an entry that is not registered.
        TypeError: If it is not a specification, or does not fit the factory's signature.
    """
    if not isinstance(spec, dict) or spec.keys() != {"name", "config"}:
        raise TypeError(f"a {registry.group} is described by a name and a config; got {spec!r}")
    name, config = spec["name"], spec["config"]
    if not isinstance(config, dict):
        raise TypeError(f"the config of {registry.group} {name!r} must be a table; got {config!r}")
    parameters = registry.parameters(name)
    built = {}
    for key, value in config.items():
        interface = parameters[key].component if key in parameters else None
        if interface is None or value is None:
            built[key] = value
        else:
            built[key] = create_from_spec(registry_of(interface), value)
    return registry.create(name, **built)


def registry_of(interface: type[nn.Module]) -> Registry[Any]:
    """The registry whose products fill a slot of this interface."""
    return next(r for r in REGISTRIES if issubclass(interface, r.interface))


_plugins_lock = threading.RLock()
_plugins_loaded = False


def _load_plugins() -> None:
    """Import every installed plug-in, once; one that fails warns and is left out."""
    global _plugins_loaded
    with _plugins_lock:
        if _plugins_loaded:
            return
        _plugins_loaded = True  # first, since a plug-in may look something up while it loads
        for entry in entry_points(group=PLUGIN_GROUP):
            try:
                entry.load()
            except Exception as error:
                warnings.warn(
                    f"rdvfi plug-in {entry.name!r} ({entry.value}) could not be loaded and is left "
                    f"out: {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=4,
                )


backbones = Registry(KeyframeGenerator, "backbone", package="rdvfi.backbones")
flows = Registry(FlowEstimator, "flow")
bases = Registry(Basis, "basis")
trajectories = Registry(TrajectoryModel, "trajectory")
renderers = Registry(Renderer, "renderer")

REGISTRIES: tuple[Registry[Any], ...] = (backbones, flows, bases, trajectories, renderers)
