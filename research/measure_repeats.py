"""Precision and recall of the detection of repeated pictures (`rdvfi.video.repeated_frames`) on generated clips.

The clips have one of five kinds of motion or none, one of six patterns of repeats or none, and are clean,
with independent noise in every frame, or encoded with x264. Their repeats are known.

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
"""Standard deviation of the noise in grey levels, and crf of x264; None for unencoded clips."""


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth random colours of several sizes, in 20 to 235."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    for cell in (4, 16, 48):
        grid = rng.random((max(2, height // cell), max(2, width // cell), 3))
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return total / total.max() * 215 + 20


class MovingScene:
    """Renders the pictures of one kind of motion.

    Args:
        motion: One of `MOTIONS`.
        seed: Seed of textures and speed.
    """

    def __init__(self, motion: str, seed: int) -> None:
        self._motion, self._seed = motion, seed
        self._background, self._object = texture(SIZE[0] + 160, SIZE[1] + 400, seed), texture(48, 40, seed + 1)
        self._speed = np.random.default_rng(seed).uniform(1.0, 6.0)

    def render(self, k: int) -> np.ndarray:
        """Picture number k, as floats in [0, 255]."""
        height, width = SIZE
        background = self._background[20 : 20 + height, 20 : 20 + width]
        if self._motion == "pan":
            shift = np.array([[1, 0, -20 - (self._speed * k) % 300], [0, 1, -60 - 20 * np.sin(k / 9)]])
            return cv2.warpAffine(self._background, shift, (width, height))
        if self._motion == "zoom":
            matrix = cv2.getRotationMatrix2D((width / 2 + 60, height / 2 + 40), 0.3 * k, 1 + 0.01 * k)
            matrix[:, 2] -= (60, 40)
            return cv2.warpAffine(self._background, matrix, (width, height))
        if self._motion == "cel":
            return self._drawing(cv2.GaussianBlur(background, (0, 0), 3), k)
        if self._motion == "still":
            return background
        moving_object, amplitude = (self._object, 60) if self._motion == "object" else (self._object[:18, :22], 14)
        position = (90 + amplitude * np.sin(k / 20 * self._speed + self._seed), 50 + amplitude / 3 * np.cos(k / 5))
        shift = np.array([[1, 0, position[0]], [0, 1, position[1]]])
        coverage = cv2.warpAffine(np.ones(moving_object.shape[:2]), shift, (width, height))[..., None]
        return background * (1 - coverage) + cv2.warpAffine(moving_object, shift, (width, height))

    def _drawing(self, background: np.ndarray, k: int) -> np.ndarray:
        picture = background.copy()
        centre = (int(100 + 50 * np.sin(k / 18 * self._speed)), int(70 + 16 * np.cos(k / 4)))
        cv2.circle(picture, centre, 26, (230, 60, 60), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 26, (10, 10, 10), 2, cv2.LINE_AA)
        mouth = (8, int(2 + 4 * (1 + np.sin(1.3 * k))))
        cv2.ellipse(picture, (centre[0], centre[1] + 9), mouth, 0, 0, 360, (20, 20, 20), -1, cv2.LINE_AA)
        return picture


def picture_numbers(pattern: str, count: int, seed: int) -> np.ndarray:
    """The number of the picture that each frame of a clip shows."""
    rng, numbers = np.random.default_rng(seed), list[int]()
    repeat_counts = {"twos": 2, "threes": 3}
    while len(numbers) < count:
        next_number = numbers[-1] + 1 if numbers else 0
        if pattern in repeat_counts:
            numbers += [next_number] * repeat_counts[pattern]
        elif pattern == "mixed":
            numbers += [next_number] * int(rng.choice([1, 2, 2, 3]))
        elif pattern == "telecine":  # 24 frames per second as 30
            numbers += [next_number, next_number + 1, next_number + 2, next_number + 3, next_number + 3]
        elif pattern == "pulldown":  # 24 frames per second as 60
            numbers += [next_number] * (2 + next_number % 2)
        elif pattern == "stutter" and len(numbers) > 1 and numbers[-1] != numbers[-2] and rng.random() < 0.08:
            numbers += [numbers[-1], len(numbers) + 1]  # a dropped picture: its predecessor is shown twice
        else:
            numbers.append(len(numbers) if pattern == "stutter" else next_number)
    return np.array(numbers[:count])


def encode_and_decode(frames: Sequence[np.ndarray], crf: int) -> list[np.ndarray]:
    """Encode frames by x264 and decode them."""
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


def generate_clip(motion: str, pattern: str, noise: float, crf: int | None, *, count: int, seed: int):
    """Frames of a clip, and for each whether it repeats the previous one."""
    numbers, scene = picture_numbers(pattern, count, seed), MovingScene(motion, seed)
    rng, pictures = np.random.default_rng(seed + 99), {int(k): scene.render(int(k)) for k in np.unique(numbers)}
    frames = [
        np.clip(pictures[int(k)] + rng.normal(0, noise, (*SIZE, 3)) + 0.5, 0, 255).astype(np.uint8) for k in numbers
    ]
    truth = np.concatenate(([False], numbers[1:] == numbers[:-1])) if motion != "still" else np.zeros(count, bool)
    return frames if crf is None else encode_and_decode(frames, crf), truth


def measure_changes(frames: Sequence[np.ndarray]) -> list[float]:
    """Changes between consecutive frames, as measured by the library."""
    brightness_maps = [brightness(frame) for frame in frames]
    return [change(a, b) for a, b in pairwise(brightness_maps)]


def main() -> None:
    """Measure all clips, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows, cases = defaultdict(lambda: np.zeros(4, int)), []
    for motion in MOTIONS:
        for pattern in PATTERNS if motion != "still" else ("none",):
            for noise, crf in QUALITIES:
                for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                    frames, truth = generate_clip(motion, pattern, noise, crf, count=arguments.frames, seed=seed)
                    changes = measure_changes(frames)
                    detected = np.array(find_repeats(changes, LONGEST))
                    confusion = np.array(
                        [(detected & truth).sum(), (detected & ~truth).sum(), (~detected & truth).sum(), len(truth)]
                    )
                    quality = f"noise {noise}" + ("" if crf is None else f", crf {crf}")
                    for row in ("all", f"motion {motion}", f"pattern {pattern}", quality):
                        rows[row] += confusion
                    case = {"motion": motion, "pattern": pattern, "noise": noise, "crf": crf, "seed": seed}
                    cases.append(
                        {
                            **case,
                            "counts": confusion.tolist(),
                            "changes": np.round(changes, 3).tolist(),
                            "truth": truth.astype(int).tolist(),
                        }
                    )
    for row, (true_positives, false_positives, false_negatives, count) in rows.items():
        repeats = true_positives + false_negatives
        recall = true_positives / max(1, repeats)
        precision = true_positives / max(1, true_positives + false_positives)
        print(f"| {row} | {count} | {repeats} | {100 * recall:.1f} | {100 * precision:.2f} | {false_positives} |")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
