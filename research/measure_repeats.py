"""How well repeated pictures are found (`rdvfi.video.repeated_frames`): precision and recall on generated films.

Films of five kinds of motion and one that stands still, in six patterns of repeats and without any, clean,
with noise that is new in every frame, and encoded with x264. What a film repeats is known. A repeated
frame that is found counts for recall; one that is found and is none counts against precision.

    python research/measure_repeats.py --out repeats.json
"""

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from rdvfi.video.repeated_frames import LONGEST, brightness, change, find_repeats

SIZE = (144, 256)
MOTIONS = ("pan", "object", "mouth", "cel", "zoom", "still")
PATTERNS = ("none", "twos", "threes", "mixed", "stutter", "telecine", "pulldown")
QUALITIES: tuple[tuple[int, int | None], ...] = ((0, None), (4, None), (8, None), (0, 28), (3, 23), (6, 28))
"""Deviation of the noise in grey levels, and crf of x264; None is not encoded."""


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth random colours of several sizes, in 20 to 235."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    for cell in (4, 16, 48):
        grid = rng.random((max(2, height // cell), max(2, width // cell), 3))
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return total / total.max() * 215 + 20


class Scene:
    """Pictures of one kind of motion.

    Args:
        motion: One of `MOTIONS`.
        seed: Decides textures and speed.
    """

    def __init__(self, motion: str, seed: int) -> None:
        self._motion, self._seed = motion, seed
        self._ground, self._thing = texture(SIZE[0] + 160, SIZE[1] + 400, seed), texture(48, 40, seed + 1)
        self._speed = np.random.default_rng(seed).uniform(1.0, 6.0)

    def picture(self, k: int) -> np.ndarray:
        """Picture number k, floats."""
        height, width = SIZE
        ground = self._ground[20 : 20 + height, 20 : 20 + width]
        if self._motion == "pan":
            shift = np.array([[1, 0, -20 - (self._speed * k) % 300], [0, 1, -60 - 20 * np.sin(k / 9)]])
            return cv2.warpAffine(self._ground, shift, (width, height))
        if self._motion == "zoom":
            turn = cv2.getRotationMatrix2D((width / 2 + 60, height / 2 + 40), 0.3 * k, 1 + 0.01 * k)
            turn[:, 2] -= (60, 40)
            return cv2.warpAffine(self._ground, turn, (width, height))
        if self._motion == "cel":
            return self._drawing(cv2.GaussianBlur(ground, (0, 0), 3), k)
        if self._motion == "still":
            return ground
        thing, reach = (self._thing, 60) if self._motion == "object" else (self._thing[:18, :22], 14)
        place = (90 + reach * np.sin(k / 20 * self._speed + self._seed), 50 + reach / 3 * np.cos(k / 5))
        shift = np.array([[1, 0, place[0]], [0, 1, place[1]]])
        cover = cv2.warpAffine(np.ones(thing.shape[:2]), shift, (width, height))[..., None]
        return ground * (1 - cover) + cv2.warpAffine(thing, shift, (width, height))

    def _drawing(self, ground: np.ndarray, k: int) -> np.ndarray:
        picture = ground.copy()
        centre = (int(100 + 50 * np.sin(k / 18 * self._speed)), int(70 + 16 * np.cos(k / 4)))
        cv2.circle(picture, centre, 26, (230, 60, 60), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 26, (10, 10, 10), 2, cv2.LINE_AA)
        mouth = (8, int(2 + 4 * (1 + np.sin(1.3 * k))))
        cv2.ellipse(picture, (centre[0], centre[1] + 9), mouth, 0, 0, 360, (20, 20, 20), -1, cv2.LINE_AA)
        return picture


def shown(pattern: str, count: int, seed: int) -> np.ndarray:
    """Which picture each frame of a film shows."""
    rng, numbers = np.random.default_rng(seed), list[int]()
    every = {"twos": 2, "threes": 3}
    while len(numbers) < count:
        after = numbers[-1] + 1 if numbers else 0
        if pattern in every:
            numbers += [after] * every[pattern]
        elif pattern == "mixed":
            numbers += [after] * int(rng.choice([1, 2, 2, 3]))
        elif pattern == "telecine":  # 24 frames per second as 30
            numbers += [after, after + 1, after + 2, after + 3, after + 3]
        elif pattern == "pulldown":  # 24 frames per second as 60
            numbers += [after] * (2 + after % 2)
        elif pattern == "stutter" and len(numbers) > 1 and numbers[-1] != numbers[-2] and rng.random() < 0.08:
            numbers += [numbers[-1], len(numbers) + 1]  # one was missed: what follows is in its place
        else:
            numbers.append(len(numbers) if pattern == "stutter" else after)
    return np.array(numbers[:count])


def encoded(frames: Sequence[np.ndarray], crf: int) -> list[np.ndarray]:
    """Frames through x264 and back."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": str(crf), "g": "48"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def film(motion: str, pattern: str, noise: float, crf: int | None, *, count: int, seed: int):
    """Frames of a film, and for each whether it repeats the one before."""
    numbers, scene = shown(pattern, count, seed), Scene(motion, seed)
    rng, pictures = np.random.default_rng(seed + 99), {int(k): scene.picture(int(k)) for k in np.unique(numbers)}
    frames = [
        np.clip(pictures[int(k)] + rng.normal(0, noise, (*SIZE, 3)) + 0.5, 0, 255).astype(np.uint8) for k in numbers
    ]
    truth = np.concatenate(([False], numbers[1:] == numbers[:-1])) if motion != "still" else np.zeros(count, bool)
    return frames if crf is None else encoded(frames, crf), truth


def changes_of(frames: Sequence[np.ndarray]) -> list[float]:
    """Changes between neighbours, as the library measures them."""
    small = [brightness(frame) for frame in frames]
    return [change(a, b) for a, b in pairwise(small)]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows, kept = defaultdict(lambda: np.zeros(4, int)), []
    for motion in MOTIONS:
        for pattern in PATTERNS if motion != "still" else ("none",):
            for noise, crf in QUALITIES:
                for seed in range(given.first_seed, given.first_seed + given.seeds):
                    frames, truth = film(motion, pattern, noise, crf, count=given.frames, seed=seed)
                    changes = changes_of(frames)
                    found = np.array(find_repeats(changes, LONGEST))
                    counts = np.array(
                        [(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum(), len(truth)]
                    )
                    quality = f"noise {noise}" + ("" if crf is None else f", crf {crf}")
                    for row in ("all", f"motion {motion}", f"pattern {pattern}", quality):
                        rows[row] += counts
                    case = {"motion": motion, "pattern": pattern, "noise": noise, "crf": crf, "seed": seed}
                    kept.append(
                        {
                            **case,
                            "counts": counts.tolist(),
                            "changes": np.round(changes, 3).tolist(),
                            "truth": truth.astype(int).tolist(),
                        }
                    )
    for row, (right, wrong, missed, count) in rows.items():
        recall, precision = right / max(1, right + missed), right / max(1, right + wrong)
        print(f"| {row} | {count} | {right + missed} | {100 * recall:.1f} | {100 * precision:.2f} | {wrong} |")
    if given.out is not None:
        given.out.write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    main()
