"""Decoding of image files to upright RGB or RGBA, 8 or 16 bits per channel.

OpenCV decodes what it can, for it keeps 16 bits and refuses what is cut short. FFmpeg decodes EXR,
DPX and deep JPEG 2000, Pillow the rest.
"""

from io import BytesIO

import numpy as np

from rdvfi.media.image_files.image_header import PILLOW_FORMATS, ImageHeader
from rdvfi.media.pixels import Pixels

_FFMPEG = {"EXR": "exr_pipe", "DPX": "dpx_pipe"}


def decode_pixels(data: bytes, header: ImageHeader, name: str) -> Pixels:
    """The pixels of a file's content, colours not multiplied by transparency.

    Raises:
        ValueError: If it is damaged, or not what its header says.
    """
    try:
        pixels = _decode(data, header)
    except MemoryError:
        raise MemoryError(f"not enough memory to read {name}, {header.width}x{header.height}") from None
    except Exception as error:  # decoders raise anything for bytes that they do not expect
        raise ValueError(f"{name} is not an image that can be read, or is damaged") from error
    if pixels.shape[:2] != (header.height, header.width) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{name} is damaged: it says that it is {header.width}x{header.height}, and holds "
            f"{pixels.shape[1]}x{pixels.shape[0]} of {pixels.dtype}"
        )
    return pixels


def _decode(data: bytes, header: ImageHeader) -> Pixels:
    kind, deep = header.kind, header.bits > 8
    if kind in _FFMPEG:
        return _with_ffmpeg(data, _FFMPEG[kind], alpha=header.alpha, deep=deep)
    if kind == "JPEG2000" and deep:
        return _with_ffmpeg(data, "j2k_pipe", alpha=header.alpha, deep=True)
    # OpenCV multiplies the colours of 8-bit TIFF by their transparency, and does not know TGA.
    pixels = None
    if kind != "TGA" and not (kind == "TIFF" and header.alpha and not deep):
        pixels = _with_opencv(data, header)
    if pixels is None and not deep:
        pixels = _with_pillow(data, alpha=header.alpha)
    if pixels is None:
        raise ValueError("no decoder")
    return upright(pixels, header.orientation)


def _with_opencv(data: bytes, header: ImageHeader) -> Pixels | None:
    import cv2

    colour = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    whole = header.alpha or header.grey_floats  # it does not spread grey floats
    flags = cv2.IMREAD_UNCHANGED if whole else colour | cv2.IMREAD_IGNORE_ORIENTATION
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)  # it would say on the error stream what is said here
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        return None
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.dtype.kind == "f":
        pixels = _whole(pixels)
    elif header.kind == "AVIF" and header.bits > 8:  # numbers of 10 or 12 bits as they are
        pixels = np.round(pixels.astype(np.float32) * (65535 / (2 ** _avif_bits(data) - 1))).astype(np.uint16)
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order)


def _avif_bits(data: bytes) -> int:
    return 12 if data[data.find(b"av1C") + 6] & 0x20 else 10


def _whole(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as 16 bits; what is no number is black."""
    clipped = np.clip(np.nan_to_num(values.astype(np.float32), posinf=1.0, neginf=0.0), 0.0, 1.0)
    return np.round(clipped * 65535).astype(np.uint16)


def _with_pillow(data: bytes, *, alpha: bool) -> Pixels:
    import PIL.Image

    with PIL.Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
        return np.array(image.convert("RGBA" if alpha else "RGB"))


def _with_ffmpeg(data: bytes, demuxer: str, *, alpha: bool, deep: bool) -> Pixels:
    import av

    with av.open(BytesIO(data), "r", format=demuxer) as container:
        frame = next(container.decode(video=0))
    if "f32" in frame.format.name or "f16" in frame.format.name:
        return _from_linear(frame, alpha=alpha)
    forms = {(False, False): "rgb24", (False, True): "rgb48le", (True, False): "rgba", (True, True): "rgba64le"}
    return frame.to_ndarray(format=forms[alpha, deep])


def _from_linear(frame, *, alpha: bool) -> Pixels:
    """Linear light, multiplied by its transparency as EXR has it, as sRGB that is not."""
    from rdvfi.media.colour import plane_rows

    kind = np.float16 if "f16" in frame.format.name else np.float32
    planes = [plane_rows(plane, kind).astype(np.float32) for plane in frame.planes]
    if len(planes) < 3:
        colours = np.stack([planes[0]] * 3, axis=-1)
    else:
        green, blue, red = planes[:3]
        colours = np.stack([red, green, blue], axis=-1)
    colours = np.nan_to_num(colours, posinf=1e6, neginf=0.0)
    if not alpha:
        return _whole(_srgb(colours))
    cover = np.clip(np.nan_to_num(planes[-1]), 0.0, 1.0)[..., None]
    straight = colours / np.maximum(cover, 1e-6)
    return _whole(np.concatenate([_srgb(straight), cover], axis=-1))


def _srgb(linear: np.ndarray) -> np.ndarray:
    """The transfer function of IEC 61966-2-1."""
    light = np.clip(linear, 0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """A picture turned as EXIF says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    mirrored, flipped = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1])
