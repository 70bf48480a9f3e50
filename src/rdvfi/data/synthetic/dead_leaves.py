"""Dead-leaves images: textures generated from random numbers, where there are no photographs.

Opaque shapes are painted over each other until they cover the picture. Their radii follow a power law.
Such pictures share the scale invariance, the edges at every scale and the occlusions of photographs (Lee,
Mumford and Huang, Occlusion models for natural images, IJCV 2001), and networks learn representations from
them (Baradad et al., Learning to see by looking at noise, NeurIPS 2021). Each shape has a colour, a
brightness gradient and a texture of smoothed noise.
"""

import numpy as np
from numpy.random import Generator

from rdvfi.media.pixels import Picture

LEAF_COUNT = 2500
_RADIUS_RANGE = (8.0, 260.0)
"""Smallest and largest radius of a shape, in pixels."""
_CORNER_RANGE = (3, 9)
"""Corners of a polygon; the upper bound is exclusive."""


def dead_leaves(rng: Generator, size: tuple[int, int]) -> Picture:
    """A random 8-bit RGB picture of ``size = (h, w)``."""
    import cv2

    h, w = size
    grains = [_sample_grain(rng, size, cells) for cells in (2, 6, 24)]
    # Brightness varies more than hue does, as in photographs.
    palette = rng.uniform(0.1, 0.9, (12, 1)) + rng.normal(0.0, 0.12, (12, 3))
    picture = (palette[0] + 0.1 * grains[2][:, :, None]).astype(np.float32) * np.ones((h, w, 3), np.float32)
    for radius in _sample_radii(rng, LEAF_COUNT):
        corners = _sample_outline(rng, radius, size)
        left, top = corners.min(0).clip(0, (w, h))
        right, bottom = (corners.max(0) + 1).clip(0, (w, h))
        if left == right or top == bottom:
            continue  # outside the picture
        matte = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(matte, [corners - (left, top)], 1, lineType=cv2.LINE_8)
        y, x = np.nonzero(matte)
        if len(y) == 0:
            continue
        y, x = y + top, x + left
        colour = palette[rng.integers(len(palette))] + rng.normal(0.0, 0.08, 3)
        slope = rng.normal(0.0, 0.15) * (x - x.mean()) / radius
        grain = grains[rng.integers(len(grains))][y, x] * rng.uniform(0.0, 0.25)
        picture[y, x] = colour + (slope + grain)[:, None]
    return (255.0 * cv2.GaussianBlur(picture, (0, 0), 0.6).clip(0.0, 1.0)).round().astype(np.uint8)


def _sample_radii(rng: Generator, count: int) -> np.ndarray:
    """Radii r in `_RADIUS_RANGE` with density proportional to r^-3."""
    smallest, largest = _RADIUS_RANGE
    return rng.uniform(largest**-2.0, smallest**-2.0, count) ** -0.5


def _sample_outline(rng: Generator, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Corners (n, 2) of an ellipse or a polygon at a random position of the picture."""
    corners = 24 if rng.random() < 0.5 else int(rng.integers(*_CORNER_RANGE))
    angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners)) if corners < 24 else np.linspace(0.0, 2.0 * np.pi, 24)
    stretch = rng.uniform(0.4, 1.0)
    turn = rng.uniform(0.0, np.pi)
    x, y = radius * np.cos(angles), stretch * radius * np.sin(angles)
    centre = rng.uniform(0.0, 1.0, 2) * size[::-1]
    turned = np.stack((x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)), axis=1)
    return (turned + centre).round().astype(np.int32)


def _sample_grain(rng: Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth noise of about unit variance that varies over ``cells`` pixels."""
    import cv2

    coarse = rng.normal(0.0, 1.0, (size[0] // cells + 2, size[1] // cells + 2)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
