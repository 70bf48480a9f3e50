"""Triton kernels: the CUDA implementations of the operations.

Imported on the first CUDA call and by nothing else, so that `import rdvfi` stays light and works
where Triton cannot be had. The modules hold kernels and the functions that launch them, on the device
of their tensors (`rdvfi.ops.inference.custom_operator`); a launch of no program instances does nothing. Strides
without a name belong to the one tensor of a kernel that need not be contiguous.

Under ``TRITON_INTERPRET=1`` the same kernels run on CPU tensors in Triton's interpreter. Two rules
keep that possible in a process that imported Triton before the variable was set: no functions of
Triton's own that are themselves jitted (`tl.cdiv`, `tl.sum`, `tl.zeros`), and no run-time shape
checks on kernels (`rdvfi.ops.kernels.jit`), because the interpreter reads a kernel's globals, which they would hide.
"""

import functools
import importlib.util
import warnings

import torch
from torch import Tensor


def can_use_kernels(*tensors: Tensor) -> bool:
    """Whether kernels can work on these tensors: Triton is there, and none is float64."""
    return _has_triton() and all(x.dtype != torch.float64 for x in tensors)


@functools.cache
def _has_triton() -> bool:
    available = importlib.util.find_spec("triton") is not None
    if not available:
        warnings.warn(
            "Triton is not installed, so plain torch works on CUDA tensors: the same results, "
            "slower. PyTorch for Linux comes with it; on Windows install triton-windows",
            stacklevel=2,
        )
    return available
