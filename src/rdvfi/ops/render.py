"""Drawing frames: the one full-size pass of the whole pipeline.

For every requested time, small maps (two flows, a blend mask, an RGB residual) are upsampled to
the image size, both end frames are warped along the flows, and blended::

    frame = mask * warp(img0, flow0) + (1 - mask) * warp(img1, flow1) + residual

Without gradients this is the operator ``rdvfi::render``, which never holds a full-size intermediate
of all frames: on a CPU it works tile by tile (`rdvfi.ops.tiles`), elsewhere on a few frames at a
time. With gradients it is the plain composition.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.tiles import draw_in_tiles
from rdvfi.types import Flows, Image, Video

_PIXELS_AT_ONCE = 4_000_000
"""Full-size pixels drawn in one go by the plain composition without gradients.

It takes about 90 bytes a pixel: 360 MB for four megapixels. A larger frame goes whole."""


def render(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
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

    Returns:
        The frames, clamped to [0, 1] where no gradient is recorded, in the images' type.

    Raises:
        ValueError: If shapes do not belong together.
    """
    arguments = (img0, img1, flow0, flow1, mask, residual)
    _check(*arguments)
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments):
        return reference(*arguments)
    return _render(*arguments)


def reference(
    img0: Image,
    img1: Image,
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
) -> Video:
    """`render` as a plain composition, unclamped: differentiable, and all frames at once."""
    b, t = flow0.shape[:2]
    maps = _join(flow0, flow1, mask, residual).flatten(0, 1)
    first, last = (
        image.to(maps.dtype)[:, None].expand(b, t, *image.shape[1:]).flatten(0, 1)
        for image in (img0, img1)
    )
    return _draw(first, last, maps).unflatten(0, (b, t)).to(img0.dtype)


# The annotations are plain: they are the operator's schema.
@torch.library.custom_op("rdvfi::render", mutates_args=())
def _render(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> Tensor:
    """Frames without gradients, a few at a time."""
    b, t, h, w = *flow0.shape[:2], *img0.shape[-2:]
    frames = img0.new_empty((b, t, 3, h, w))
    chunk = max(1, min(t, _PIXELS_AT_ONCE // (h * w)))
    for i in range(b):
        for start in range(0, t, chunk):
            part = slice(start, start + chunk)
            maps = [x[i : i + 1, part] for x in (flow0, flow1, mask, residual)]
            drawn = reference(img0[i : i + 1], img1[i : i + 1], *maps)
            torch.clamp(drawn[0], 0.0, 1.0, out=frames[i, part])
    return frames


@_render.register_kernel("cpu")
def _(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> Tensor:
    maps = _join(*(x.float() for x in (flow0, flow1, mask, residual)))
    return draw_in_tiles(img0.float(), img1.float(), maps).to(img0.dtype)


@_render.register_fake
def _(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> Tensor:
    b, t = flow0.shape[:2]
    return img0.new_empty((b, t, 3, *img0.shape[-2:]))


def _check(
    img0: Tensor, img1: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
) -> None:
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


def _join(
    flow0: Flows,
    flow1: Flows,
    mask: Float[Tensor, "b t 1 h w"],
    residual: Float[Tensor, "b t 3 h w"],
) -> Float[Tensor, "b t 8 h w"]:
    """All maps in one, flows in half-images: the unit of `grid_sample`."""
    h, w = flow0.shape[-2:]
    kind = torch.promote_types(flow0.dtype, torch.float32)
    to_unit = torch.tensor([2.0 / w, 2.0 / h], dtype=kind, device=flow0.device)[:, None, None]
    return torch.cat((flow0.to(kind) * to_unit, flow1.to(kind) * to_unit, mask, residual), dim=2)


def _draw(
    first: Float[Tensor, "n 3 H W"], last: Float[Tensor, "n 3 H W"], maps: Float[Tensor, "n 8 h w"]
) -> Float[Tensor, "n 3 H W"]:
    h, w = first.shape[-2:]
    full = F.interpolate(maps, (h, w), mode="bilinear", align_corners=False)
    identity = _identity_grid(h, w, full)
    warped = [
        F.grid_sample(
            image,
            full[:, i : i + 2].permute(0, 2, 3, 1) + identity,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        for i, image in ((0, first), (2, last))
    ]
    return torch.lerp(warped[1], warped[0], full[:, 4:5]) + full[:, 5:8]


def _identity_grid(h: int, w: int, like: Tensor) -> Float[Tensor, "1 h w 2"]:
    ys = (2.0 * torch.arange(h, dtype=like.dtype, device=like.device) + 1.0) / h - 1.0
    xs = (2.0 * torch.arange(w, dtype=like.dtype, device=like.device) + 1.0) / w - 1.0
    return torch.stack((xs.expand(h, w), ys[:, None].expand(h, w)), dim=-1)[None]
