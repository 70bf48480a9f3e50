"""Procedural scenes: photographs moving on known smooth paths, with exact flow.

A scene is a stack of textured layers over a textured background. Each layer moves by a similarity

    x(t) = c + s^u(t) R(theta u(t)) (p - c) + d u(t) + b 4 t (1 - t)

about a pivot ``c``: a turn by ``theta``, an exponential zoom by ``s``, a shift ``d`` and a bow
``b`` that leaves both ends alone. ``u(t) = t + a t (1 - t)`` is its timing. A turn, a zoom or a
shift alone, with ``a = 0`` and ``b = 0``, is **determined** by the two end frames (the matrix
between them has one natural power ``t``); turns mixed with a shift are so nearly, bows and
accelerations not at all.

Every transform is an affine matrix, so frames at any time are one `cv2.warpAffine` per layer, and
the flow from any instant to either end is exact: ``M(end) M(t)^-1`` of the layer that is on top.
A layer may hang on a joint, whose path then carries it (`rdvfi.data.synthetic.limbs`).
"""

from dataclasses import dataclass, field
from math import cos, exp, log, pi, radians, sin

import numpy as np
from jaxtyping import Bool, Float, UInt8

Affine = Float[np.ndarray, "3 3"]
Picture = UInt8[np.ndarray, "_ _ 3"]
"""8-bit RGB of any size; pictures in one list, or before and after a crop, differ in size."""


@dataclass(frozen=True)
class Path:
    """Motion of one layer; lengths in pixels of the frame, angle in radians."""

    pivot: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    bow: tuple[float, float] = (0.0, 0.0)
    acceleration: float = 0.0

    def at(self, t: float) -> Affine:
        """Matrix from the position at time 0 to the position at time ``t``."""
        u = t + self.acceleration * t * (1.0 - t)
        lift = 4.0 * t * (1.0 - t)
        scale, turn = exp(log(self.zoom) * u), self.angle * u
        a, b = scale * cos(turn), scale * sin(turn)
        cx, cy = self.pivot
        return np.array(
            [
                [a, -b, cx - a * cx + b * cy + self.shift[0] * u + self.bow[0] * lift],
                [b, a, cy - b * cx - a * cy + self.shift[1] * u + self.bow[1] * lift],
                [0.0, 0.0, 1.0],
            ]
        )


STILL = Path()
"""No motion."""


@dataclass(frozen=True)
class Layer:
    """A textured sheet.

    ``place`` takes texture pixels to frame pixels at time 0, where ``path`` moves them; ``joint``
    is the path of what the layer hangs on, which carries it along.
    """

    texture: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None
    place: Affine
    path: Path
    joint: Path = STILL

    def at(self, t: float) -> Affine:
        """Matrix from texture pixels to frame pixels at time ``t``."""
        return self.joint.at(t) @ self.path.at(t) @ self.place


@dataclass(frozen=True)
class Scene:
    """Layers from back to front; the first is the background and has no alpha."""

    layers: tuple[Layer, ...]
    size: tuple[int, int]
    _drawn: dict[float, tuple[Picture, UInt8[np.ndarray, "h w"]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def frame(self, t: float) -> Picture:
        """The picture at time ``t``, (height, width, 3), 8-bit RGB."""
        return self._draw(t)[0]

    def labels(self, t: float) -> UInt8[np.ndarray, "h w"]:
        """Index of the layer on top of every pixel at time ``t``."""
        return self._draw(t)[1]

    def _draw(self, t: float) -> tuple[Picture, UInt8[np.ndarray, "h w"]]:
        if t not in self._drawn:
            self._drawn[t] = self._compose(t)
        return self._drawn[t]

    def _compose(self, t: float) -> tuple[Picture, UInt8[np.ndarray, "h w"]]:
        import cv2

        h, w = self.size
        flags, reflect = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
        back = self.layers[0]
        frame = cv2.warpAffine(back.texture, back.at(t)[:2], (w, h), flags=flags, borderMode=reflect)
        labels = np.zeros((h, w), np.uint8)
        for index, layer in enumerate(self.layers[1:], start=1):
            matrix = layer.at(t)[:2]
            assert layer.alpha is not None
            picture = cv2.warpAffine(layer.texture, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            alpha = cv2.warpAffine(layer.alpha, matrix, (w, h), flags=flags)
            share = (alpha.astype(np.float32) * (1.0 / 255.0))[..., None]
            frame = (frame + (picture.astype(np.float32) - frame) * share + 0.5).astype(np.uint8)
            labels[alpha > 127] = index
        return frame, labels

    def sample(
        self, t: float, *, to: tuple[float, ...] = (0.0, 1.0), stride: int = 1
    ) -> tuple[Picture, Float[np.ndarray, "n 2 hs ws"], Bool[np.ndarray, "n hs ws"]]:
        """Frame at time ``t``, and exact flows to other instants with their visibility.

        Flows are on the TARGET grid of ``t``, one to each instant of ``to``, at the centre of every
        ``stride``-th cell, in **full-size** pixels. Visible means that the point lies inside that
        other frame and no other layer covers it there.
        """
        frame, labels = self._draw(t)
        h, w = self.size
        ys, xs = (np.arange(n // stride) * stride + (stride - 1) / 2.0 for n in (h, w))
        px, py = np.meshgrid(xs, ys)
        top = labels[py.astype(int), px.astype(int)]
        flows = np.zeros((len(to), 2, *px.shape), np.float32)
        visible = np.zeros((len(to), *px.shape), bool)
        for i, other in enumerate(to):
            there = self._draw(other)[1]
            for index, layer in enumerate(self.layers):
                on = top == index
                x, y = px[on], py[on]
                m = layer.at(other) @ np.linalg.inv(layer.at(t))
                qx, qy = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
                flows[i, 0][on], flows[i, 1][on] = qx - x, qy - y
                ix, iy = np.rint(qx).astype(int), np.rint(qy).astype(int)
                inside = (ix >= 0) & (ix < w) & (iy >= 0) & (iy < h)
                seen = there[iy.clip(0, h - 1), ix.clip(0, w - 1)] == index
                visible[i][on] = inside & seen
        return frame, flows, visible


def _blob(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s"]:
    """A smooth random shape filling most of a square, soft by about one pixel."""
    import cv2

    angles = np.linspace(0.0, 2.0 * pi, 96, endpoint=False)
    radius = np.full_like(angles, 0.38)
    for order in range(2, 6):
        swing = rng.normal(0.0, 0.09 / (order - 1))
        radius += swing * np.cos(order * angles + rng.uniform(0.0, 2.0 * pi))
    radius = np.clip(radius, 0.15, 0.48) * size
    points = np.stack((size / 2 + radius * np.cos(angles), size / 2 + radius * np.sin(angles)), 1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [(points * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def crop(rng: np.random.Generator, picture: Picture, h: int, w: int) -> Picture:
    """A random window of a photograph at a random moderate reduction, at least ``h`` by ``w``."""
    import cv2

    ph, pw = picture.shape[:2]
    limit = min(ph / h, pw / w)
    factor = exp(rng.uniform(log(min(1.0, limit)), log(min(limit, 4.0)))) if limit > 0 else 1.0
    ch, cw = min(ph, int(h * factor)), min(pw, int(w * factor))
    y, x = int(rng.integers(0, ph - ch + 1)), int(rng.integers(0, pw - cw + 1))
    window = picture[y : y + ch, x : x + cw]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return np.ascontiguousarray(cv2.resize(window, (w, h), interpolation=cv2.INTER_AREA))


def turning_path(centre: tuple[float, float], angle: float, displacement: float, direction: float) -> Path:
    """A turn by ``angle`` about the far point that moves ``centre`` by ``displacement`` pixels.

    The pivot lies at ``displacement / (2 sin(angle / 2))`` from the centre, towards ``direction``
    (radians).
    """
    radius = displacement / (2.0 * abs(sin(angle / 2.0)))
    pivot = (centre[0] + radius * cos(direction), centre[1] + radius * sin(direction))
    return Path(pivot=pivot, angle=angle)


def still_path(rng: np.random.Generator, size: tuple[int, int]) -> Path:
    """The gentle motion of a background."""
    h, w = size
    return Path(
        pivot=(w / 2, h / 2),
        angle=radians(rng.normal(0.0, 1.5)),
        zoom=exp(rng.normal(0.0, 0.03)),
        shift=(rng.normal(0.0, 0.03 * w), rng.normal(0.0, 0.03 * w)),
    )


def sheet(rng: np.random.Generator, pictures: list[Picture], size: tuple[int, int], path: Path) -> Layer:
    """A background that covers the frame for the whole of its path."""
    h, w = size
    margin = int(0.35 * max(h, w))
    texture = crop(rng, pictures[rng.integers(len(pictures))], h + 2 * margin, w + 2 * margin)
    place = np.array([[1.0, 0.0, -margin], [0.0, 1.0, -margin], [0.0, 0.0, 1.0]])
    return Layer(texture, None, place, path)


def _patch(
    rng: np.random.Generator,
    pictures: list[Picture],
    side: int,
    corner: tuple[float, float],
    path: Path,
) -> Layer:
    """A blob of ``side`` pixels whose box starts at ``corner`` at time 0."""
    texture = crop(rng, pictures[rng.integers(len(pictures))], side, side)
    place = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]], [0.0, 0.0, 1.0]])
    return Layer(texture, _blob(rng, side), place, path)


def curved_scene(seed: int, pictures: list[Picture], *, size: tuple[int, int] = (256, 448)) -> Scene:
    """A held-out scene of large curved motion that its end frames determine.

    In turn: a large layer, or the whole frame, turns rigidly by 35 to 90 degrees about a far point
    so that its centre moves 60 to 160 px (at 448 pixels of width), and zooms by 1.3 to 2 times.
    """
    rng = np.random.default_rng([seed, 20_26])
    h, w = size
    unit = w / 448.0
    kind = ("layer", "frame", "layer", "zoom")[seed % 4]
    angle = radians(rng.uniform(35.0, 90.0)) * rng.choice([-1.0, 1.0])
    displacement = rng.uniform(60.0, 160.0) * unit
    middle = (rng.uniform(0.4, 0.6) * w, rng.uniform(0.4, 0.6) * h)
    if kind == "zoom":
        zoom = exp(rng.uniform(log(1.3), log(2.0)) * rng.choice([-1.0, 1.0]))
        return Scene((sheet(rng, pictures, size, Path(pivot=middle, zoom=zoom)),), size)
    path = turning_path(middle, angle, displacement, rng.uniform(0.0, 2.0 * pi))
    if kind == "frame":
        return Scene((sheet(rng, pictures, size, path),), size)
    side = int(rng.uniform(0.5, 0.8) * h)
    start = np.linalg.inv(path.at(0.5)) @ np.array([middle[0], middle[1], 1.0])
    back = sheet(rng, pictures, size, still_path(rng, size))
    blob = _patch(rng, pictures, side, (start[0] - side / 2, start[1] - side / 2), path)
    return Scene((back, blob), size)
