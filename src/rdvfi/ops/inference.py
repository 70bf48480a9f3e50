"""Custom operators: a reference in torch, and Triton kernels that replace it on CUDA.

A small model on a GPU is limited by kernel launches, so a chain of small steps is one operator. Its *reference*, in
torch, defines the results and runs on every device; on CUDA a few kernels replace it. Without gradients the operator
runs; where an argument needs a gradient, the reference itself does (`inference_operator`). Other operators register
gradients of their own.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from rdvfi.ops.kernels import can_use_kernels

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class KernelSpec:
    """The CUDA implementation of an operator.

    Attributes:
        module: ``rdvfi.ops.kernels.<module>_kernels`` has the function, under the operator's name.
        launches: Number of kernels that it launches, at most.
        settings: Further keyword arguments of the function.
    """

    module: str
    launches: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)


KERNELS: dict[str, KernelSpec] = {}
"""CUDA implementations by operator, without ``rdvfi::``."""


def custom_operator(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    kernels: KernelSpec,
    *,
    supports: Callable[..., bool] = lambda *_: True,
) -> Any:
    """Register the operator ``rdvfi::<name>``.

    Args:
        name: Name of the operator, and of the function that implements it on CUDA.
        reference: Defines the results. Its annotations are plain tensors, since they are the schema.
        fake: Returns empty results of the right shapes and types.
        kernels: Module and settings of that function.
        supports: Whether the kernels support such arguments; else the reference runs.

    Returns:
        The definition (`torch.library.custom_op`), to which gradients and kernels of other devices can be added.
    """
    operator_definition = torch.library.custom_op(f"rdvfi::{name}", reference, mutates_args=())
    operator_definition.register_fake(fake)
    KERNELS[name] = kernels

    @operator_definition.register_kernel("cuda")
    def _(*args: Any) -> Any:
        tensors = _tensors(args)
        if not can_use_kernels(*tensors) or not supports(*args):
            return reference(*args)
        module = importlib.import_module(f"rdvfi.ops.kernels.{kernels.module}_kernels")
        with torch.cuda.device_of(tensors[0]):
            return getattr(module, name)(*args, **kernels.settings)

    return operator_definition


def inference_operator(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    kernels: str,
    *,
    launches: int = 1,
    settings: Mapping[str, Any] | None = None,
    supports: Callable[..., bool] = lambda *_: True,
) -> Callable[..., Any]:
    """A `custom_operator` for inference; where an argument requires a gradient, its reference runs instead.

    Args:
        name: As for `custom_operator`, like ``reference``, ``fake`` and ``supports``.
        reference: The definition, which has gradients.
        fake: Returns empty results.
        kernels: The module ``rdvfi.ops.kernels.<kernels>_kernels``.
        launches: See `KernelSpec`.
        settings: See `KernelSpec`.
        supports: Whether the kernels support such arguments.
    """

    @functools.wraps(reference)
    def dense(*args: Any) -> Any:
        return _to_dense(reference(*args))

    custom_operator(name, dense, fake, KernelSpec(kernels, launches, settings or {}), supports=supports)
    call = getattr(torch.ops.rdvfi, name).default

    def run(*args: Any) -> Any:
        learns = torch.is_grad_enabled() and any(x.requires_grad for x in _tensors(args))
        return reference(*args) if learns else call(*args)

    return run


def operator(
    kernels: str, *, name: str | None = None, launches: int = 1, settings: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """`inference_operator` of the decorated function, which also gives the shapes and types of the results.

    The operator has the function's name unless another is given. The function itself is the attribute ``reference``
    of the result.
    """

    def decorate(reference: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(reference)
        def dense(*args: Any) -> Any:
            return _to_dense(reference(*args))  # pyright: ignore[reportCallIssue]

        run = inference_operator(
            name or reference.__name__, reference, dense, kernels, launches=launches, settings=settings
        )

        @functools.wraps(reference)
        def call(*args: Any) -> Any:
            return run(*args)

        setattr(call, "reference", reference)  # noqa: B010
        return cast(Callable[P, Result], call)

    return decorate


def _to_dense(result: Any) -> Any:
    """Results as kernels return them: dense, and no views."""
    if isinstance(result, tuple):
        return tuple(_to_dense(x) for x in result)
    if result._is_view():
        return result.clone(memory_format=torch.contiguous_format)
    wide = result.dim() == 4 and result.is_contiguous(memory_format=torch.channels_last)
    return result if wide else result.contiguous()


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    nested = [x if isinstance(x, list) else [x] for x in args]
    return [x for items in nested for x in items if isinstance(x, Tensor)]
