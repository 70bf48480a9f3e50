"""Comparison of names and shapes of stored tensors with those of a model."""

from collections.abc import Iterable, Mapping

from torch import Tensor


def name_difference(what: str, expected: Iterable[str], got: Iterable[str]) -> str:
    """The missing and the unknown names, at most three of each, as text; empty if there are none."""
    missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    notes = []
    for label, names in ((f"missing {what}", missing), (f"unknown {what}", extra)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"{label} {', '.join(names[:3])}{more}")
    return "; ".join(notes)


def tensor_difference(expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The first difference in names or shapes, as text; empty if there is none."""
    names = name_difference("tensors", expected, shapes)
    if names:
        return names
    for name, shape in shapes.items():
        if tuple(expected[name].shape) != tuple(shape):
            return f"{name} has shape {tuple(shape)}, expected {tuple(expected[name].shape)}"
    return ""
