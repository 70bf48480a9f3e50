"""The signature of a factory is its configuration: reading signatures, and checking values against them.

A factory has keyword-only parameters of plain types: ``int``, ``float``, ``bool``, ``str``, an ``Enum`` for a choice,
``list`` and ``tuple`` of those, or ``X | None``. A parameter whose type is one of the component interfaces
(`rdvfi.interfaces`) is a slot that another component fills: in a recipe, that of the group that the annotation names
(`rdvfi.interfaces.Slot`), or else of the interface's own group. The checks of `Registry.create`, the saved form of a
model and Hydra's schema all follow from the signature, so a configuration is defined in one place only.
"""

import inspect
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from torch import nn

from rdvfi.interfaces import Basis, CoarseFlow, FlowEstimator, KeyframeGenerator, Range, Renderer, Slot, TrajectoryModel

INTERFACES = (KeyframeGenerator, FlowEstimator, Basis, TrajectoryModel, Renderer)
"""Interfaces of the components that can fill a slot of another component."""

_SCALARS = (int, float, bool, str)
_GROUPS = {FlowEstimator: "flow", Basis: "basis"}
"""The group of a recipe that fills a slot of an interface."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a factory."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def component(self) -> type[nn.Module] | None:
        """The interface that it takes, or None for a plain value."""
        kind = without_none(self.annotation)[0]
        return kind if _is_interface(kind) else None

    @property
    def slot(self) -> str | None:
        """The group of a recipe that fills it; None for a plain value, or if no group does."""
        groups = [note.group for note in _notes(self.annotation) if isinstance(note, Slot)]
        if groups or self.component is None:
            return groups[0] if groups else None
        return next((group for kind, group in _GROUPS.items() if issubclass(self.component, kind)), None)


def parameters_of(factory: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a class or factory function, in order.

    Raises:
        TypeError: If a parameter is not keyword-only, has no type, or a type that cannot be configured.
    """
    if isinstance(factory, type) and factory.__init__ is nn.Module.__init__:
        return {}  # torch's own (*args, **kwargs): a module without a constructor has no parameters
    parameters = {}
    for name, raw in inspect.signature(factory, eval_str=True).parameters.items():
        where = f"parameter {name!r} of {qualified_name(factory)}"
        if raw.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{where} must be keyword-only: put a `*` before it in the signature")
        parameter = Parameter(name, _read_annotation(name, raw.annotation, where), raw.default)
        if not _is_configurable(parameter.annotation):
            raise TypeError(
                f"{where} has type {type_name(parameter.annotation)}; expected int, float, bool, "
                "str, an Enum, a list or tuple of those, one of the interfaces, or `| None`"
            )
        if not parameter.required:
            convert(parameter.annotation, parameter.default, where)
        parameters[name] = parameter
    return parameters


def convert(annotation: Any, value: Any, where: str) -> Any:
    """``value``, from plain values (JSON, YAML), converted to the type of ``annotation``.

    Lists become tuples, names become enumeration members, and integers become floats if that is the annotation.
    Nothing else is converted.

    Raises:
        TypeError: If the value is not of that type.
        ValueError: If it is out of the range that the annotation gives.
    """
    kind, optional = without_none(annotation)
    if value is None and optional:
        return None
    if isinstance(kind, type) and issubclass(kind, Enum) and not isinstance(value, kind):
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        raise TypeError(f"{where} must be one of {', '.join(kind.__members__)}; got {value!r}")
    if get_origin(kind) in (list, tuple):
        return _convert_sequence(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # In Python a bool is an int, but `levels=True` is a mistake.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} must be {type_name(annotation)}; got {_abbreviate(value)}")
    for note in _notes(annotation):
        if isinstance(note, Range) and isinstance(value, int | float) and not note.least <= value <= note.most:
            raise ValueError(f"{where} must be {note.least} to {note.most}; got {value}")
    return value


def _convert_sequence(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{where} must be {type_name(kind)}; got {_abbreviate(value)}")
    item_types = get_args(kind)
    if get_origin(kind) is list or item_types[-1] is Ellipsis:
        item_types = (item_types[0],) * len(value)
    if len(item_types) != len(value):
        raise TypeError(f"{where} must be {type_name(kind)}; got {len(value)} values")
    items = [convert(item_type, item, where) for item_type, item in zip(item_types, value, strict=True)]
    return items if get_origin(kind) is list else tuple(items)


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without ``| None`` and `Annotated` metadata, and whether it had ``| None``."""
    if get_origin(annotation) is Annotated:
        return without_none(annotation.__origin__)
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    kinds = [without_none(kind)[0] for kind in get_args(annotation) if kind is not type(None)]
    return (kinds[0] if len(kinds) == 1 else annotation), len(kinds) < len(get_args(annotation))


def _notes(annotation: Any) -> tuple[Any, ...]:
    """The metadata of `Annotated` on a type, or on a member of a union."""
    if get_origin(annotation) is Annotated:
        return annotation.__metadata__
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(note for kind in get_args(annotation) for note in _notes(kind))
    return ()


def _read_annotation(name: str, annotation: Any, where: str) -> Any:
    """The annotation; in plug-ins of version 0.1.0 the name ``coarse`` had the meaning of `CoarseFlow`."""
    if name != "coarse" or without_none(annotation)[0] is not FlowEstimator or _notes(annotation):
        return annotation
    warnings.warn(
        f"{where} is taken for a CoarseFlow because of its name; annotate it as rdvfi.interfaces.CoarseFlow",
        FutureWarning,
        stacklevel=5,
    )
    return CoarseFlow if annotation is FlowEstimator else CoarseFlow | None  # pyright: ignore[reportOperatorIssue]


def _is_interface(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, INTERFACES)


def _is_configurable(annotation: Any) -> bool:
    kind, _ = without_none(annotation)
    return _is_interface(kind) or _is_plain(kind)


def _is_plain(kind: Any) -> bool:
    if get_origin(kind) in (list, tuple):
        item_types = [item for item in get_args(kind) if item is not Ellipsis]
        return bool(item_types) and all(map(_is_plain, item_types))
    return kind in _SCALARS or (isinstance(kind, type) and issubclass(kind, Enum))


def qualified_name(factory: Callable[..., Any]) -> str:
    """The module and name of a class or function, for messages."""
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return f"{getattr(factory, '__module__', '?')}.{name}"


def type_name(annotation: Any) -> str:
    """An annotation as its author wrote it."""
    if annotation is inspect.Parameter.empty:
        return "no annotation"
    if get_origin(annotation) is Annotated:
        return type_name(annotation.__origin__)
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation)


def format_parameter(parameter: Parameter) -> str:
    """A parameter in the form of a signature: name, type, default."""
    kind = type_name(parameter.annotation).replace("rdvfi.interfaces.", "")
    if parameter.required:
        return f"{parameter.name}: {kind}"
    value = parameter.default
    return f"{parameter.name}: {kind} = {getattr(value, 'name', None) or repr(value)}"


def _abbreviate(value: Any) -> str:
    """A value for a message; long values become their type."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
