"""Generated cases of content that is difficult for interpolation, with the true frames between.

`content_case` generates one: frames of a short clip, and a mask of static pixels. Frames
0 and g are given to a method, and the frames between are the truth. The kinds are frequent causes of
complaints (letterbox bars, subtitles and logos over motion, fades and flicker, grain, fixed cameras,
thin and small objects, cuts of part of the picture) and two ordinary ones, on which quality must not
decrease. They are for evaluation and tests, not for training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from content_drawing import (
    Picture,
    as_layer,
    composite,
    draw_texture,
    ellipse,
    pan,
    similarity,
    velocity,
)
from rdvfi.data.synthetic.generated_images import discs_and_boxes, lettering, smooth_noise
from rdvfi.registry import did_you_mean

Size = tuple[int, int]
_Case = tuple[list[Picture], Bool[np.ndarray, "H W"] | None]
_GENERATORS: dict[str, Callable[[np.random.Generator, Size, int], _Case]] = {}


@dataclass(frozen=True)
class ContentCase:
    """A clip with known frames.

    Attributes:
        frames: 8-bit frames (n, H, W, 3).
        static: Mask of the pixels that never change, (H, W); None without such pixels.
    """

    frames: UInt8[np.ndarray, "n H W 3"]
    static: Bool[np.ndarray, "H W"] | None


def content_cases() -> list[str]:
    """Names of all kinds."""
    return sorted(_GENERATORS)


def content_case(name: str, *, seed: int = 0, count: int = 17, size: Size = (256, 448)) -> ContentCase:
    """Generate a case.

    Args:
        name: One of `content_cases`.
        seed: Seed of the random numbers; different seeds give different clips of the same kind.
        count: Number of frames.
        size: Height and width in pixels.

    Raises:
        ValueError: If there is no such kind, or ``count`` is below three.
    """
    if name not in _GENERATORS:
        raise ValueError(f"no case named {name!r}{did_you_mean(name, content_cases())}")
    if count < 3:
        raise ValueError(f"count is {count}; it must be at least 3: two inputs and one frame between")
    rng = np.random.default_rng([crc32(name.encode()), seed])
    pictures, static = _GENERATORS[name](rng, size, count)
    frames = np.stack([np.clip(np.rint(255.0 * frame), 0, 255).astype(np.uint8) for frame in pictures])
    return ContentCase(frames, static)


def _register(generate: Callable[[np.random.Generator, Size, int], _Case]) -> Callable[..., _Case]:
    _GENERATORS[generate.__name__] = generate
    return generate


def _noisy(rng: np.random.Generator, frames: list[Picture], sigma: float) -> list[Picture]:
    return [frame + rng.normal(0.0, sigma, frame.shape).astype(np.float32) for frame in frames]


def _walker(rng: np.random.Generator, h: int) -> tuple[np.ndarray, tuple[float, float]]:
    """An upright figure of height ``h`` and its centre."""
    w = h // 2
    alpha = np.maximum(
        ellipse(h, w, (w / 2, 0.18 * h), (0.16 * h, 0.16 * h)), ellipse(h, w, (w / 2, 0.65 * h), (0.22 * h, 0.34 * h))
    )
    return as_layer(discs_and_boxes(rng, h, w, smallest=4.0), alpha), (w / 2, h / 2)


# Bars.


@_register
def letterbox(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Black bars above and below a camera that tilts."""
    h = size[0]
    frames = pan(rng, size, (velocity(rng, 1.0), velocity(rng, 3.5)), count)
    bar_mask = np.zeros(size, bool)
    bar_mask[: h // 8], bar_mask[-(h // 8) :] = True, True
    return [np.where(bar_mask[..., None], np.float32(0.0), frame) for frame in frames], bar_mask


@_register
def pillarbox(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Dark bars left and right of a picture that pans."""
    frames = pan(rng, size, (velocity(rng, 4.0), velocity(rng, 0.5)), count)
    bar_mask = np.zeros(size, bool)
    bar_mask[:, : size[1] // 8], bar_mask[:, -(size[1] // 8) :] = True, True
    return [np.where(bar_mask[..., None], np.float32(16 / 255), frame) for frame in frames], bar_mask


@_register
def noisy_bars(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Bars on all four sides that a codec left a little noise in."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 3.0), velocity(rng, 2.0)), count)
    bar_mask = np.ones(size, bool)
    bar_mask[h // 9 : -(h // 9), w // 9 : -(w // 9)] = False
    noise = [rng.normal(0.0, 0.8 / 255, (h, w, 1)).astype(np.float32) for _ in frames]
    noisy_frames = [np.where(bar_mask[..., None], 3 / 255 + n, f) for n, f in zip(noise, frames, strict=True)]
    return noisy_frames, bar_mask


# Static objects in front of moving ones.


@_register
def subtitles(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Two lines of text over a fast pan."""
    h, w = size
    lines = [("It was never about the money,", 0.16 * w, h - 44, 13), ("and you know that.", 0.3 * w, h - 18, 13)]
    text = lettering(size, lines)
    frames = pan(rng, size, (velocity(rng, 4.5), velocity(rng, 0.6)), count)
    return [composite(frame, text) for frame in frames], text[..., 3] > 0.995


@_register
def hud(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """The instruments of a game over a world that comes nearer."""
    h, w = size
    background = discs_and_boxes(rng, h, w)
    frames = [
        draw_texture(background, similarity((w / 2, h / 2), (w / 2, h / 2), 0.0, 1.0 + 0.02 * t), size)
        for t in range(count)
    ]
    text = lettering(size, [("HP 087", 14, 30, 12), ("02:41", w - 80, 30, 12), ("320 / 45", w - 120, h - 16, 12)])
    ring = np.zeros(size, np.float32)
    cv2.circle(ring, (w // 2, h // 2), 14, 1.0, 2, cv2.LINE_AA)
    layers = (text, as_layer(np.array([0.2, 0.9, 0.3], np.float32), ring))
    for layer in layers:
        frames = [composite(frame, layer) for frame in frames]
    return frames, np.maximum(text[..., 3], ring) > 0.995


@_register
def translucent_logo(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A broadcaster's half-transparent mark in a corner of a pan."""
    frames = pan(rng, size, (velocity(rng, 3.5), velocity(rng, 0.5)), count)
    mark = lettering(size, [("NEWS 24", 0.7 * size[1], 40, 16)], opacity=0.5)
    return [composite(frame, mark) for frame in frames], None


@_register
def turning_logo(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A mark that turns about its centre in a corner of a pan."""
    w = size[1]
    frames = pan(rng, size, (velocity(rng, 3.5), velocity(rng, 0.5)), count)
    mark = lettering((64, 64), [("R7", 8, 44, 26)])
    turn = velocity(rng, 5.0)
    layers = (
        draw_texture(mark, similarity((32, 32), (w - 50, 50), turn * t), size, mirror=False) for t in range(count)
    )
    return [composite(frame, layer) for frame, layer in zip(frames, layers, strict=True)], None


@_register
def ticker(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A news ticker along the lower edge of a static picture."""
    h, w = size
    speed = velocity(rng, 3.5)
    still = discs_and_boxes(rng, h, w)
    wide_size = (36, int(w + abs(speed) * count + 40))
    news = lettering(wide_size, [("markets close higher +++ rain in the north +++ " * 3, 8, 26, 14)])
    band = composite(np.full((*wide_size, 3), (0.5, 0.05, 0.08), np.float32), news)
    x0 = 2.0 + max(0.0, speed) * (count - 1)
    frames = []
    for t in range(count):
        frame = still.copy()
        frame[h - 44 : h - 8] = draw_texture(band, np.array([[1.0, 0.0, speed * t - x0], [0.0, 1.0, 0.0]]), (36, w))
        frames.append(frame)
    static = np.ones(size, bool)
    static[h - 44 : h - 8] = False
    return frames, static


@_register
def split_screen(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Two cameras side by side, which pan against each other."""
    h, w = size
    left, right = (pan(rng, (h, w // 2), (v * velocity(rng, 3.0), 0.4), count) for v in (1.0, -1.0))
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    static = np.zeros(size, bool)
    static[:, w // 2 - 2 : w // 2 + 2] = True
    return [np.where(static[..., None], np.float32(0.0), frame) for frame in frames], static


@_register
def slides(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A presenter who hardly moves beside slides, the next of which comes in mid-clip."""
    h, w = size
    room = discs_and_boxes(rng, h, w, smallest=8.0)
    figure, centre = _walker(rng, int(0.7 * h))
    pages = [np.clip(0.9 + 0.1 * discs_and_boxes(rng, h, w), 0.0, 1.0) for _ in range(2)]
    lines = [["Results", "first year 41 %", "second year 58 %"], ["Method", "one step", "two fields"]]
    for page, words in enumerate(lines):
        text = lettering(size, [(line, 0.42 * w, (0.25 + 0.2 * i) * h, 16) for i, line in enumerate(words)])
        pages[page] = composite(1.0 - pages[page], text)
    frames = []
    for t in range(count):
        frame = room.copy()
        frame[:, int(0.38 * w) :] = pages[t >= (count + 1) // 2][:, int(0.38 * w) :]
        position = (0.18 * w + 2.0 * np.sin(0.5 * t), 0.6 * h)
        frames.append(composite(frame, draw_texture(figure, similarity(centre, position), size, mirror=False)))
    return frames, None


# Light.


@_register
def fade(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A pan that fades to black."""
    frames = pan(rng, size, (velocity(rng, 2.5), velocity(rng, 0.5)), count)
    return [frame * np.float32(1.0 - 0.9 * t / (count - 1)) for t, frame in enumerate(frames)], None


@_register
def exposure(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """The camera's exposure rises during a pan."""
    frames = pan(rng, size, (velocity(rng, 3.0), velocity(rng, 0.5)), count)
    return [np.clip(frame * np.float32(0.6 + 0.8 * t / (count - 1)), 0.0, 1.0) for t, frame in enumerate(frames)], None


@_register
def local_light(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A lamp comes up at one side of a slow pan."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 1.5), velocity(rng, 0.3)), count)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    lamp = np.exp(-np.hypot(x - rng.uniform(0.2, 0.8) * w, y - 0.3 * h) / (0.35 * w))[..., None]
    return [np.clip(f * (0.5 + 0.7 * lamp * t / (count - 1)), 0.0, 1.0) for t, f in enumerate(frames)], None


# Fixed cameras, noise.


@_register
def walkers(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A fixed camera without noise; two small people walk by."""
    frames, covered = _generate_walkers(rng, size, count)
    return frames, ~covered


@_register
def noisy_walkers(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """The same by night: a noisy sensor."""
    frames, _ = _generate_walkers(rng, size, count)
    return _noisy(rng, [0.6 * frame for frame in frames], 5 / 255), None


@_register
def grain(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Film grain over a slow pan."""
    return _noisy(rng, pan(rng, size, (velocity(rng, 1.5), velocity(rng, 0.3)), count), 8 / 255), None


def _generate_walkers(
    rng: np.random.Generator, size: Size, count: int
) -> tuple[list[Picture], Bool[np.ndarray, "H W"]]:
    h, w = size
    frames = [discs_and_boxes(rng, h, w)] * count
    covered = np.zeros(size, bool)
    for start in (0.3, 0.7):
        figure, centre = _walker(rng, h // 4)
        speed = velocity(rng, 2.5)
        for t in range(count):
            position = (start * w + speed * (t - count / 2), 0.7 * h + 1.5 * np.sin(0.8 * t))
            layer = draw_texture(figure, similarity(centre, position), size, mirror=False)
            frames[t] = composite(frames[t], layer)
            covered |= layer[..., 3] > 0.0
    return frames, covered


# Thin, small, plain.


@_register
def snow(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Flakes fall in front of a static scene."""
    h, w = size
    background = 0.8 * discs_and_boxes(rng, h, w)
    low, high = (0.0, -h / 2, 1.0, 2.0), (w, h, 3.0, 4.0)
    flakes = rng.uniform(low, high, (120, 4))  # x, y, radius, speed
    frames = []
    for t in range(count):
        big = np.zeros((2 * h, 2 * w), np.uint8)
        for x, y, r, v in flakes:
            position = (2 * (x + 1.5 * np.sin(0.3 * t + x)), 2 * ((y + v * t + h / 2) % (1.5 * h) - h / 4))
            cv2.circle(big, tuple(int(16 * c) for c in position), int(32 * r), 255, -1, cv2.LINE_AA, 4)
        alpha = cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA) / np.float32(255.0)
        frames.append(composite(background, as_layer(np.float32(0.95) * np.ones(3, np.float32), alpha)))
    return frames, None


@_register
def poles(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Thin poles and wires pass before a far, slower scene."""
    h, w = size
    speed = velocity(rng, 4.5)
    background = pan(rng, size, (0.25 * speed, 0.0), count, smallest=10.0)
    wide_size = int(w + abs(speed) * count + 60)
    alpha = np.zeros((h, wide_size), np.float32)
    for x in range(30, wide_size, int(w / 4)):
        cv2.line(alpha, (x, 0), (x, h), 1.0, 3, cv2.LINE_AA)
    for y in range(20, h // 2, 35):
        cv2.line(alpha, (0, y), (wide_size, y + int(rng.uniform(-12, 12))), 1.0, 1, cv2.LINE_AA)
    foreground = as_layer(np.array([0.08, 0.08, 0.1], np.float32), alpha)
    x0 = 2.0 + max(0.0, speed) * (count - 1)
    shifts = (np.array([[1.0, 0.0, speed * t - x0], [0.0, 1.0, 0.0]]) for t in range(count))
    layers = (draw_texture(foreground, shift, size, mirror=False) for shift in shifts)
    return [composite(frame, layer) for frame, layer in zip(background, layers, strict=True)], None


@_register
def dark_object(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A dark, plain thing is turned and moved by hand before a plain ground."""
    h, w = size
    ground = np.float32(0.62) + np.float32(0.06) * smooth_noise(rng, h, w, 150.0)
    background = np.repeat(ground[..., None], 3, axis=2) * np.array([1.0, 0.97, 0.92], np.float32)
    n = 150
    alpha = np.zeros((n, n), np.float32)
    cv2.rectangle(alpha, (45, 20), (105, 130), 1.0, -1, cv2.LINE_AA)
    cv2.circle(alpha, (75, 130), 15, 1.0, -1, cv2.LINE_AA)
    shade = np.float32(0.08) + np.float32(0.05) * smooth_noise(rng, n, n, 50.0)
    object_layer = as_layer(np.repeat(shade[..., None], 3, axis=2), alpha)
    turn, speed = velocity(rng, 3.0), velocity(rng, 2.5)
    places = ((w / 2 + speed * (t - count / 2), h / 2 + 4.0 * np.sin(0.35 * t)) for t in range(count))
    layers = (
        draw_texture(object_layer, similarity((75, 75), p, turn * t), size, mirror=False) for t, p in enumerate(places)
    )
    return [composite(background, layer) for layer in layers], None


# Ordinary.


@_register
def ordinary_pan(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """A pan, nothing else."""
    return pan(rng, size, (velocity(rng, 2.5), velocity(rng, 0.8)), count), None


@_register
def ordinary_walk(rng: np.random.Generator, size: Size, count: int) -> _Case:
    """Somebody crosses a picture that pans slowly."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 1.2), velocity(rng, 0.3)), count)
    figure, centre = _walker(rng, int(0.7 * h))
    speed = velocity(rng, 3.0)
    for t in range(count):
        position = (w / 2 + speed * (t - count / 2), 0.6 * h + 2.0 * np.sin(0.4 * t))
        frames[t] = composite(
            frames[t], draw_texture(figure, similarity(centre, position, 0.3 * t), size, mirror=False)
        )
    return frames, None
