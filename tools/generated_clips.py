"""Generated clips with content that is rare in real ones, drawn over photographs of scikit-image.

They contain a rotation too slow for a classical matcher (`globe`), an object without texture that
is turned by hand (`dark_object`), and a fixed camera with a static but noisy background (`walkers`).
All are 640x360, 73 frames: eight pairs at a gap of 9.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from skimage import data

SIZE = (360, 640)
FRAMES = 73
SUPERSAMPLE = 2
"""Samples per pixel in each direction."""


def globe() -> Iterator[np.ndarray]:
    """A textured globe turns by 1.2 degrees a frame about a tilted axis before a static picture."""
    h, w = (SUPERSAMPLE * n for n in SIZE)
    texture = cv2.resize(np.concatenate((data.coffee(), data.coffee()[:, ::-1]), axis=1), (2048, 1024))
    background = cv2.GaussianBlur(cv2.resize(data.rocket(), (w, h)), (0, 0), 3.0)
    radius = 0.42 * h
    y, x = np.mgrid[:h, :w].astype(np.float32)
    u, v = (x - w / 2) / radius, (y - h / 2) / radius
    depth = np.sqrt(np.clip(1.0 - u * u - v * v, 0.0, None))
    tilt = np.radians(20.0)
    rotated_x, rotated_y = u * np.cos(tilt) + v * np.sin(tilt), v * np.cos(tilt) - u * np.sin(tilt)
    latitude = np.arcsin(np.clip(rotated_y, -1.0, 1.0)) / np.pi + 0.5
    coverage = np.clip((1.0 - np.hypot(u, v)) * radius + 0.5, 0.0, 1.0)[..., None]
    shade = (0.35 + 0.65 * depth)[..., None]
    for i in range(FRAMES):
        longitude = (np.arctan2(rotated_x, depth) / (2.0 * np.pi) + 1.2 * i / 360.0) % 1.0
        positions = (longitude * 2048).astype(np.float32), (latitude * 1023).astype(np.float32)
        surface = cv2.remap(texture, *positions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        yield _downscale(coverage * shade * surface + (1.0 - coverage) * background)


def dark_object() -> Iterator[np.ndarray]:
    """A plain dark slab is turned by a hand, unevenly, before a plain ground."""
    h, w = (SUPERSAMPLE * n for n in SIZE)
    y = np.linspace(0.0, 1.0, h, dtype=np.float32)[:, None, None]
    background = np.broadcast_to(np.array([196.0, 192.0, 184.0], np.float32) - 14.0 * y, (h, w, 3))
    for i in range(FRAMES):
        t = i / (FRAMES - 1)
        angle = 1.1 * np.sin(2.0 * np.pi * 1.3 * t) + 0.15 * np.sin(2.0 * np.pi * 5.0 * t)
        width = 0.32 + 0.10 * np.cos(2.0 * np.pi * 0.9 * t)  # foreshortening
        centre = np.array([0.5 * w + 0.08 * w * np.sin(2.0 * np.pi * 0.7 * t), 0.45 * h])
        axis, normal = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        picture = background.copy()
        wrist = centre + 0.30 * h * normal
        elbow = (0.55 * w, 1.2 * h)
        _line(picture, wrist, elbow, 0.17 * h, (206, 160, 132))
        corners = [centre + h * (a * 0.5 * width * axis + b * 0.27 * normal) for a, b in _SQUARE]
        cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], (34, 34, 38), cv2.LINE_AA)
        inner = [centre + h * (a * 0.42 * width * axis + b * 0.23 * normal) for a, b in _SQUARE]
        cv2.fillPoly(picture, [np.rint(inner).astype(np.int32)], (41, 41, 46), cv2.LINE_AA)
        _line(picture, wrist, wrist - 0.10 * h * normal + 0.10 * h * axis, 0.05 * h, (214, 168, 140))
        yield _downscale(picture)


def walkers() -> Iterator[np.ndarray]:
    """Small figures walk before a fixed camera with a noisy sensor."""
    h, w = (SUPERSAMPLE * n for n in SIZE)
    rng, up = np.random.default_rng(5), np.array([0.0, 1.0])
    background = cv2.resize(data.coffee()[:225], (w, h)).astype(np.float32) * 0.7 + 40.0
    people = [
        (rng.uniform(0.0, w), h * rng.uniform(0.35, 0.9), rng.uniform(2.0, 5.0) * rng.choice([-1, 1]), rng.random(3))
        for _ in range(9)
    ]
    for i in range(FRAMES):
        picture = background.copy()
        for x, y, speed, tint in people:
            size = 0.04 * h + 0.06 * y
            centre = np.array([(x + speed * i) % (1.2 * w) - 0.1 * w, y])
            swing = 0.25 * size * np.sin(0.35 * i + x)
            dark = tuple(float(v) for v in 30.0 + 60.0 * tint)
            for side in (-1.0, 1.0):
                _line(picture, centre, centre + np.array([side * swing, 0.5 * size]), 0.12 * size, dark)
            _line(picture, centre, centre - up * 0.45 * size, 0.26 * size, tuple(60.0 + 150.0 * tint))
            _line(picture, centre - up * 0.7 * size, centre - up * 0.72 * size, 0.2 * size, (200, 160, 140))
        downscaled = cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA)
        yield np.clip(np.rint(downscaled + rng.normal(0.0, 4.0, downscaled.shape)), 0, 255).astype(np.uint8)


_SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def _line(picture: np.ndarray, start, end, width: float, colour) -> None:
    ends = [tuple(int(v) for v in np.rint(point)) for point in (start, end)]
    cv2.line(picture, *ends, [float(v) for v in colour], max(1, round(width)), cv2.LINE_AA)


def _downscale(picture: np.ndarray) -> np.ndarray:
    downscaled = cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(downscaled), 0, 255).astype(np.uint8)


GENERATED: dict[str, Callable[[], Iterator[np.ndarray]]] = {
    "globe": globe,
    "dark_object": dark_object,
    "walkers": walkers,
}
"""Functions that generate the 8-bit RGB frames of each clip."""
