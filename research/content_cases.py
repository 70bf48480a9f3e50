"""Generated cases of content that interpolators are blamed for, with the true frames between.

`content_case` draws one: frames of a short clip, and where the truth does not change at all. Frames
0 and g go to a method, those between are what it should make. The kinds are what people complain
about most (letterbox bars, subtitles and logos over motion, fades and flicker, grain, fixed cameras,
thin and small things, cuts beside something still) and two ordinary ones, on which nothing may be
lost. They are for evaluation and tests, never for training.
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
    ellipse,
    over,
    pan,
    placed,
    similarity,
    velocity,
)
from rdvfi.data.synthetic.generated_images import discs_and_boxes, lettering, smooth_noise
from rdvfi.registry import did_you_mean

Size = tuple[int, int]
_Drawn = tuple[list[Picture], Bool[np.ndarray, "H W"] | None]
_MAKERS: dict[str, Callable[[np.random.Generator, Size, int], _Drawn]] = {}


@dataclass(frozen=True)
class ContentCase:
    """A clip with known frames.

    Attributes:
        frames: (n, H, W, 3), 8 bits.
        static: Where the truth never changes, (H, W); None if nowhere.
    """

    frames: UInt8[np.ndarray, "n H W 3"]
    static: Bool[np.ndarray, "H W"] | None


def content_cases() -> list[str]:
    """Names of all kinds."""
    return sorted(_MAKERS)


def content_case(name: str, *, seed: int = 0, count: int = 17, size: Size = (256, 448)) -> ContentCase:
    """Draw a case.

    Args:
        name: One of `content_cases`.
        seed: Another seed is another clip of the same kind.
        count: Frames.
        size: Height and width in pixels.

    Raises:
        ValueError: If there is no such kind, or fewer than three frames are asked for.
    """
    if name not in _MAKERS:
        raise ValueError(f"no case named {name!r}{did_you_mean(name, content_cases())}")
    if count < 3:
        raise ValueError(f"count is {count}; a case has at least 3 frames, two ends and one between")
    rng = np.random.default_rng([crc32(name.encode()), seed])
    drawn, static = _MAKERS[name](rng, size, count)
    frames = np.stack([np.clip(np.rint(255.0 * frame), 0, 255).astype(np.uint8) for frame in drawn])
    return ContentCase(frames, static)


def _kind(make: Callable[[np.random.Generator, Size, int], _Drawn]) -> Callable[..., _Drawn]:
    _MAKERS[make.__name__] = make
    return make


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


@_kind
def letterbox(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Black bars above and below a camera that tilts."""
    h = size[0]
    frames = pan(rng, size, (velocity(rng, 1.0), velocity(rng, 3.5)), count)
    bar = np.zeros(size, bool)
    bar[: h // 8], bar[-(h // 8) :] = True, True
    return [np.where(bar[..., None], np.float32(0.0), frame) for frame in frames], bar


@_kind
def pillarbox(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Dark bars left and right of a picture that pans."""
    frames = pan(rng, size, (velocity(rng, 4.0), velocity(rng, 0.5)), count)
    bar = np.zeros(size, bool)
    bar[:, : size[1] // 8], bar[:, -(size[1] // 8) :] = True, True
    return [np.where(bar[..., None], np.float32(16 / 255), frame) for frame in frames], bar


@_kind
def noisy_bars(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Bars on all four sides that a codec left a little noise in."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 3.0), velocity(rng, 2.0)), count)
    bar = np.ones(size, bool)
    bar[h // 9 : -(h // 9), w // 9 : -(w // 9)] = False
    noise = [rng.normal(0.0, 0.8 / 255, (h, w, 1)).astype(np.float32) for _ in frames]
    made = [np.where(bar[..., None], 3 / 255 + n, f) for n, f in zip(noise, frames, strict=True)]
    return made, bar


# What stands still in front of what moves.


@_kind
def subtitles(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Two lines of text over a fast pan."""
    h, w = size
    lines = [("It was never about the money,", 0.16 * w, h - 44, 13), ("and you know that.", 0.3 * w, h - 18, 13)]
    text = lettering(size, lines)
    frames = pan(rng, size, (velocity(rng, 4.5), velocity(rng, 0.6)), count)
    return [over(frame, text) for frame in frames], text[..., 3] > 0.995


@_kind
def hud(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """The instruments of a game over a world that comes nearer."""
    h, w = size
    far = discs_and_boxes(rng, h, w)
    frames = [placed(far, similarity((w / 2, h / 2), (w / 2, h / 2), 0.0, 1.0 + 0.02 * t), size) for t in range(count)]
    text = lettering(size, [("HP 087", 14, 30, 12), ("02:41", w - 80, 30, 12), ("320 / 45", w - 120, h - 16, 12)])
    ring = np.zeros(size, np.float32)
    cv2.circle(ring, (w // 2, h // 2), 14, 1.0, 2, cv2.LINE_AA)
    layers = (text, as_layer(np.array([0.2, 0.9, 0.3], np.float32), ring))
    for layer in layers:
        frames = [over(frame, layer) for frame in frames]
    return frames, np.maximum(text[..., 3], ring) > 0.995


@_kind
def translucent_logo(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A broadcaster's half-transparent mark in a corner of a pan."""
    frames = pan(rng, size, (velocity(rng, 3.5), velocity(rng, 0.5)), count)
    mark = lettering(size, [("NEWS 24", 0.7 * size[1], 40, 16)], opacity=0.5)
    return [over(frame, mark) for frame in frames], None


@_kind
def turning_logo(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A mark that turns about its centre in a corner of a pan."""
    w = size[1]
    frames = pan(rng, size, (velocity(rng, 3.5), velocity(rng, 0.5)), count)
    mark = lettering((64, 64), [("R7", 8, 44, 26)])
    turn = velocity(rng, 5.0)
    moved = (placed(mark, similarity((32, 32), (w - 50, 50), turn * t), size, outside=False) for t in range(count))
    return [over(frame, layer) for frame, layer in zip(frames, moved, strict=True)], None


@_kind
def ticker(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """News that run along the lower edge of a picture that stands still."""
    h, w = size
    speed = velocity(rng, 3.5)
    still = discs_and_boxes(rng, h, w)
    wide = (36, int(w + abs(speed) * count + 40))
    news = lettering(wide, [("markets close higher +++ rain in the north +++ " * 3, 8, 26, 14)])
    band = over(np.full((*wide, 3), (0.5, 0.05, 0.08), np.float32), news)
    x0 = 2.0 + max(0.0, speed) * (count - 1)
    frames = []
    for t in range(count):
        frame = still.copy()
        frame[h - 44 : h - 8] = placed(band, np.array([[1.0, 0.0, speed * t - x0], [0.0, 1.0, 0.0]]), (36, w))
        frames.append(frame)
    static = np.ones(size, bool)
    static[h - 44 : h - 8] = False
    return frames, static


@_kind
def split_screen(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Two cameras side by side, which pan against each other."""
    h, w = size
    left, right = (pan(rng, (h, w // 2), (v * velocity(rng, 3.0), 0.4), count) for v in (1.0, -1.0))
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    static = np.zeros(size, bool)
    static[:, w // 2 - 2 : w // 2 + 2] = True
    return [np.where(static[..., None], np.float32(0.0), frame) for frame in frames], static


@_kind
def slides(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A presenter who hardly moves beside slides, the next of which comes in mid-clip."""
    h, w = size
    room = discs_and_boxes(rng, h, w, smallest=8.0)
    figure, centre = _walker(rng, int(0.7 * h))
    pages = [np.clip(0.9 + 0.1 * discs_and_boxes(rng, h, w), 0.0, 1.0) for _ in range(2)]
    lines = [["Results", "first year 41 %", "second year 58 %"], ["Method", "one step", "two fields"]]
    for page, words in enumerate(lines):
        text = lettering(size, [(line, 0.42 * w, (0.25 + 0.2 * i) * h, 16) for i, line in enumerate(words)])
        pages[page] = over(1.0 - pages[page], text)
    frames = []
    for t in range(count):
        frame = room.copy()
        frame[:, int(0.38 * w) :] = pages[t >= (count + 1) // 2][:, int(0.38 * w) :]
        place = (0.18 * w + 2.0 * np.sin(0.5 * t), 0.6 * h)
        frames.append(over(frame, placed(figure, similarity(centre, place), size, outside=False)))
    return frames, None


# Light.


@_kind
def fade(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A pan that fades to black."""
    frames = pan(rng, size, (velocity(rng, 2.5), velocity(rng, 0.5)), count)
    return [frame * np.float32(1.0 - 0.9 * t / (count - 1)) for t, frame in enumerate(frames)], None


@_kind
def exposure(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """The camera's exposure rises during a pan."""
    frames = pan(rng, size, (velocity(rng, 3.0), velocity(rng, 0.5)), count)
    return [np.clip(frame * np.float32(0.6 + 0.8 * t / (count - 1)), 0.0, 1.0) for t, frame in enumerate(frames)], None


@_kind
def local_light(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A lamp comes up at one side of a slow pan."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 1.5), velocity(rng, 0.3)), count)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    lamp = np.exp(-np.hypot(x - rng.uniform(0.2, 0.8) * w, y - 0.3 * h) / (0.35 * w))[..., None]
    return [np.clip(f * (0.5 + 0.7 * lamp * t / (count - 1)), 0.0, 1.0) for t, f in enumerate(frames)], None


# Fixed cameras, noise.


@_kind
def walkers(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A fixed camera without noise; two small people walk by."""
    frames, crossed = _walked(rng, size, count)
    return frames, ~crossed


@_kind
def noisy_walkers(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """The same by night: a noisy sensor."""
    frames, _ = _walked(rng, size, count)
    return _noisy(rng, [0.6 * frame for frame in frames], 5 / 255), None


@_kind
def grain(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Film grain over a slow pan."""
    return _noisy(rng, pan(rng, size, (velocity(rng, 1.5), velocity(rng, 0.3)), count), 8 / 255), None


def _walked(rng: np.random.Generator, size: Size, count: int) -> tuple[list[Picture], Bool[np.ndarray, "H W"]]:
    h, w = size
    frames = [discs_and_boxes(rng, h, w)] * count
    crossed = np.zeros(size, bool)
    for start in (0.3, 0.7):
        figure, centre = _walker(rng, h // 4)
        speed = velocity(rng, 2.5)
        for t in range(count):
            place = (start * w + speed * (t - count / 2), 0.7 * h + 1.5 * np.sin(0.8 * t))
            layer = placed(figure, similarity(centre, place), size, outside=False)
            frames[t] = over(frames[t], layer)
            crossed |= layer[..., 3] > 0.0
    return frames, crossed


# Thin, small, plain.


@_kind
def snow(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Flakes fall before a scene that stands still."""
    h, w = size
    back = 0.8 * discs_and_boxes(rng, h, w)
    low, high = (0.0, -h / 2, 1.0, 2.0), (w, h, 3.0, 4.0)
    flakes = rng.uniform(low, high, (120, 4))  # x, y, radius, speed
    frames = []
    for t in range(count):
        big = np.zeros((2 * h, 2 * w), np.uint8)
        for x, y, r, v in flakes:
            place = (2 * (x + 1.5 * np.sin(0.3 * t + x)), 2 * ((y + v * t + h / 2) % (1.5 * h) - h / 4))
            cv2.circle(big, tuple(int(16 * c) for c in place), int(32 * r), 255, -1, cv2.LINE_AA, 4)
        alpha = cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA) / np.float32(255.0)
        frames.append(over(back, as_layer(np.float32(0.95) * np.ones(3, np.float32), alpha)))
    return frames, None


@_kind
def poles(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Thin poles and wires pass before a far, slower scene."""
    h, w = size
    speed = velocity(rng, 4.5)
    far = pan(rng, size, (0.25 * speed, 0.0), count, smallest=10.0)
    wide = int(w + abs(speed) * count + 60)
    alpha = np.zeros((h, wide), np.float32)
    for x in range(30, wide, int(w / 4)):
        cv2.line(alpha, (x, 0), (x, h), 1.0, 3, cv2.LINE_AA)
    for y in range(20, h // 2, 35):
        cv2.line(alpha, (0, y), (wide, y + int(rng.uniform(-12, 12))), 1.0, 1, cv2.LINE_AA)
    near = as_layer(np.array([0.08, 0.08, 0.1], np.float32), alpha)
    x0 = 2.0 + max(0.0, speed) * (count - 1)
    shifts = (np.array([[1.0, 0.0, speed * t - x0], [0.0, 1.0, 0.0]]) for t in range(count))
    moved = (placed(near, shift, size, outside=False) for shift in shifts)
    return [over(frame, layer) for frame, layer in zip(far, moved, strict=True)], None


@_kind
def dark_object(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A dark, plain thing is turned and moved by hand before a plain ground."""
    h, w = size
    ground = np.float32(0.62) + np.float32(0.06) * smooth_noise(rng, h, w, 150.0)
    back = np.repeat(ground[..., None], 3, axis=2) * np.array([1.0, 0.97, 0.92], np.float32)
    n = 150
    alpha = np.zeros((n, n), np.float32)
    cv2.rectangle(alpha, (45, 20), (105, 130), 1.0, -1, cv2.LINE_AA)
    cv2.circle(alpha, (75, 130), 15, 1.0, -1, cv2.LINE_AA)
    shade = np.float32(0.08) + np.float32(0.05) * smooth_noise(rng, n, n, 50.0)
    thing = as_layer(np.repeat(shade[..., None], 3, axis=2), alpha)
    turn, way = velocity(rng, 3.0), velocity(rng, 2.5)
    places = ((w / 2 + way * (t - count / 2), h / 2 + 4.0 * np.sin(0.35 * t)) for t in range(count))
    moved = (placed(thing, similarity((75, 75), p, turn * t), size, outside=False) for t, p in enumerate(places))
    return [over(back, layer) for layer in moved], None


# Ordinary.


@_kind
def ordinary_pan(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """A pan, nothing else."""
    return pan(rng, size, (velocity(rng, 2.5), velocity(rng, 0.8)), count), None


@_kind
def ordinary_walk(rng: np.random.Generator, size: Size, count: int) -> _Drawn:
    """Somebody crosses a picture that pans slowly."""
    h, w = size
    frames = pan(rng, size, (velocity(rng, 1.2), velocity(rng, 0.3)), count)
    figure, centre = _walker(rng, int(0.7 * h))
    speed = velocity(rng, 3.0)
    for t in range(count):
        place = (w / 2 + speed * (t - count / 2), 0.6 * h + 2.0 * np.sin(0.4 * t))
        frames[t] = over(frames[t], placed(figure, similarity(centre, place, 0.3 * t), size, outside=False))
    return frames, None
