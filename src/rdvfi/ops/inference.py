"""Operators without gradients: one call for what inference does in many small steps.

A small model on a GPU is bound by launching. Where a chain of small steps needs no gradient it is one
operator: its *reference*, in torch, defines the results, runs on every device and, with gradients,
whenever something that it is given is learned; on CUDA a few Triton kernels take its place.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from rdvfi.ops.kernels import usable

P = ParamSpec("P")
Result = TypeVar("Result")

LAUNCHES: dict[str, int] = {"rdvfi::splat_sum": 2, "rdvfi::flows_at": 2, "rdvfi::render": 3}
"""Kernels that an operator starts on CUDA, by its name, where that is not one: at most so many."""

SETTINGS: dict[str, Mapping[str, Any]] = {}
"""Constants that the function of an operator takes besides, by the operator's name."""


def inference_operator(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    kernels: str,
    *,
    launches: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Register the operator ``rdvfi::<name>``.

    Args:
        name: Of the operator, and of the function in ``kernels`` that does its work on CUDA.
        reference: Defines the results. Its annotations are plain: they are the schema.
        fake: Empty results of the right shapes and types.
        kernels: The module ``rdvfi.ops.kernels.<kernels>_kernels``.
        launches: Kernels that it starts on CUDA, at most.
        settings: Constants that the function takes besides, by name.

    Returns:
        The operator where nothing is learned, else the reference.
    """

    @functools.wraps(reference)
    def dense(*args: Any) -> Any:
        return _dense(reference(*args))

    operator = torch.library.custom_op(f"rdvfi::{name}", dense, mutates_args=())
    operator.register_fake(fake)
    LAUNCHES[f"rdvfi::{name}"], SETTINGS[name] = launches, settings or {}

    @operator.register_kernel("cuda")
    def _(*args: Any) -> Any:
        if not usable(*_tensors(args)):
            return dense(*args)
        return getattr(importlib.import_module(f"rdvfi.ops.kernels.{kernels}_kernels"), name)(*args, **SETTINGS[name])

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
