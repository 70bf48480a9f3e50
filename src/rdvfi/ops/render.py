"""Drawing frames: the one full-size pass of the whole pipeline.

For every requested time, small maps (two flows, a blend mask, an RGB residual) are upsampled to
the image size, both end frames are warped along the flows, and blended::

    frame = mask * warp(img0, flow0) + (1 - mask) * warp(img1, flow1) + residual

Without gradients this is the operator ``rdvfi::render``, which never holds a full-size intermediate
of all frames: on a CPU it works band by band in OpenCV (`rdvfi.ops.bands`), tile by tile in torch
where that is not possible (`rdvfi.ops.tiles`), or by code compiled on demand (`rdvfi.ops.native`);
elsewhere it works on a few frames at a time, and CUDA has a kernel
(`rdvfi.ops.kernels.render`). With gradients it is the plain composition
(`rdvfi.ops.drawing`).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.bands import draw_in_bands, fits, is_exact
from rdvfi.ops.drawing import draw_bilinear, draw_consistent, join
from rdvfi.ops.kernels import usable
from rdvfi.ops.native import draw_compiled, is_compiled
from rdvfi.ops.tiles import draw_in_tiles
from rdvfi.types import Flows, Image, Video

_PIXELS_AT_ONCE = 4_000_000
"""Full-size pixels drawn in one go by the plain composition without gradients.

It takes about 100 bytes a pixel: 400 MB for four megapixels. A larger frame goes whole."""

UPSAMPLING = {"bilinear": draw_bilinear, "consistent": draw_consistent}
"""Ways from the small grid to the full size, by name."""


def render(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
    *,
    upsample: str = "bilinear",
) -> Video:
    """Draw frames from both end frames along small-grid flows.

    Differentiable in every argument. Coordinates are float32 whatever the images' type.

    Args:
        img0: First frames.
        img1: Last frames.
        flow0: Where each pixel of the new frames is found in ``img0``, in small-grid pixels.
        flow1: The same for ``img1``.
        mask: Share of the first frame in the blend, [0, 1].
        residual: Added colour.
        upsample: "bilinear" upsamples the flows; "consistent" draws along each of the four
            neighbouring flows and mixes the colours, see `rdvfi.ops.drawing`: better edges where
            the flow is exact, at several times the cost.

    Returns:
        The frames, clamped to [0, 1] where no gradient is recorded, in the images' type.

    Raises:
        ValueError: If shapes do not belong together, or ``upsample`` is no known way.
    """
    arguments = (img0, img1, flow0, flow1, mask, residual)
    _check(*arguments)
    if upsample not in UPSAMPLING:
        raise ValueError(f"no upsampling named {upsample!r}; expected one of {[*UPSAMPLING]}")
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments):
        return reference(*arguments, upsample=upsample)
    return _render(*arguments, upsample)


def reference(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
    *,
    upsample: str = "bilinear",
) -> Video:
    """`render` as a plain composition, unclamped: differentiable, and all frames at once."""
    b, t = flow0.shape[:2]
    maps = join(flow0, flow1, mask, residual).flatten(0, 1)
    first, last = (image.to(maps.dtype)[:, None].expand(b, t, *image.shape[1:]).flatten(0, 1) for image in (img0, img1))
    draw = UPSAMPLING[upsample]
    return draw(first, last, maps).unflatten(0, (b, t)).to(img0.dtype)


def _in_chunks(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    upsample: str,
) -> Tensor:
    """Frames by the plain composition, a few at a time."""
    b, t, h, w = *flow0.shape[:2], *img0.shape[-2:]
    frames = img0.new_empty((b, t, 3, h, w))
    chunk = max(1, min(t, _PIXELS_AT_ONCE // (h * w)))
    for i in range(b):
        for start in range(0, t, chunk):
            part = slice(start, start + chunk)
            maps = [x[i : i + 1, part] for x in (flow0, flow1, mask, residual)]
            drawn = reference(img0[i : i + 1], img1[i : i + 1], *maps, upsample=upsample)
            torch.clamp(drawn[0], 0.0, 1.0, out=frames[i, part])
    return frames


# The annotations are plain: they are the operator's schema.
@torch.library.custom_op("rdvfi::render", mutates_args=())
def _render(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    upsample: str,
) -> Tensor:
    """Frames without gradients."""
    return _in_chunks(img0, img1, flow0, flow1, mask, residual, upsample)


@_render.register_kernel("cpu")
def _(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    upsample: str,
) -> Tensor:
    if upsample != "bilinear":
        return _in_chunks(img0, img1, flow0, flow1, mask, residual, upsample)
    maps = join(*(x.float() for x in (flow0, flow1, mask, residual)))
    draw = _way_on_cpu(img0.shape[-2], img0.shape[-1])
    return draw(img0.float(), img1.float(), maps).to(img0.dtype)


def _way_on_cpu(h: int, w: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The fastest way to draw frames of this size here."""
    if is_compiled() and h * w < 2**31:  # compiled code counts pixels in 32 bits
        return draw_compiled
    return draw_in_bands if fits(h, w) and is_exact() else draw_in_tiles


@_render.register_kernel("cuda")
def _(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    upsample: str,
) -> Tensor:
    tensors = (img0, img1, flow0, flow1, mask, residual)
    if not usable(*tensors):
        return _in_chunks(*tensors, upsample)
    from rdvfi.ops.kernels import render as kernel

    return kernel.render(*tensors, upsample)


@_render.register_fake
def _(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
    upsample: str,
) -> Tensor:
    b, t = flow0.shape[:2]
    return img0.new_empty((b, t, 3, *img0.shape[-2:]))


def _check(img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor) -> None:
    b, t, h, w = (flow0.shape[i] for i in (0, 1, -2, -1))
    expected = {
        "img0": (img0, (b, 3, *img0.shape[-2:])),
        "img1": (img1, tuple(img0.shape)),
        "flow0": (flow0, (b, t, 2, h, w)),
        "flow1": (flow1, (b, t, 2, h, w)),
        "mask": (mask, (b, t, 1, h, w)),
        "residual": (residual, (b, t, 3, h, w)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}; beside img0 {tuple(img0.shape)} and "
                f"flow0 {tuple(flow0.shape)} it must be {shape}"
            )
