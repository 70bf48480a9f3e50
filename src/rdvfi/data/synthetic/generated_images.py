"""Generated images: dead-leaves textures, a facade with repeated windows, and text.

Textures follow the *dead leaves* model (Lee, Mumford and Huang, IJCV 2001): opaque discs and boxes of
scale-invariant sizes reproduce the edge and occlusion statistics of photographs. Fine grain gives every
region some texture. Pictures are float arrays (H, W, 3) in
[0, 1]; a layer is (H, W, 4) with premultiplied colour.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

DrawnPicture = Float[np.ndarray, "H W 3"]
PremultipliedLayer = Float[np.ndarray, "H W 4"]

_SHAPE_COUNT = 700
_WINDOW_SPACING = (58, 46)
_OUTLINE = 2
"""Width of the outline of text in pixels."""


def smooth_noise(rng: np.random.Generator, h: int, w: int, cell: float) -> Float[np.ndarray, "H W"]:
    """Noise that varies over ``cell`` pixels, scaled to [0, 1]."""
    grid = rng.random((int(h / cell) + 3, int(w / cell) + 3)).astype(np.float32)
    out = cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
    return (out - out.min()) / (np.ptp(out) + 1e-6)


def discs_and_boxes(rng: np.random.Generator, h: int, w: int, *, smallest: float = 3.0) -> DrawnPicture:
    """A texture of overlapping discs and boxes, the radius r with density ~ r^-3."""
    image = np.full((h, w, 3), rng.uniform(0.2, 0.8, 3), np.float32)
    largest = 0.3 * min(h, w)
    for share in rng.random(_SHAPE_COUNT):
        radius = 1.0 / np.sqrt(share / smallest**2 + (1.0 - share) / largest**2)
        centre = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        tone = np.clip(rng.uniform(0.05, 0.95) + rng.uniform(-0.15, 0.15, 3), 0.0, 1.0)
        colour = tuple(float(c) for c in tone)
        if rng.random() < 0.5:
            cv2.circle(image, centre, int(radius), colour, -1, cv2.LINE_AA)
        else:
            rectangle = (centre, (2.0 * radius, 1.4 * radius), float(rng.uniform(0.0, 180.0)))
            cv2.fillPoly(image, [cv2.boxPoints(rectangle).astype(np.int32)], colour, cv2.LINE_AA)
    shade = 0.75 + 0.5 * smooth_noise(rng, h, w, 80.0)
    grain = 0.94 + 0.12 * smooth_noise(rng, h, w, 3.0)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.7) * (shade * grain)[..., None], 0.0, 1.0)


def facade(rng: np.random.Generator, h: int, w: int) -> DrawnPicture:
    """A wall with a regular grid of windows of slightly different brightness."""
    wall = rng.uniform(0.5, 0.75, 3) * (0.93 + 0.07 * smooth_noise(rng, h, w, 3.0))[..., None]
    down, across = _WINDOW_SPACING
    for y in range(down // 4, h, down):
        for x in range(across // 4, w, across):
            pane = wall[y : y + down // 2, x : x + across // 2]
            pane[:] = (0.2 + 0.1 * rng.random()) * np.array([0.9, 1.0, 1.2])
            pane[len(pane) // 2 : len(pane) // 2 + 2] = 0.85
    return np.clip(cv2.GaussianBlur(wall.astype(np.float32), (0, 0), 0.7), 0.0, 1.0)


def lettering(
    size: tuple[int, int],
    lines: Sequence[tuple[str, int | float, int | float, int | float]],
    *,
    opacity: float = 1.0,
) -> PremultipliedLayer:
    """White text with a dark outline, from rows (text, x of the left end, y of the baseline, cap height) in pixels."""
    h, w = size
    k = 4  # supersampling factor
    fill, body = (np.zeros((h * k, w * k), np.uint8) for _ in range(2))
    for text, x, y, height in lines:
        scale, place, font = height * k / 21.0, (int(x * k), int(y * k)), cv2.FONT_HERSHEY_SIMPLEX
        stroke = max(2, round(0.14 * height * k))
        cv2.putText(body, text, place, font, scale, 255, stroke + 2 * _OUTLINE * k, cv2.LINE_AA)
        cv2.putText(fill, text, place, font, scale, 255, stroke, cv2.LINE_AA)
    white, opaque = (cv2.resize(x, (w, h), interpolation=cv2.INTER_AREA) / np.float32(255.0) for x in (fill, body))
    colour = np.clip(0.03 * opaque + 0.92 * white, 0.0, 1.0)
    return opacity * np.dstack([colour, colour, colour, np.maximum(opaque, white)]).astype(np.float32)
