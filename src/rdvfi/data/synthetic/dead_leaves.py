"""Dead-leaves images: textures generated from random numbers, where there are no photographs.

Opaque shapes fall on one another, their sizes drawn from a power law between the smallest and the
largest, until nothing of the ground is seen. Such pictures have the scale invariance, the edges at every
scale and the occlusions of photographs (Lee, Mumford and Huang, Occlusion models for natural images,
IJCV 2001), and networks learn representations from them (Baradad et al., Learning to see by looking
at noise, NeurIPS 2021). Each shape has a colour, a slope of brightness and a texture of smoothed noise.
"""

import numpy as np
from numpy.random import Generator

from rdvfi.media.pixels import Picture

LEAVES = 2500
"""Shapes of a picture."""
_RADII = (8.0, 260.0)
_CORNERS = (3, 9)


def dead_leaves(rng: Generator, size: tuple[int, int]) -> Picture:
    """One picture, 8-bit RGB of a height and width."""
    import cv2

    h, w = size
    grains = [_grain(rng, size, cells) for cells in (2, 6, 24)]
    # Brightness varies more than hue does, as in photographs.
    palette = rng.uniform(0.1, 0.9, (12, 1)) + rng.normal(0.0, 0.12, (12, 3))
    picture = (palette[0] + 0.1 * grains[2][:, :, None]).astype(np.float32) * np.ones((h, w, 3), np.float32)
    for radius in _radii(rng, LEAVES):
        corners = _outline(rng, radius, size)
        left, top = corners.min(0).clip(0, (w, h))
        right, bottom = (corners.max(0) + 1).clip(0, (w, h))
        if left == right or top == bottom:
            continue  # it lies outside
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


def _radii(rng: Generator, count: int) -> np.ndarray:
    """Radii with a density that falls with their cube, between the smallest and the largest."""
    least, most = (radius**-2.0 for radius in _RADII)
    return rng.uniform(most, least, count) ** -0.5


def _outline(rng: Generator, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Corners of a shape: an ellipse of many, or a polygon of few, somewhere in the picture."""
    corners = 24 if rng.random() < 0.5 else int(rng.integers(*_CORNERS))
    angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners)) if corners < 24 else np.linspace(0.0, 2.0 * np.pi, 24)
    stretch = rng.uniform(0.4, 1.0)
    turn = rng.uniform(0.0, np.pi)
    x, y = radius * np.cos(angles), stretch * radius * np.sin(angles)
    centre = rng.uniform(0.0, 1.0, 2) * size[::-1]
    turned = np.stack((x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)), axis=1)
    return (turned + centre).round().astype(np.int32)


def _grain(rng: Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Noise of about unit variance whose grains are some pixels wide."""
    import cv2

    coarse = rng.normal(0.0, 1.0, (size[0] // cells + 2, size[1] // cells + 2)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
