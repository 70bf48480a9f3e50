"""Drawing functions for `content_cases`: textures, sprites, overlays.

Pictures are float arrays ``(H, W, 3)`` in [0, 1]; a layer is ``(H, W, 4)`` with premultiplied
colour. Moving objects are drawn at twice the size and downscaled by averaging, for camera-like sub-pixel motion
and edges. All randomness comes from the given generator.

The textures and the lettering are those of `rdvfi.data.synthetic.generated_images`.
"""

import cv2
import numpy as np
from jaxtyping import Float

from rdvfi.data.synthetic.generated_images import discs_and_boxes

Picture = Float[np.ndarray, "H W 3"]
Layer = Float[np.ndarray, "H W 4"]
Matrix = Float[np.ndarray, "2 3"]

_OVERSAMPLING = 2


def similarity(centre: tuple[float, float], to: tuple[float, float], angle: float = 0.0, scale: float = 1.0) -> Matrix:
    """The matrix that takes ``centre`` to ``to`` (x, y), with a rotation by ``angle`` degrees and a scaling."""
    turn = np.deg2rad(angle)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    x, y = centre
    return np.array([[c, -s, to[0] - c * x + s * y], [s, c, to[1] - s * x - c * y]])


def draw_texture(texture: np.ndarray, matrix: Matrix, size: tuple[int, int], *, mirror: bool = True) -> np.ndarray:
    """Draw a texture, transformed by ``matrix``, into a frame of ``size = (h, w)``.

    Args:
        texture: (h, w, c).
        matrix: Transform from texture to frame, with pixel centres at integers.
        size: (height, width) of the frame.
        mirror: Whether the texture is mirrored beyond its border; otherwise it is 0 there.
    """
    h, w = size
    k = _OVERSAMPLING
    enlarge = np.array([[k, 0.0, (k - 1) / 2], [0.0, k, (k - 1) / 2]])
    whole = np.vstack([matrix, [0.0, 0.0, 1.0]])
    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
    large = cv2.warpAffine(texture, enlarge @ whole, (w * k, h * k), flags=cv2.INTER_LINEAR, borderMode=border)
    return cv2.resize(large, (w, h), interpolation=cv2.INTER_AREA)


def pan(
    rng: np.random.Generator, size: tuple[int, int], velocity: tuple[float, float], count: int, *, smallest: float = 3.0
) -> list[Picture]:
    """``count`` frames of a texture that moves by ``velocity`` (x, y) pixels per frame."""
    h, w = size
    distance = [abs(v) * (count - 1) for v in velocity]
    world = discs_and_boxes(rng, int(h + distance[1] + 4), int(w + distance[0] + 4), smallest=smallest)
    start = [2.0 + max(0.0, v) * (count - 1) for v in velocity]
    shifts = ((start[0] - velocity[0] * t, start[1] - velocity[1] * t) for t in range(count))
    return [draw_texture(world, np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]]), size) for x, y in shifts]


def velocity(rng: np.random.Generator, speed: float) -> float:
    """``speed``, changed by at most 15 per cent, with a random sign."""
    return float(speed * rng.uniform(0.85, 1.15) * rng.choice([-1.0, 1.0]))


def as_layer(colour: np.ndarray, alpha: np.ndarray) -> Layer:
    """A layer of a colour and its opacity."""
    a = np.asarray(alpha, np.float32)[..., None]
    return np.concatenate((np.broadcast_to(colour, (*a.shape[:2], 3)) * a, a), axis=2).astype(np.float32)


def composite(background: Picture, layer: Layer) -> Picture:
    """A layer in front of a picture."""
    return layer[..., :3] + (1.0 - layer[..., 3:]) * background


def ellipse(h: int, w: int, centre: tuple[float, float], radii: tuple[float, float]) -> Float[np.ndarray, "H W"]:
    """Opacity of an ellipse with an edge one pixel wide."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    distance = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    return np.clip((1.0 - distance) * min(radii) + 0.5, 0.0, 1.0)
