"""Compiles every kernel for NVIDIA GPUs, on a machine that needs to have none; run by a test.

The functions that launch kernels are called with CPU tensors, and every launch compiles instead:
with the types, the constants and the specialisations that it would have on a GPU.
"""

import importlib
import re
import sys
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

import rdvfi.media.planes  # noqa: F401 - registers operators of video
from operator_samples import samples
from rdvfi.graph_watch import Watch
from rdvfi.ops.inference import KERNELS

TARGETS = {
    "hopper": (GPUTarget("cuda", 90, 32), torch.float16, torch.contiguous_format),
    "ampere": (GPUTarget("cuda", 80, 32), torch.float32, torch.channels_last),
}
"""What is compiled for, and the type and layout of images and features there."""
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
ALIGNED = [["tt.divisibility", 16]]
compiled: dict[str, int] = {}
kinds: set[Any] = set()
"""Kernels, if `ALL` with types and constants: of sizes that differ in what they are multiples of, one is compiled."""
ALL = sys.argv[2:] == ["all"]
"""Whether a kernel that is started with other types or constants is compiled again."""
loads: dict[str, set[str]] = {}
"""Kinds of loads from global memory, by kernel."""


def examine(name: str, ptx: str) -> None:
    """Remember what the compiled kernel loads at a time, and refuse divisions of 64 bits but for one sample's number.

    Such a division takes some sixty instructions: an element is numbered within its row.
    """
    loads.setdefault(name, set()).update(re.findall(r"ld\.global[.\w]*?\.(v\d\.b\d+|b\d+)", ptx))
    divisions = len(re.findall(r"\b(?:div|rem)\.[su]64", ptx))
    assert divisions <= 1, f"{name} divides {divisions} times in 64 bits"


def _compile(target: GPUTarget, kernel: Any, arguments: dict[str, Any]) -> None:
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[index,] = ALIGNED  # as memory from the device's allocator is
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            signature[parameter.name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[index,] = ALIGNED
    name = f"{kernel.fn.__module__.rpartition('.')[2].removesuffix('_kernels')}.{kernel.fn.__name__}"
    compiled[name] = compiled.get(name, 0) + 1
    kind = (
        name,
        *(
            arguments[p.name] if p.is_constexpr else TYPES.get(getattr(arguments[p.name], "dtype", None))
            for p in kernel.params
        ),
    )
    if (kind if ALL else name) in kinds:
        return
    kinds.add(kind if ALL else name)
    binary = triton.compile(ASTSource(kernel, signature, constants, attributes), target=target)
    assert binary.asm["cubin"]
    examine(kernel.fn.__name__, binary.asm["ptx"])


def _instead_of_launching(target: GPUTarget) -> None:
    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        names = [parameter.name for parameter in kernel.params]
        _compile(target, kernel, dict(zip(names, args, strict=False)) | kwargs)

    JITFunction.run = run


def _launch(name: str, arguments: tuple[Any, ...]) -> int:
    """Compile what an operator launches; how many kernels those are, with those of torch."""
    module = importlib.import_module(f"rdvfi.ops.kernels.{KERNELS[name].module}_kernels")
    before = sum(compiled.values())
    with Watch("cpu") as watch:
        getattr(module, name)(*arguments, **KERNELS[name].settings)
    return sum(compiled.values()) - before + sum(watch.launches.values())


target, dtype, layout = TARGETS[sys.argv[1]]
_instead_of_launching(target)
given = samples(dtype, layout)
for name, kernels in KERNELS.items():
    started = _launch(name, given[name])
    # Operators on frames copy what is not contiguous; the numbers are those without copies.
    assert layout != torch.contiguous_format or started <= kernels.launches, (
        f"{name} starts {started} kernels and says {kernels.launches}"
    )
for needs in ((False, True), (True, False)):
    _launch("backward_warp_backward", (*given["backward_warp_backward"][:3], *needs))
_launch("splat_sum", (*given["splat_sum"][:3], True))
_launch("activated", (given["activated"][0], None, None, 0))
for name, count in sorted(compiled.items()):
    print(name, count)  # noqa: T201
print("_draw loads", *sorted(loads["_draw"]))  # noqa: T201
