"""Decompositions of operators that ONNX lacks.

While a model is traced within `Substitutes`, every operator of rdvfi is replaced by its reference in torch,
and the functions in `FUNCTIONS` by equivalent ones. Coordinates stay float32: in half precision they are off
by a pixel from about 2000 pixels on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.overrides import TorchFunctionMode

from rdvfi.integrations.onnx.branches import pass_first, run_if
from rdvfi.integrations.onnx.complex_pairs import ComplexPair, polar, view_as_complex
from rdvfi.integrations.onnx.strips import draw_in_strips, pixel_centres, sample_image


class NotExportable(ValueError):
    """A model cannot be exported to ONNX; the message says why."""


class Substitutes(TorchFunctionMode):
    """A context in which calls of torch and of rdvfi's operators are replaced by ones that ONNX can express."""

    def __init__(self) -> None:
        super().__init__()
        ours = {op._opoverload: _reference_of(name) for name, op in OPDEFS.items() if name.startswith("rdvfi::")}
        self._table: dict[Any, Callable[..., Any]] = {**ours, **OPERATORS, **FUNCTIONS}

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The call or its replacement, within which calls are replaced too."""
        replacement = self._table.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        if torch.Tag.cudagraph_unsafe in getattr(func, "tags", ()):
            raise NotExportable(f"{func} works outside of torch, on the CPU; choose a coarse flow made of tensors")
        with self:
            return replacement(*args, **(kwargs or {}))


def _backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """`rdvfi.ops.backward_warp` without writing into parts of a tensor."""
    h, w = image.shape[-2:]
    dx, dy = flow.float().unbind(1)  # scaled by numbers: a branch of a graph holds no constant tensors
    shift = dx * (2.0 / w), dy * (2.0 / h)
    return sample_image(image.float(), shift, pixel_centres(torch.arange(h), h)[:, None]).to(image.dtype)


def _fill_bars(images: Tensor, inside: Tensor) -> Tensor:
    """`rdvfi.content.bars`, skipped where there are no bars."""
    h, w = images.shape[-2:]
    fill = _reference_of("rdvfi::fill_bars")
    top, bottom, left, right = inside.unbind(1)
    found = ((top > 0) | (bottom < h) | (left > 0) | (right < w)).any()
    return run_if(found, lambda *x: (fill(*x),), pass_first, (images, inside))[0]


def _flows_at(
    fields: Tensor,
    ahead: Tensor,
    behind: Tensor,
    ahead_error: Tensor,
    behind_error: Tensor,
    knots: Tensor,
    times: Tensor,
    weights: Tensor,
) -> Tensor:
    """`rdvfi.ops.paths.flows_at`, or the fields themselves if all times are those of knots, as 0.5 is."""
    compute = _reference_of("rdvfi::flows_at")
    nearest = (times[:, None] - knots).abs().argmin(1)
    return run_if(
        (times != knots[nearest]).any(),
        lambda *x: (compute(*x[:8]),),
        lambda fields, *x: (fields[:, x[-1]],),
        (fields, ahead, behind, ahead_error, behind_error, knots, times, weights, nearest),
    )[0]


def _pull_push(maps: Tensor, valid: Tensor) -> Tensor:
    """`rdvfi.ops.occlusion.pull_push`, skipped where all pixels are valid."""
    fill = _reference_of("rdvfi::pull_push")
    return run_if(valid.min() < 1.0, lambda *x: (fill(*x),), pass_first, (maps, valid))[0]


def _adapted_maps(small0: Tensor, small1: Tensor, gain: Tensor | None, *rest: Tensor) -> Tensor:
    """`rdvfi.render.base.adapted_maps`, without the illumination rule where illumination is constant."""
    adapt = _reference_of("rdvfi::adapted_maps")
    if gain is None:
        return adapt(small0, small1, None, *rest)
    return run_if(
        (gain != 0.0).any(),
        lambda *x: (adapt(*x),),
        lambda small0, small1, _, *rest: (adapt(small0, small1, None, *rest),),
        (small0, small1, gain, *(x.clone() for x in rest)),
    )[0]


def _reference_of(name: str) -> Callable[..., Any]:
    """The reference without the checks of its memory layout, which a graph does not need."""
    function = OPDEFS[name]._init_fn
    return getattr(function, "__wrapped__", function)


OPERATORS: dict[Any, Callable[..., Any]] = {
    torch.ops.rdvfi.backward_warp.default: _backward_warp,
    torch.ops.rdvfi.render.default: draw_in_strips,
    torch.ops.rdvfi.fill_bars.default: _fill_bars,
    torch.ops.rdvfi.flows_at.default: _flows_at,
    torch.ops.rdvfi.pull_push.default: _pull_push,
    torch.ops.rdvfi.adapted_maps.default: _adapted_maps,
}
"""Operators of rdvfi whose references write in place, loop over the times, or do work that few pairs need."""


def _searchsorted(ordered: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    before = ordered <= values[..., None] if right else ordered < values[..., None]
    return before.long().sum(-1)


def _cumprod(x: Tensor, dim: int) -> Tensor:
    """`torch.cumprod` of zeros and ones, its only use here."""
    return ((1 - x).cumsum(dim) == 0).to(x.dtype)


def _nanmedian(x: Tensor, dim: int) -> Any:
    known = ~torch.isnan(x)
    count = known.long().sum(dim, keepdim=True)
    ordered, order = torch.where(known, x, torch.inf).sort(dim)
    middle = ((count - 1) // 2).clamp(min=0)
    values, indices = ordered.gather(dim, middle).squeeze(dim), order.gather(dim, middle).squeeze(dim)
    values = torch.where(count.squeeze(dim) > 0, values, torch.nan)
    return torch.return_types.nanmedian((values, indices))


def _adaptive_avg_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Means over cells as two matrix products, since cells may differ in size."""
    rows, columns = (_pooling_matrix(int(side), count) for side, count in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.T


def _pooling_matrix(side: int, count: int) -> Tensor:
    matrix = np.zeros((count, side), np.float32)
    for i in range(count):
        start, end = i * side // count, -(-(i + 1) * side // count)
        matrix[i, start:end] = 1.0 / (end - start)
    return torch.from_numpy(matrix)


def _avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, **options: Any) -> Tensor:
    """`avg_pool2d`, one direction after the other where windows overlap."""
    pool = torch.ops.aten.avg_pool2d
    if not (isinstance(kernel_size, int) and isinstance(padding, int) and stride == 1 and kernel_size > 2):
        return pool(x, kernel_size, kernel_size if stride is None else stride, padding, **options)
    rows = pool(x, (kernel_size, 1), 1, (padding, 0), **options)
    return pool(rows, (1, kernel_size), 1, (0, padding), **options)


def _pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """`pixel_unshuffle` moving one axis at a time, which ONNX Runtime does ten times as fast."""
    n, c, h, w = x.shape
    columns_apart = x.reshape(n * c, h * w // factor, factor).mT
    rows_apart = columns_apart.reshape(n * c * factor, h // factor, factor, w // factor).transpose(1, 2)
    by_row_first = rows_apart.reshape(n * c, factor, factor, h * w // factor**2).transpose(1, 2)
    return by_row_first.reshape(n, c * factor**2, h // factor, w // factor)


def _rfft2(x: Tensor, s: tuple[int, int]) -> ComplexPair:
    """The spectrum of real images, by DFT matrices."""
    h, w = x.shape[-2:]
    (cos_down, sin_down), (cos_across, sin_across) = _dft_matrices(s[0], s[0], h), _dft_matrices(s[1], s[1] // 2 + 1, w)
    real, imaginary = x @ cos_across.T, -(x @ sin_across.T)
    return ComplexPair(cos_down @ real + sin_down @ imaginary, cos_down @ imaginary - sin_down @ real)


def _irfft2(x: ComplexPair, s: tuple[int, int]) -> Tensor:
    """Real images from half a spectrum, by DFT matrices."""
    count = s[1] // 2 + 1
    (cos_down, sin_down), (cos_across, sin_across) = _dft_matrices(s[0], s[0], s[0]), _dft_matrices(s[1], s[1], count)
    real, imaginary = x.parts
    real, imaginary = cos_down @ real - sin_down @ imaginary, cos_down @ imaginary + sin_down @ real
    # All frequencies but the first, and the last of an even side, also represent their conjugates.
    weights = np.full(count, 2.0, np.float32)
    weights[[0, -1] if s[1] % 2 == 0 else [0]] = 1.0
    scale = torch.from_numpy(weights / np.float32(s[0] * s[1]))
    return (real * scale) @ cos_across.T - (imaginary * scale) @ sin_across.T


def _dft_matrices(size: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of ``2 pi j k / size``, for ``j < rows`` and ``k < columns``."""
    angle = np.outer(np.arange(rows), np.arange(columns)) % size * (2.0 * np.pi / size)
    return torch.from_numpy(np.cos(angle).astype(np.float32)), torch.from_numpy(np.sin(angle).astype(np.float32))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.searchsorted: _searchsorted,
    torch.cumprod: _cumprod,
    Tensor.cumprod: _cumprod,
    torch.nanmedian: _nanmedian,
    Tensor.nanmedian: _nanmedian,
    F.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    F.avg_pool2d: _avg_pool2d,
    F.pixel_unshuffle: _pixel_unshuffle,
    torch.fft.rfft2: _rfft2,
    torch.fft.irfft2: _irfft2,
    torch.complex: ComplexPair,
    torch.polar: polar,
    torch.view_as_complex: view_as_complex,
    torch._C._set_grad_enabled: lambda _: None,
}
"""Functions of torch without an operator of ONNX, or with a slow one. Gradients are off while a model is traced, and
each `torch.no_grad` would become a subgraph."""
