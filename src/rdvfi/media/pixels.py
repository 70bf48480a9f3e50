"""Conversion between pixels of files and tensors of models."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from rdvfi.types import Image

Picture = UInt8[np.ndarray, "_ _ 3"]
"""One RGB frame, 8 bits per channel."""

RgbPixels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
"""One RGB frame, 8 or 16 bits per channel."""

Pixels = UInt8[np.ndarray, "_ _ _"] | UInt16[np.ndarray, "_ _ _"]
"""One frame, RGB or RGBA with straight alpha; 16 bits per channel if the source has more than 8."""

BLACK = (0, 0, 0)

_ROWS_PER_BLOCK = 64
"""Rows of a frame that are converted at a time, so that they stay in the processor's cache."""

EXACT, FFMPEG = "exact", "ffmpeg"
"""Conversions of video to RGB: accurate, or libswscale's default; see `rdvfi.media.colour`."""
CONVERSIONS = (EXACT, FFMPEG)


def to_tensor(pixels: RgbPixels, *, device: torch.device, dtype: torch.dtype) -> Image:
    """RGB pixels as one (1, 3, H, W) image in [0, 1].

    16-bit pixels stay in float32 whatever ``dtype`` is, since half precision has 11 bits.
    """
    scale = 1.0 / np.iinfo(pixels.dtype).max
    if device.type == "cpu":
        values = np.empty((1, 3, *pixels.shape[:2]), np.float32)
        for channel, plane in zip(cv2.split(pixels), values[0], strict=True):  # faster than torch
            np.multiply(channel, np.float32(scale), out=plane)
        image = torch.from_numpy(values)
        return image if pixels.dtype.itemsize > 1 else image.to(dtype)
    stored = torch.from_numpy(pixels)
    stored = stored.pin_memory() if device.type == "cuda" else stored  # else the copy would wait for the device
    tensor = stored.to(device, non_blocking=True).permute(2, 0, 1)[None].contiguous()  # few bytes are moved
    image = tensor.to(torch.float32).mul_(scale)
    return image if pixels.dtype.itemsize > 1 else image.to(dtype)


def to_pixels(frame: Float[Tensor, "_ H W"], *, deep: bool) -> Pixels:
    """One image in [0, 1] as pixels, rounded to the nearest value; 16 bits per channel if ``deep``."""
    maximum = 65535 if deep else 255
    if frame.device.type == "cpu":
        return cv2.merge(list(_quantize(frame.to(torch.float32).numpy(), maximum)))
    scaled = frame.to(torch.float32).mul(maximum).add_(0.5).clamp_(0, maximum)
    rounded = scaled.to(torch.int32).to(torch.uint16) if deep else scaled.to(torch.uint8)
    stored = rounded.permute(1, 2, 0).contiguous()
    pixels = torch.empty_like(stored, device="cpu", pin_memory=stored.is_cuda)  # copying to pinned memory is faster
    pixels.copy_(stored)
    return pixels.numpy()


def _quantize(
    values: Float[np.ndarray, "c H W"], maximum: int
) -> UInt8[np.ndarray, "c H W"] | UInt16[np.ndarray, "c H W"]:
    quantized = np.empty(values.shape, np.uint16 if maximum > 255 else np.uint8)
    for top in range(0, values.shape[1], _ROWS_PER_BLOCK):
        rows = values[:, top : top + _ROWS_PER_BLOCK] * np.float32(maximum)
        rows += np.float32(0.5)
        with np.errstate(invalid="ignore"):  # NaN of untrained models
            quantized[:, top : top + _ROWS_PER_BLOCK] = np.clip(rows, 0, maximum, out=rows)
    return quantized


def to_picture(pixels: Pixels) -> Picture:
    """A picture as RGB of 8 bits per channel (the upper byte of 16), composited on black."""
    pixels = composite(pixels)
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def composite(pixels: Pixels, background: tuple[int, int, int] = BLACK) -> RgbPixels:
    """RGB of a picture on a background of 8-bit RGB; a picture without alpha is unchanged."""
    if pixels.shape[2] == 3:
        return pixels
    maximum = np.iinfo(pixels.dtype).max
    alpha = pixels[..., 3:].astype(np.float32) * (1 / maximum)
    behind = np.array(background, np.float32) * (maximum / 255)
    return np.round(pixels[..., :3] * alpha + behind * (1 - alpha)).astype(pixels.dtype)


def alpha_as_rgb(pixels: Pixels) -> RgbPixels:
    """The alpha channel as a grey RGB picture; white if there is none."""
    if pixels.shape[2] == 3:
        return np.full_like(pixels, np.iinfo(pixels.dtype).max)
    return np.repeat(pixels[..., 3:], 3, axis=2)


def with_alpha(pixels: Pixels) -> Pixels:
    """RGBA of a picture, opaque if it has no alpha."""
    return pixels if pixels.shape[2] == 4 else np.concatenate([pixels, alpha_as_rgb(pixels)[..., :1]], axis=2)


def unpremultiply(premultiplied: Float[Tensor, "3 H W"], alpha_rgb: Float[Tensor, "3 H W"]) -> Float[Tensor, "4 H W"]:
    """RGBA with straight alpha, from a frame on black and its alpha as a grey picture."""
    alpha = alpha_rgb.float().mean(0, keepdim=True).clamp(0.0, 1.0)
    colours = torch.where(alpha > 0.5 / 65535, premultiplied.float() / alpha.clamp_min(0.5 / 65535), 0.0)
    return torch.cat([colours.clamp(0.0, 1.0), alpha])


def expand_video_levels(picture: Picture, *, headroom: bool) -> Picture:
    """A picture for display: RGB with video levels is expanded to the full range.

    Args:
        picture: 8 bits per channel.
        headroom: Whether it has video levels; see `rdvfi.media.colour.Converter`.
    """
    if not headroom:
        return picture
    return np.clip((picture.astype(np.float32) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
