"""Conversion between pixels of files and tensors of models."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from rdvfi.types import Image

Picture = UInt8[np.ndarray, "_ _ 3"]
"""One RGB frame, 8 bits a channel."""

RgbPixels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
"""One RGB frame."""

Pixels = UInt8[np.ndarray, "_ _ _"] | UInt16[np.ndarray, "_ _ _"]
"""One frame, RGB or RGBA (colours not multiplied by alpha); 16 bits a channel where the source has more than 8."""

BLACK = (0, 0, 0)

_ROWS = 64
"""Rows of a frame that are converted at a time."""

EXACT, FFMPEG = "exact", "ffmpeg"
"""Conversions of video to RGB: by accurate arithmetic, or as libswscale's default; see `rdvfi.media.colour`."""
CONVERSIONS = (EXACT, FFMPEG)


def to_tensor(pixels: RgbPixels, *, device: torch.device, dtype: torch.dtype) -> Image:
    """RGB pixels as one (1, 3, H, W) image in [0, 1].

    Deep pixels stay in float32 whatever the model's type: half precision has 11 bits.
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
    """One image in [0, 1] as pixels, rounded to the nearest value."""
    most = 65535 if deep else 255
    if frame.device.type == "cpu":
        return cv2.merge(list(_rounded(frame.to(torch.float32).numpy(), most)))
    scaled = frame.to(torch.float32).mul(most).add_(0.5).clamp_(0, most)
    rounded = scaled.to(torch.int32).to(torch.uint16) if deep else scaled.to(torch.uint8)
    stored = rounded.permute(1, 2, 0).contiguous()
    pixels = torch.empty_like(stored, device="cpu", pin_memory=stored.is_cuda)  # a few times as fast as to other memory
    pixels.copy_(stored)
    return pixels.numpy()


def _rounded(values: Float[np.ndarray, "c H W"], most: int) -> UInt8[np.ndarray, "c H W"] | UInt16[np.ndarray, "c H W"]:
    """Values in [0, 1] as whole numbers up to ``most``, some rows at a time: those stay in the processor's cache."""
    made = np.empty(values.shape, np.uint16 if most > 255 else np.uint8)
    for top in range(0, values.shape[1], _ROWS):
        rows = values[:, top : top + _ROWS] * np.float32(most)
        rows += np.float32(0.5)
        with np.errstate(invalid="ignore"):  # of models that make no pictures
            made[:, top : top + _ROWS] = np.clip(rows, 0, most, out=rows)
    return made


def to_picture(pixels: Pixels) -> Picture:
    """The same picture with 8 bits a channel, the upper byte of 16; what is transparent is shown on black."""
    pixels = composite(pixels)
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def composite(pixels: Pixels, background: tuple[int, int, int] = BLACK) -> RgbPixels:
    """RGB as it is seen on a background of 8-bit RGB; RGB itself stays as it is."""
    if pixels.shape[2] == 3:
        return pixels
    most = np.iinfo(pixels.dtype).max
    cover = pixels[..., 3:].astype(np.float32) * (1 / most)
    behind = np.array(background, np.float32) * (most / 255)
    return np.round(pixels[..., :3] * cover + behind * (1 - cover)).astype(pixels.dtype)


def alpha_as_rgb(pixels: Pixels) -> RgbPixels:
    """Alpha as a grey picture; white where a picture has none."""
    if pixels.shape[2] == 3:
        return np.full_like(pixels, np.iinfo(pixels.dtype).max)
    return np.repeat(pixels[..., 3:], 3, axis=2)


def with_alpha(pixels: Pixels) -> Pixels:
    """RGBA, opaque where there was no alpha."""
    return pixels if pixels.shape[2] == 4 else np.concatenate([pixels, alpha_as_rgb(pixels)[..., :1]], axis=2)


def unpremultiply(seen: Float[Tensor, "3 H W"], cover: Float[Tensor, "3 H W"]) -> Float[Tensor, "4 H W"]:
    """RGBA of a frame as it is seen on black, and its alpha as a grey picture."""
    alpha = cover.float().mean(0, keepdim=True).clamp(0.0, 1.0)
    colours = torch.where(alpha > 0.5 / 65535, seen.float() / alpha.clamp_min(0.5 / 65535), 0.0)
    return torch.cat([colours.clamp(0.0, 1.0), alpha])


def expand_video_levels(picture: Picture, *, headroom: bool) -> Picture:
    """A picture to look at: without the room that pixels with video levels keep.

    Args:
        picture: 8 bits a channel.
        headroom: Whether it keeps video levels, as `rdvfi.media.colour.Converter` says.
    """
    if not headroom:
        return picture
    return np.clip((picture.astype(np.float32) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
