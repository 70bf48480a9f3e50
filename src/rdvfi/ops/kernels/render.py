"""Drawing frames on CUDA: the kernel of `rdvfi.ops.render`.

One program instance draws a tile of pixels of one frame: it upsamples the eight small maps for its
pixels, looks both images up, blends, clamps and stores. Nothing but frames is written.

Floor, per pixel of a frame and with s bytes per value: two images of three channels are read and
three values written, ``9 s`` bytes, and the small maps once, ``32 h w / (H W)``: about 1.6 bytes at
1024x576 with maps of 224x128, in all 38 bytes for float32 and 20 for float16. A copy of the frames
alone moves ``6 s``. About 250 operations a pixel stay below what the memory allows.

Reads of the images are not compulsory: all times of a pair look at the same two images. Instances
are numbered sample, tile, time, with time the fastest, so those that run together draw the same
part of several frames and share it through the L2 cache; then ``3 s`` bytes written per pixel and
``6 s / T`` read remain. For that, and for any size,
nothing is planned in shared memory: corners shared by neighbours come from the L1 cache.

Not yet run or measured on a GPU.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdvfi.ops.kernels.sampling import bilinear, corners

BLOCK_Y, BLOCK_X = 8, 64
"""Pixels of one program instance."""


@triton.jit
@no_type_check
def _small_place(place, size, small):
    """Where the centre of pixel ``place`` of ``size`` lies on a grid of ``small`` pixels."""
    return (place + 0.5) * (small * 1.0 / size) - 0.5


@triton.jit
@no_type_check
def _colour(image, x, y, height, width, stride_c, stride_y, stride_x, inside):
    """Red, green and blue of the image at a float32 position."""
    x0, y0, x1, y1, fx, fy = corners(x, y, height, width)
    r = bilinear(image, x0, y0, x1, y1, fx, fy, stride_y, stride_x, inside)
    g = bilinear(image + stride_c, x0, y0, x1, y1, fx, fy, stride_y, stride_x, inside)
    b = bilinear(image + 2 * stride_c, x0, y0, x1, y1, fx, fy, stride_y, stride_x, inside)
    return r, g, b


@triton.jit
@no_type_check
def _store(out, colour, inside):
    tl.store(out, tl.minimum(tl.maximum(colour, 0.0), 1.0).to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _render_kernel(
    img0,
    img1,
    flow0,
    flow1,
    mask,
    residual,
    out,
    times,
    height,
    width,
    small_height,
    small_width,
    img0_b,
    img0_c,
    img0_y,
    img0_x,
    img1_b,
    img1_c,
    img1_y,
    img1_x,
    flow0_b,
    flow0_t,
    flow0_c,
    flow0_y,
    flow0_x,
    flow1_b,
    flow1_t,
    flow1_c,
    flow1_y,
    flow1_x,
    mask_b,
    mask_t,
    mask_y,
    mask_x,
    residual_b,
    residual_t,
    residual_c,
    residual_y,
    residual_x,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    tiles_x = (width + BLOCK_X - 1) // BLOCK_X
    tiles_y = (height + BLOCK_Y - 1) // BLOCK_Y
    index = tl.program_id(0)
    t = (index % times).to(tl.int64)
    tile = index // times
    b = (tile // (tiles_x * tiles_y)).to(tl.int64)
    y = (tile // tiles_x % tiles_y * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]
    x = (tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]
    inside = (y < height) & (x < width)

    img0 += b * img0_b
    img1 += b * img1_b
    flow0 += b * flow0_b + t * flow0_t
    flow1 += b * flow1_b + t * flow1_t
    mask += b * mask_b + t * mask_t
    residual += b * residual_b + t * residual_t
    small_x, small_y = _small_place(x, width, small_width), _small_place(y, height, small_height)
    x0, y0, x1, y1, fx, fy = corners(small_x, small_y, small_height, small_width)
    to_x, to_y = width * 1.0 / small_width, height * 1.0 / small_height

    dx = bilinear(flow0, x0, y0, x1, y1, fx, fy, flow0_y, flow0_x, inside) * to_x
    dy = bilinear(flow0 + flow0_c, x0, y0, x1, y1, fx, fy, flow0_y, flow0_x, inside) * to_y
    r0, g0, b0 = _colour(img0, x + dx, y + dy, height, width, img0_c, img0_y, img0_x, inside)
    dx = bilinear(flow1, x0, y0, x1, y1, fx, fy, flow1_y, flow1_x, inside) * to_x
    dy = bilinear(flow1 + flow1_c, x0, y0, x1, y1, fx, fy, flow1_y, flow1_x, inside) * to_y
    r1, g1, b1 = _colour(img1, x + dx, y + dy, height, width, img1_c, img1_y, img1_x, inside)
    blend = bilinear(mask, x0, y0, x1, y1, fx, fy, mask_y, mask_x, inside)
    red, green, blue = r1 + blend * (r0 - r1), g1 + blend * (g0 - g1), b1 + blend * (b0 - b1)

    r0, g0, b0 = _colour(
        residual,
        small_x,
        small_y,
        small_height,
        small_width,
        residual_c,
        residual_y,
        residual_x,
        inside,
    )
    out += (((b * times + t) * 3) * height + y) * width + x
    _store(out, red + r0, inside)
    _store(out + height * width, green + g0, inside)
    _store(out + 2 * (height * width), blue + b0, inside)


def render(
    img0: Tensor,
    img1: Tensor,
    flow0: Tensor,
    flow1: Tensor,
    mask: Tensor,
    residual: Tensor,
) -> Tensor:
    """See `rdvfi.ops.render`; any strides."""
    (b, t), (h, w) = flow0.shape[:2], img0.shape[-2:]
    out = torch.empty((b, t, 3, h, w), dtype=img0.dtype, device=img0.device)
    if out.numel():
        mask_strides = [mask.stride(axis) for axis in (0, 1, 3, 4)]
        tensors = (img0, img1, flow0, flow1)
        strides = [stride for tensor in tensors for stride in tensor.stride()]
        with torch.cuda.device_of(out):
            _render_kernel[(b * t * -(-h // BLOCK_Y) * -(-w // BLOCK_X),)](
                img0,
                img1,
                flow0,
                flow1,
                mask,
                residual,
                out,
                t,
                h,
                w,
                flow0.shape[-2],
                flow0.shape[-1],
                *(strides + mask_strides + [*residual.stride()]),
                BLOCK_Y=BLOCK_Y,
                BLOCK_X=BLOCK_X,
            )
    return out
