"""Colour conversion on the model's device: planes of a decoder to RGB, and RGB to planes of an encoder.

A video frame is a plane of luma Y and two of chroma, U and V, of which the latter mostly have half the width and
height. With the weights K_R, K_B and K_G = 1 - K_R - K_B of the file's matrix (ITU-T H.273, section 8.3),

    Y = K_R R + K_G G + K_B B,    U = (B - Y) / (2 (1 - K_B)),    V = (R - Y) / (2 (1 - K_R)),

and the numbers that are stored are ``black + luma Y``, ``half + chroma U`` and ``half + chroma V``.

Chroma is resampled by the cubic kernel with B = 0, C = 0.6 (Mitchell and Netravali, SIGGRAPH 1988), which is
stretched by two where samples become fewer; across, two columns are averaged first. A frame's border is repeated. So
does libswscale, which `rdvfi.media.colour` uses on the CPU: what both give differs by rounding.

``meaning`` is the list ``[K_R, K_B, black, half, luma, chroma, left, top]``; the last two say how many luma pixels to
the right of and below the first luma sample the first chroma sample lies, 0 or 0.5 (section 8.7).
"""

import torch
from torch import Tensor

from rdvfi.ops.inference import inference_operator


def cubic(distance: Tensor) -> Tensor:
    """The kernel at a distance in samples; 0 from 2 on."""
    x = distance.abs()
    near, far = (1.4 * x - 2.4) * x * x + 1.0, ((3.0 - 0.6 * x) * x - 4.8) * x + 2.4
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))


def _resample(values: Tensor, axis: int, positions: Tensor, stretch: int = 1) -> Tensor:
    """Values at positions between samples, along an axis; the kernel is ``stretch`` times as wide."""
    first = torch.floor(positions - 2 * stretch).long() + 1
    total = torch.zeros((), device=values.device)
    for step in range(4 * stretch):
        index = first + step
        weight = cubic((positions - index) / stretch) / stretch
        shape = [1] * values.dim()
        shape[axis] = -1
        sample = values.index_select(axis, index.clamp(0, values.shape[axis] - 1))
        total = total + weight.view(shape) * sample
    return total


def _upsample_chroma(chroma: Tensor, size: tuple[int, int], left: float, top: float) -> Tensor:
    """Chroma planes, (2, h, w), at the positions of luma."""
    for axis, (full, offset) in ((-2, (size[0], top)), (-1, (size[1], left))):
        if chroma.shape[axis] != full:
            positions = (torch.arange(full, device=chroma.device, dtype=torch.float32) - offset) / 2
            chroma = _resample(chroma, axis, positions)
    return chroma


def _downsample_to_chroma(image: Tensor, sub_y: int, sub_x: int, left: float, top: float) -> Tensor:
    """An image, (3, H, W), at the positions of chroma."""
    h, w = image.shape[-2:]
    if sub_x == 2:
        even = torch.arange(-(-w // 2), device=image.device) * 2
        pairs = (image.index_select(-1, even) + image.index_select(-1, (even + 1).clamp(max=w - 1))) / 2
        image = pairs if left == 0.5 else _resample(pairs, -1, even / 2 - 0.25)
    if sub_y == 2:
        rows = torch.arange(-(-h // 2), device=image.device, dtype=torch.float32) * 2 + top
        image = _resample(image, -2, rows, stretch=2)
    return image


def _video_to_rgb_reference(luma: Tensor, u: Tensor, v: Tensor, meaning: list[float], dtype: torch.dtype) -> Tensor:
    red, blue, black, half, light, colour, left, top = meaning
    y = (luma.float() - black) / light
    chroma = (torch.stack((u, v)).float() - half) / colour
    by_blue, by_red = _upsample_chroma(chroma, (luma.shape[0], luma.shape[1]), left, top)
    r, b = y + 2 * (1 - red) * by_red, y + 2 * (1 - blue) * by_blue
    g = (y - red * r - blue * b) / (1 - red - blue)
    return torch.stack((r, g, b)).clamp(0.0, 1.0).to(dtype)[None]


def _empty_rgb(luma: Tensor, u: Tensor, v: Tensor, meaning: list[float], dtype: torch.dtype) -> Tensor:
    return luma.new_empty((1, 3, *luma.shape), dtype=dtype)


def _rgb_to_video_reference(
    frame: Tensor, size: list[int], sub: list[int], packed: bool, bits: int, shift: int, meaning: list[float]
) -> Tensor:
    red, blue, black, half, light, colour, left, top = meaning
    indices = [torch.arange(n, device=frame.device).clamp(max=frame.shape[i + 1] - 1) for i, n in enumerate(size)]
    image = frame.float().clamp(0.0, 1.0).index_select(1, indices[0]).index_select(2, indices[1])
    r, g, b = image
    y = black + light * (red * r + (1 - red - blue) * g + blue * b)
    r, g, b = _downsample_to_chroma(image, sub[0], sub[1], left, top)
    chroma_luma = red * r + (1 - red - blue) * g + blue * b
    u, v = ((x - chroma_luma) / (2 * (1 - share)) * colour + half for x, share in ((b, blue), (r, red)))
    chroma = torch.stack((u, v), dim=-1 if packed else 0)
    integers = (torch.cat((y.flatten(), chroma.flatten())) + 0.5).floor().clamp(0, 2**bits - 1)
    return (integers.to(torch.int32) << shift).to(torch.uint8 if bits == 8 else torch.uint16)


def _empty_planes(
    frame: Tensor, size: list[int], sub: list[int], packed: bool, bits: int, shift: int, meaning: list[float]
) -> Tensor:
    count = size[0] * size[1] + 2 * -(-size[0] // sub[0]) * -(-size[1] // sub[1])
    return frame.new_empty(count, dtype=torch.uint8 if bits == 8 else torch.uint16)


_video_to_rgb = inference_operator("video_to_rgb", _video_to_rgb_reference, _empty_rgb, "video_colour")
_rgb_to_video = inference_operator("rgb_to_video", _rgb_to_video_reference, _empty_planes, "video_colour", launches=2)


def video_to_rgb(planes: tuple[Tensor, Tensor, Tensor], meaning: list[float], dtype: torch.dtype) -> Tensor:
    """RGB in [0, 1], (1, 3, H, W), of a frame's planes.

    Args:
        planes: Y, (H, W), U and V, each as large or with half the height, width, or both; of any strides.
        meaning: What their numbers mean; see the module.
        dtype: Type of the result.
    """
    return _video_to_rgb(*planes, meaning, dtype)


def rgb_to_video(
    frame: Tensor,
    size: tuple[int, int],
    sub: tuple[int, int],
    *,
    packed: bool,
    bits: int,
    shift: int,
    meaning: list[float],
) -> Tensor:
    """The numbers of a frame's planes, one after the other, rounded to the nearest: uint8, or uint16 above 8 bits.

    Args:
        frame: RGB, (3, H, W); what lies outside [0, 1] is clipped.
        size: Height and width of the planes: the frame is cropped, or its border is replicated.
        sub: Rows and columns of luma for one of chroma, 1 or 2.
        packed: Whether U and V alternate in one plane, as in NV12, instead of having a plane each.
        bits: Bits of a number.
        shift: Number of zero bits below them, as in P010.
        meaning: Encoding of numbers of ``bits`` bits, before the shift; see the module.
    """
    return _rgb_to_video(frame, list(size), list(sub), packed, bits, shift, meaning)
