"""Decoding of image files to upright RGB or RGBA, 8 or 16 bits per channel.

OpenCV decodes most formats, since it keeps 16 bits and refuses truncated files. FFmpeg decodes EXR, DPX and deep
JPEG 2000, Pillow the rest.
"""

from io import BytesIO

import numpy as np

from rdvfi.media.image_files.image_header import PILLOW_FORMATS, ImageHeader, avif_bits
from rdvfi.media.pixels import Pixels

_FFMPEG_DEMUXERS = {"EXR": "exr_pipe", "DPX": "dpx_pipe"}


def decode_pixels(data: bytes, header: ImageHeader, name: str) -> Pixels:
    """The pixels of a file's content, with straight alpha; errors call it ``name``.

    Raises:
        ValueError: If it is damaged, or disagrees with its header.
    """
    try:
        pixels = _decode(data, header)
    except MemoryError:
        raise MemoryError(f"not enough memory to read {name}, {header.width}x{header.height}") from None
    except Exception as error:  # decoders raise anything for bytes that they do not expect
        raise ValueError(f"{name} is not an image that can be read, or is damaged") from error
    if pixels.shape[:2] != (header.height, header.width) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{name} is damaged: it declares {header.width}x{header.height} pixels, and holds "
            f"{pixels.shape[1]}x{pixels.shape[0]} of {pixels.dtype}"
        )
    return pixels


def _decode(data: bytes, header: ImageHeader) -> Pixels:
    from rdvfi.media.metadata.orientation import Orientation

    kind, deep = header.kind, header.bits > 8
    if kind in _FFMPEG_DEMUXERS:
        return _decode_with_ffmpeg(data, _FFMPEG_DEMUXERS[kind], alpha=header.alpha, deep=deep)
    if kind == "JPEG2000" and deep:
        return _decode_with_ffmpeg(data, "j2k_pipe", alpha=header.alpha, deep=True)
    # OpenCV premultiplies the colours of 8-bit TIFF, and does not know TGA.
    pixels = None
    if kind != "TGA" and not (kind == "TIFF" and header.alpha and not deep):
        pixels = _decode_with_opencv(data, header)
    if pixels is None and not deep:
        pixels = _decode_with_pillow(data, alpha=header.alpha)
    if pixels is None:
        raise ValueError("no decoder")
    return Orientation.from_exif(header.orientation).apply(pixels)


def _decode_with_opencv(data: bytes, header: ImageHeader) -> Pixels | None:
    import cv2

    as_colour = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    unchanged = header.alpha or header.grey_floats  # OpenCV does not convert grey floats to colour
    log_level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)  # OpenCV would print the error as well
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if unchanged else as_colour)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(log_level)
    if pixels is None:
        return None
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.dtype.kind == "f":
        pixels = _to_uint16(pixels)
    elif header.kind == "AVIF" and header.bits > 8:  # OpenCV does not scale values of 10 or 12 bits
        scale = 65535 / (2 ** avif_bits(data) - 1)
        pixels = np.round(pixels.astype(np.float32) * scale).astype(np.uint16)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _to_uint16(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as 16 bits; NaN is black."""
    clipped = np.clip(np.nan_to_num(values.astype(np.float32), posinf=1.0, neginf=0.0), 0.0, 1.0)
    return np.round(clipped * 65535).astype(np.uint16)


def _decode_with_pillow(data: bytes, *, alpha: bool) -> Pixels:
    import PIL.Image

    with PIL.Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
        return np.array(image.convert("RGBA" if alpha else "RGB"))


def _decode_with_ffmpeg(data: bytes, demuxer: str, *, alpha: bool, deep: bool) -> Pixels:
    import av

    with av.open(BytesIO(data), "r", format=demuxer) as container:
        frame = next(container.decode(video=0))
    if "f32" in frame.format.name or "f16" in frame.format.name:
        return _encode_linear_frame(frame, alpha=alpha)
    formats = {(False, False): "rgb24", (False, True): "rgb48le", (True, False): "rgba", (True, True): "rgba64le"}
    return frame.to_ndarray(format=formats[alpha, deep])


def _encode_linear_frame(frame, *, alpha: bool) -> Pixels:
    """A frame of linear light with premultiplied alpha, as EXR stores it, as sRGB with straight alpha."""
    from rdvfi.media.colour import plane_rows

    dtype = np.float16 if "f16" in frame.format.name else np.float32
    planes = [plane_rows(plane, dtype).astype(np.float32) for plane in frame.planes]
    # Planes are green, blue, red, or a single grey one, and then alpha.
    colour_planes = [planes[0]] * 3 if len(planes) < 3 else [planes[2], planes[0], planes[1]]
    colours = np.nan_to_num(np.stack(colour_planes, axis=-1), posinf=1e6, neginf=0.0)
    if not alpha:
        return _to_uint16(_encode_srgb(colours))
    coverage = np.clip(np.nan_to_num(planes[-1]), 0.0, 1.0)[..., None]
    straight = colours / np.maximum(coverage, 1e-6)
    return _to_uint16(np.concatenate([_encode_srgb(straight), coverage], axis=-1))


def _encode_srgb(linear: np.ndarray) -> np.ndarray:
    """The transfer function of IEC 61966-2-1."""
    light = np.clip(linear, 0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
