"""Complex tensors as pairs of real ones while a model is traced, which ONNX requires.

Functions that create complex numbers create a `ComplexPair`, and every function called with one does the
equivalent real arithmetic, so the graph holds real tensors only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_PARTWISE_FUNCTIONS = {
    "__getitem__", "cat", "contiguous", "expand", "expand_as", "flatten", "gather", "mean", "neg", "reshape",
    "squeeze", "stack", "sum", "unflatten", "unsqueeze", "view", "where",
}  # fmt: skip
"""Functions that are applied to both parts separately."""
_METADATA_ATTRIBUTES = {"shape", "dtype", "device", "ndim", "dim", "size", "is_complex", "requires_grad"}
"""Attributes that a pair answers like any tensor."""


class ComplexPair(Tensor):
    """A complex64 tensor without memory that holds its real and imaginary parts."""

    parts: tuple[Tensor, Tensor]

    @staticmethod
    def __new__(cls, real: Tensor, imaginary: Tensor) -> "ComplexPair":
        """A tensor without memory, of the shape that the real and the imaginary part can both be broadcast to."""
        shape = torch.broadcast_shapes(real.shape, imaginary.shape)
        pair = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.complex64, device=real.device)  # pyright: ignore
        pair.parts = tuple(part if part.shape == shape else part.expand(shape) for part in (real, imaginary))
        return pair

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The real arithmetic of a function of torch.

        Raises:
            NotImplementedError: If there is no rule for it here.
        """
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        if name in _METADATA_ATTRIBUTES:
            return super().__torch_function__(func, types, args, kwargs or {})
        if name in _PARTWISE_FUNCTIONS:
            first, second = (func(*_select_part(args, i), **_select_part(kwargs or {}, i)) for i in (0, 1))
            return ComplexPair(first, second)
        if name not in _REAL_ARITHMETIC:
            raise NotImplementedError(f"complex numbers in {name} have no rule for ONNX")
        return _REAL_ARITHMETIC[name](*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Never reached by functions with a rule; a pair has no memory to compute with."""
        raise NotImplementedError(f"complex numbers in {func} have no rule for ONNX")


def _select_part(structure: Any, index: int) -> Any:
    """A structure with every pair replaced by its real (0) or imaginary (1) part."""
    return tree_map(lambda x: x.parts[index] if isinstance(x, ComplexPair) else x, structure)


def _real_and_imaginary(x: Any) -> tuple[Any, Any]:
    """Both parts of a pair, a real tensor or a number."""
    if isinstance(x, ComplexPair):
        return x.parts
    return (x, 0.0) if isinstance(x, Tensor) else (complex(x).real, complex(x).imag)


def _is_real(x: Any) -> bool:
    return not isinstance(x, ComplexPair | complex)


def _add(x: Any, y: Any) -> ComplexPair:
    (a, b), (c, d) = _real_and_imaginary(x), _real_and_imaginary(y)
    return ComplexPair(a + c, b + d)


def _subtract(x: Any, y: Any) -> ComplexPair:
    (a, b), (c, d) = _real_and_imaginary(x), _real_and_imaginary(y)
    return ComplexPair(a - c, b - d)


def _multiply(x: Any, y: Any) -> ComplexPair:
    (a, b), (c, d) = _real_and_imaginary(x), _real_and_imaginary(y)
    if _is_real(x):
        return ComplexPair(a * c, a * d)
    if _is_real(y):
        return ComplexPair(a * c, b * c)
    return ComplexPair(a * c - b * d, a * d + b * c)


def _divide(x: Any, y: Any) -> ComplexPair:
    (a, b), (c, d) = _real_and_imaginary(x), _real_and_imaginary(y)
    if _is_real(y):
        return ComplexPair(a / c, b / c)
    # The denominator is normalised first, so that squares of small numbers do not underflow.
    square = c * c + d * d
    return _multiply(x, ComplexPair(c / square, -d / square))


def _conjugate(x: ComplexPair) -> ComplexPair:
    return ComplexPair(x.parts[0], -x.parts[1])


def _magnitude(x: ComplexPair) -> Tensor:
    return (x.parts[0].square() + x.parts[1].square()).sqrt()


def _angle(x: ComplexPair) -> Tensor:
    return torch.atan2(x.parts[1], x.parts[0])


def polar(length: Tensor, angle: Tensor) -> ComplexPair:
    """`torch.polar`."""
    return ComplexPair(length * angle.cos(), length * angle.sin())


def view_as_complex(x: Tensor) -> ComplexPair:
    """`torch.view_as_complex`."""
    return ComplexPair(x[..., 0], x[..., 1])


_REAL_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "real": lambda x: x.parts[0],
    "imag": lambda x: x.parts[1],
    "abs": _magnitude,
    "angle": _angle,
    "add": _add,
    "sub": _subtract,
    "__rsub__": lambda x, y: _subtract(y, x),
    "mul": _multiply,
    "div": _divide,
    "__rdiv__": lambda x, y: _divide(y, x),
    "conj_physical": _conjugate,
    "exp": lambda x: polar(x.parts[0].exp(), x.parts[1]),
    "log": lambda x: ComplexPair(_magnitude(x).log(), _angle(x)),
    "ones_like": lambda x: ComplexPair(torch.ones_like(x.parts[0]), torch.zeros_like(x.parts[0])),
}
"""Real arithmetic by function name."""
