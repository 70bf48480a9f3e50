"""A factory's signature is its configuration: reading signatures, and validating values against them.

A factory has keyword-only parameters of plain types: ``int``, ``float``, ``bool``, ``str``, an
``Enum`` for a choice, ``list`` and ``tuple`` of those, ``X | None``, or one of the component
interfaces (`rdvfi.interfaces`), which makes it a slot that another component fills; in a recipe, one
of the group that the annotation names (`rdvfi.interfaces.Slot`), or else of its interface's own group.
From nothing but this signature follow the checks of `Registry.create`, the saved form of a model and Hydra's
schema, so there is no second place where a configuration could be written down.
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
"""What can fill a slot of another component."""

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
        named = [note.group for note in _notes(self.annotation) if isinstance(note, Slot)]
        if named or self.component is None:
            return named[0] if named else None
        return next((group for kind, group in _GROUPS.items() if issubclass(self.component, kind)), None)


def parameters_of(factory: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a class or factory function, in order.

    Raises:
        TypeError: If one is not keyword-only, has no type, or one that cannot be configured.
    """
    if isinstance(factory, type) and factory.__init__ is nn.Module.__init__:
        return {}  # torch's (*args, **kwargs): a module that adds no constructor takes nothing
    found = {}
    for name, raw in inspect.signature(factory, eval_str=True).parameters.items():
        where = f"parameter {name!r} of {describe(factory)}"
        if raw.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{where} must be keyword-only: put a `*` before it in the signature")
        parameter = Parameter(name, _annotation(name, raw.annotation, where), raw.default)
        if not _is_configurable(parameter.annotation):
            raise TypeError(
                f"{where} has type {type_name(parameter.annotation)}; expected int, float, bool, "
                "str, an Enum, a list or tuple of those, one of the interfaces, or `| None`"
            )
        if not parameter.required:
            convert(parameter.annotation, parameter.default, where)
        found[name] = parameter
    return found


def convert(annotation: Any, value: Any, where: str) -> Any:
    """``value`` as the type that ``annotation`` asks for, from plain values (JSON, YAML).

    Lists become tuples and names become enumeration members where that is the annotation;
    integers are accepted as floats. Nothing else is converted.

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
    # bool is an int to Python, but `levels=True` is a mistake.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} must be {type_name(annotation)}; got {_shown(value)}")
    for note in _notes(annotation):
        if isinstance(note, Range) and isinstance(value, int | float) and not note.least <= value <= note.most:
            raise ValueError(f"{where} must be {note.least} to {note.most}; got {value}")
    return value


def _convert_sequence(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{where} must be {type_name(kind)}; got {_shown(value)}")
    of = get_args(kind)
    if get_origin(kind) is list or of[-1] is Ellipsis:
        of = (of[0],) * len(value)
    if len(of) != len(value):
        raise TypeError(f"{where} must be {type_name(kind)}; got {len(value)} values")
    items = [convert(item, part, where) for item, part in zip(of, value, strict=True)]
    return items if get_origin(kind) is list else tuple(items)


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without ``| None`` and without notes, and whether it had the first."""
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


def _annotation(name: str, annotation: Any, where: str) -> Any:
    """The annotation; in plug-ins of version 0.1.0 a name said what `CoarseFlow` says now."""
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
        of = [part for part in get_args(kind) if part is not Ellipsis]
        return bool(of) and all(_is_plain(part) for part in of)
    return kind in _SCALARS or (isinstance(kind, type) and issubclass(kind, Enum))


def describe(factory: Callable[..., Any]) -> str:
    """Where a class or function is defined, for messages."""
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


def shown(parameter: Parameter) -> str:
    """A parameter as in a signature: name, type, default."""
    kind = type_name(parameter.annotation).replace("rdvfi.interfaces.", "")
    if parameter.required:
        return f"{parameter.name}: {kind}"
    value = parameter.default
    return f"{parameter.name}: {kind} = {getattr(value, 'name', None) or repr(value)}"


def _shown(value: Any) -> str:
    """A value in a message, abbreviated."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
