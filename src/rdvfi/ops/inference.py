"""Custom operators: a reference in torch, and Triton kernels that take its place on CUDA.

A small model on a GPU is bound by launching. A chain of small steps becomes one operator: its *reference*, in
torch, defines the results and runs on every device; on CUDA a few kernels take its place. Where such a chain
needs no gradient in inference, the reference itself runs, with gradients, whenever something that it is given is
learned (`inference_operator`); other operators register gradients of their own.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from rdvfi.ops.kernels import usable

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Kernels:
    """What does an operator's work on CUDA.

    Attributes:
        module: The function of the operator's name in ``rdvfi.ops.kernels.<module>_kernels``.
        launches: Kernels that it starts, at most.
        settings: Constants that the function takes besides, by name.
    """

    module: str
    launches: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)


KERNELS: dict[str, Kernels] = {}
"""By operator, without ``rdvfi::``."""


def custom_operator(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    kernels: Kernels,
    *,
    fits: Callable[..., bool] = lambda *_: True,
) -> Any:
    """Register the operator ``rdvfi::<name>``.

    Args:
        name: Of the operator, and of the function that does its work on CUDA.
        reference: Defines the results. Its annotations are plain: they are the schema.
        fake: Empty results of the right shapes and types.
        kernels: Where that function is.
        fits: Whether kernels can do the work for such arguments; else the reference does it.

    Returns:
        The definition (`torch.library.custom_op`): gradients, or kernels of other devices, can be added to it.
    """
    made = torch.library.custom_op(f"rdvfi::{name}", reference, mutates_args=())
    made.register_fake(fake)
    KERNELS[name] = kernels

    @made.register_kernel("cuda")
    def _(*args: Any) -> Any:
        tensors = _tensors(args)
        if not usable(*tensors) or not fits(*args):
            return reference(*args)
        module = importlib.import_module(f"rdvfi.ops.kernels.{kernels.module}_kernels")
        with torch.cuda.device_of(tensors[0]):
            return getattr(module, name)(*args, **kernels.settings)

    return made


def inference_operator(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    kernels: str,
    *,
    launches: int = 1,
    settings: Mapping[str, Any] | None = None,
    fits: Callable[..., bool] = lambda *_: True,
) -> Callable[..., Any]:
    """`custom_operator` where nothing is learned, and its reference, which has gradients, where something is.

    Args:
        name: Of the operator, and of the function in ``kernels`` that does its work on CUDA.
        reference: Defines the results. Its annotations are plain: they are the schema.
        fake: Empty results of the right shapes and types.
        kernels: The module ``rdvfi.ops.kernels.<kernels>_kernels``.
        launches: Kernels that it starts on CUDA, at most.
        settings: Constants that the function takes besides, by name.
        fits: Whether kernels can do the work for such arguments.
    """

    @functools.wraps(reference)
    def dense(*args: Any) -> Any:
        return _dense(reference(*args))

    custom_operator(name, dense, fake, Kernels(kernels, launches, settings or {}), fits=fits)
    call = getattr(torch.ops.rdvfi, name).default

    def run(*args: Any) -> Any:
        learns = torch.is_grad_enabled() and any(x.requires_grad for x in _tensors(args))
        return reference(*args) if learns else call(*args)

    return run


def operator(
    kernels: str, *, launches: int = 1, settings: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """`inference_operator` of the function that it decorates, by its name; that tells shapes and types, too.

    The function itself is the attribute ``reference`` of what is returned.
    """

    def decorate(reference: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(reference)
        def dense(*args: Any) -> Any:
            return _dense(reference(*args))  # pyright: ignore[reportCallIssue]

        run = inference_operator(reference.__name__, reference, dense, kernels, launches=launches, settings=settings)

        @functools.wraps(reference)
        def call(*args: Any) -> Any:
            return run(*args)

        setattr(call, "reference", reference)  # noqa: B010
        return cast(Callable[P, Result], call)

    return decorate


def _dense(result: Any) -> Any:
    """Results in dense memory of their own, as kernels make them."""
    if isinstance(result, tuple):
        return tuple(_dense(x) for x in result)
    if result._is_view():
        return result.clone(memory_format=torch.contiguous_format)
    wide = result.dim() == 4 and result.is_contiguous(memory_format=torch.channels_last)
    return result if wide else result.contiguous()


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    lists = [x if isinstance(x, list) else [x] for x in args]
    return [x for found in lists for x in found if isinstance(x, Tensor)]
