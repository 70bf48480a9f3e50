"""Batches of real frames from folders of videos or of frames.

`rdvfi.media.clip.find_clips` lists the clips below a folder: every video file and every folder with
images. `ClipWindows` samples windows from them: a random clip and stride, a window without a scene cut,
forwards or backwards in time, and the same random crop of all frames.

A window of ``n`` intervals has true frames at ``i / n`` only, so frames at the nine knots ``i / 8`` exist only
if ``n`` is a multiple of 8. The nearest frame would have a wrong time. There are two kinds of windows:

* ``knots=True``: 8 or 16 intervals. Frames at the knots, then free frames: between the knots for 16 intervals, at
  knots for 8. For stages that need true latents at the knots.
* ``knots=False``: 5 to 20 intervals, but no multiple of 8. The two ends, then free frames at their own times,
  and no frames at the knots. For photometric losses of stages with predicted keyframes: they are then also
  supervised between the knots.
"""

from collections.abc import Sequence

import numpy as np

from rdvfi.data.sources import ENDS_ONLY, SampleStream
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.media.clip import Clip
from rdvfi.media.pixels import Picture
from rdvfi.media.scene_cuts import has_cut

MAX_DRAWS = 50
"""Windows that are tried before an error says that all have scene cuts."""


class ClipWindows:
    """Random windows of clips; `source` makes batches of them.

    Args:
        clips: Clips by name, from `find_clips`; those too short for any window are left out.
        size: (height, width) of the frames; larger pictures are reduced and cropped.
        knots: Kind of windows; see the module.
        free: Free frames of a sample.
        strides: Distances in frames between neighbouring frames of a window, sampled uniformly.
        held_out: Fraction at the end of each clip that no window uses.

    Raises:
        ValueError: If every clip is too short, or ``held_out`` is not in [0, 1).
    """

    def __init__(
        self,
        clips: dict[str, Clip],
        size: tuple[int, int] = (160, 256),
        *,
        knots: bool = True,
        free: int = 3,
        strides: Sequence[int] = (1, 2, 3),
        held_out: float = 0.0,
    ) -> None:
        self._interval_counts = [8, 16] if knots else [n for n in range(5, 21) if n % 8]
        shortest = min(self._interval_counts) * min(strides) + 1
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out must be a share in [0, 1); got {held_out}")
        self._held_out = held_out
        self._clips = [clip for clip in clips.values() if self._usable_frames(clip) >= shortest]
        if not self._clips:
            longest = max(clips, key=lambda name: len(clips[name]), default=None)
            raise ValueError(
                f"every clip is too short: {shortest} frames are needed, and the longest, "
                f"{longest}, has {len(clips[longest]) if longest else 0}"
            )
        self._size, self._knots, self._free = size, knots, free
        self._strides = strides

    def _usable_frames(self, clip: Clip) -> int:
        """Number of frames of a clip that windows may use."""
        return len(clip) - round(self._held_out * len(clip))

    def source(self, *, workers: int = 1) -> SampleStream:
        """Batches of ``frames`` (b, t, 3, h, w) and ``times`` (b, t)."""
        return SampleStream(self.sample, workers=workers)

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A random window: 8-bit ``frames`` (t, h, w, 3) and their ``times``.

        Raises:
            ValueError: If no window without a scene cut is found.
        """
        for _ in range(MAX_DRAWS):
            clip = self._clips[int(rng.integers(len(self._clips)))]
            count = self._usable_frames(clip)
            choices = [
                (span, stride) for span in self._interval_counts for stride in self._strides if span * stride < count
            ]
            span, stride = choices[int(rng.integers(len(choices)))]
            first = int(rng.integers(count - span * stride))
            frames = clip.read([first + i * stride for i in range(span + 1)])
            if not has_cut(frames):
                return sample_window(rng, frames, self._size, free=self._free, knots=self._knots)
        raise ValueError(f"no window without a scene cut in {MAX_DRAWS} draws from the clips")


def sample_window(
    rng: np.random.Generator, frames: Sequence[Picture], size: tuple[int, int], *, free: int, knots: bool = True
) -> dict[str, np.ndarray]:
    """A sample of a window as `ClipWindows` describes, in random direction and randomly cropped.

    With ``knots`` the number of frames must be one more than a multiple of 8. The sample has ``free`` free frames.
    """
    span = len(frames) - 1
    fixed = np.arange(0, span + 1, span // (KNOTS - 1)) if knots else np.array([0, span])
    candidates = np.setdiff1d(np.arange(1, span), fixed)
    candidates = candidates if len(candidates) else np.arange(1, span)
    free_frames = rng.choice(candidates, free, replace=len(candidates) < free)
    order = np.concatenate((fixed, np.sort(free_frames)))
    times = (order / span).astype(np.float32)
    order = span - order if rng.random() < 0.5 else order
    sample = {"frames": random_crop(rng, [frames[i] for i in order], size), "times": times}
    return sample if knots else {**sample, ENDS_ONLY: np.array(True)}


def random_crop(rng: np.random.Generator, frames: list[Picture], size: tuple[int, int]) -> np.ndarray:
    """Reduce, crop and mirror all frames alike at random; square crops are also rotated by quarter turns."""
    import cv2

    (h, w), (fh, fw) = size, frames[0].shape[:2]
    min_scale = max(h / fh, w / fw)
    scale = rng.uniform(min_scale, max(1.0, min_scale))
    sh, sw = max(h, round(fh * scale)), max(w, round(fw * scale))
    y, x = int(rng.integers(0, sh - h + 1)), int(rng.integers(0, sw - w + 1))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    window = np.stack([cv2.resize(f, (sw, sh), interpolation=method) for f in frames])
    window = window[:, y : y + h, x : x + w]
    if rng.random() < 0.5:
        window = window[:, :, ::-1]
    quarter_turns = int(rng.integers(4)) if h == w else 0
    return np.ascontiguousarray(np.rot90(window, quarter_turns, axes=(1, 2)))
