"""Drawing frames on a CPU by OpenCV, a band of rows at a time.

The frames are those of `rdvfi.ops.render`. Everything that is costly here is a look-up between pixels, and OpenCV
looks up pixels of four values that lie side by side at about three times the speed of `grid_sample`, which gathers
each colour by itself. So images and small maps are laid out once per call as pixels of four values. `cv2.warpAffine`
then enlarges the rows of the small maps that a band needs, `cv2.remap` warps both images along them, and NumPy blends;
all that lies between the images and the frames stays in the cache of one core. A band is drawn for all times before
the next one begins, because they look at about the same part of both images.

Coordinates are interpolated as they are, not as flows: the small maps have a margin, beyond which
the coordinates go on while flows stay as they are.

OpenCV 4 rounds coordinates to 1/32 of a pixel in both functions. OpenCV 5 is required, but other
packages of OpenCV may lie over it, so `is_exact` draws a small picture first and compares; where it
differs, or where there is no OpenCV, the reference draws.
"""

import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.drawing import reference
from rdvfi.types import Image, Video

_BAND_PIXELS = 32_768
"""Pixels that a thread draws at a time, at about 100 bytes each."""
_MAX_SIDE = 32_766
"""Pixels along a side that OpenCV can address."""
_MAX_PIXELS = 3840 * 2160
"""Pixels of an image; its copies take 32 bytes each."""
_TOLERANCE = 2e-5
"""Difference from the definition, on noise, that float32 explains."""
_MAX_POSITION = 1e8
"""Positions are clamped to this, in pixels: values that are not finite cannot be looked up."""

_Pixels = Float[np.ndarray, "_ _ 4"]
"""Values side by side, as OpenCV wants them."""


class _SmallMaps(NamedTuple):
    """The small maps of one time, with a margin of one pixel."""

    places: _Pixels  # x and y in the first image, x and y in the last
    share: _Pixels  # of the first image, four times
    residual: _Pixels  # the fourth value means nothing, as in images


class _BandInputs(NamedTuple):
    """What all bands of one pair of frames share."""

    first: _Pixels
    last: _Pixels
    small: list[_SmallMaps]
    frames: Float[np.ndarray, "t 3 H W"]  # written


def fits(height: int, width: int) -> bool:
    """Whether OpenCV can draw images of this size, in reasonable memory."""
    return max(height, width) <= _MAX_SIDE and height * width <= _MAX_PIXELS


@functools.cache
def is_exact() -> bool:
    """Whether there is an OpenCV here that interpolates in float32."""
    try:
        import cv2
    except ImportError:
        return False
    random = np.random.default_rng(0).random
    # Whatever is beyond [0, 1] would be clamped, and be no test.
    first, last = (torch.from_numpy(0.8 * random((1, 3, 37, 101), np.float32)) for _ in range(2))
    maps = torch.from_numpy(0.2 * random((1, 1, 8, 7, 19), np.float32))
    try:
        apart = draw_in_bands(first, last, maps)[0] - reference.draw_band(first, last, maps[0], 0, 37)
    except cv2.error:
        return False
    return bool(apart.abs().max() < _TOLERANCE)


def draw_in_bands(img0: Image, img1: Image, maps: Float[Tensor, "b t 8 h w"]) -> Video:
    """Frames from float32 images and joined maps, clamped to [0, 1].

    Results do not depend on the number of threads. A position that is not a number looks up the first row or column.

    Args:
        img0: First frames.
        img1: Last frames.
        maps: Both flows in half-images, the unit of `grid_sample`; the share of the first frame; the residual colour.
    """
    size, (b, t) = img0.shape[-2:], maps.shape[:2]
    frames = _empty_in_large_pages(b, t, 3, *size)
    rows = max(1, _BAND_PIXELS // size[1])
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for first, last, times, drawn in zip(img0, img1, maps, frames, strict=True):
            pixels0, pixels1 = pool.map(_interleave_channels, (first, last))
            small = [*pool.map(functools.partial(_pack_maps, size=size), times)]
            pair = _BandInputs(pixels0, pixels1, small, drawn.numpy())
            tasks = deque((top, time) for top in range(0, size[0], rows) for time in range(t))
            workers = [pool.submit(_draw_queued_bands, pair, tasks, rows) for _ in range(threads)]
            for worker in workers:
                worker.result()
    return frames


def _empty_in_large_pages(*shape: int) -> Float[Tensor, "..."]:
    """Float32 memory with any content.

    NumPy asks the system for large pages, PyTorch does not: mapping small ones, one by one as they
    are first written, takes up to a third of the time of drawing.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


def _interleave_channels(image: Float[Tensor, "3 H W"]) -> Any:
    """Colours side by side. Pixels of 16 bytes are looked up faster than those of 12."""
    import cv2

    red, green, blue = image.detach().contiguous().numpy()
    return cv2.merge((red, green, blue, red))


def _pack_maps(maps: Float[Tensor, "8 h w"], size: torch.Size) -> _SmallMaps:
    """Flows as places in an image of that size, all maps with a margin."""
    import cv2

    planes = np.pad(maps.detach().numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    (height, width), (h, w) = size, maps.shape[-2:]
    places = planes[:4]
    places[0::2] *= width / 2
    places[1::2] *= height / 2
    places[0::2] += _centres(w, width)
    places[1::2] += _centres(h, height)[:, None]
    # Unlike `clip`, these two replace what is not a number.
    np.fmax(places, -_MAX_POSITION, out=places)
    np.fmin(places, _MAX_POSITION, out=places)
    share, red, green, blue = planes[4:]
    groups: Any = (places, (share,) * 4, (red, green, blue, red))  # as cv2.merge is typed narrowly
    return _SmallMaps(*(cv2.merge([*group]) for group in groups))


def _centres(small: int, large: int) -> Float[np.ndarray, " n"]:
    """Where the pixels of a small side, and one more at either end, are on the large side."""
    return ((np.arange(-1, small + 1) + 0.5) * (large / small) - 0.5).astype(np.float32)


def _draw_queued_bands(pair: _BandInputs, tasks: deque[tuple[int, int]], rows: int) -> None:
    """Draw bands while there are any; all in the same memory, because fresh memory is slow."""
    height, width = pair.frames.shape[-2:]
    rows = min(rows, height)
    pixels = np.empty((4, rows, width, 4), np.float32)
    planes = np.empty((4, rows, width), np.float32)
    while True:
        try:
            top, time = tasks.popleft()
        except IndexError:
            return
        frame = pair.frames[time, :, top : top + rows]
        count = frame.shape[1]
        _draw_band(pair, pair.small[time], top, frame, pixels[:, :count], planes[:, :count])


def _draw_band(
    pair: _BandInputs,
    small: _SmallMaps,
    top: int,
    out: Float[np.ndarray, "3 rows W"],
    pixels: Float[np.ndarray, "4 rows W 4"],
    planes: Float[np.ndarray, "4 rows W"],
) -> None:
    """Draw the rows from ``top`` into ``out``; what ``pixels`` and ``planes`` hold is lost."""
    import cv2

    warped0, warped1, share, residual = pixels
    from_small = _band_transform(small.share.shape, pair.first.shape, top)
    linear, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE

    def enlarge(maps: _Pixels, enlarged: np.ndarray) -> None:
        size, flags = enlarged.shape[1::-1], linear | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(maps, from_small, size, dst=enlarged, flags=flags, borderMode=border)

    enlarge(small.places, warped0)
    x0, y0, x1, y1 = planes
    cv2.split(warped0, [x0, y0, x1, y1])
    cv2.remap(pair.first, x0, y0, linear, dst=warped0, borderMode=border)
    cv2.remap(pair.last, x1, y1, linear, dst=warped1, borderMode=border)
    enlarge(small.share, share)
    enlarge(small.residual, residual)
    warped0 -= warped1
    warped0 *= share
    warped0 += warped1
    warped0 += residual
    np.clip(warped0, 0.0, 1.0, out=warped0)
    cv2.split(warped0, [*out, x0])


def _band_transform(small: tuple[int, ...], large: tuple[int, ...], top: int) -> Float[np.ndarray, "2 3"]:
    """Affine map from pixels of a band that begins at row ``top`` to those of maps with margin."""
    down, across = (small[0] - 2) / large[0], (small[1] - 2) / large[1]
    return np.array([[across, 0, 0.5 * across + 0.5], [0, down, (top + 0.5) * down + 0.5]])
