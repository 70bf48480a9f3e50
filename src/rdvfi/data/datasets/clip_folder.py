"""Batches of real frames from folders of videos or of frames.

`rdvfi.media.clip.find_clips` lists what is below a folder: every video file is a clip, and so is
every folder that holds images. `ClipWindows` draws windows from them: a random clip, a random
stride, a window without a scene cut, played forwards or backwards, and cropped, all frames alike.

Which times real frames have. A window of ``n`` intervals has true frames at ``i / n`` only, so the
nine knots ``i / 8`` are true frames just where ``n`` is a multiple of 8. Taking the nearest frame
instead would teach the motion wrong times. So there are two kinds of windows:

* ``knots=True``: 8 or 16 intervals. Frames at the knots, then free frames; those of 16 intervals
  lie between the knots, those of 8 fall on knots. For all that needs true latents at the knots.
* ``knots=False``: any number of intervals from 5 to 20 that 8 does not divide. The two ends, then
  free frames at their own times; nothing is known at the knots. For the photometric losses, where
  the keyframes are predicted; no model can get by with being right on the knots alone.
"""

from collections.abc import Sequence

import numpy as np

from rdvfi.data.sources import ENDS_ONLY, Stream
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.media.clip import Clip
from rdvfi.media.pixels import Picture
from rdvfi.media.scene_cuts import has_cut

TRIES = 50
"""Windows that are drawn before a folder is given up as all cuts."""


class ClipWindows:
    """Draws one sample at a time; `source` makes batches of it.

    Args:
        clips: Clips by name, as `find_clips` lists them; those too short for any window are left
            out.
        size: (height, width) of the frames; larger pictures are reduced and cropped.
        knots: Which kind of windows; see the module.
        free: Free frames of a sample.
        strides: Frames of the clip from one frame of a window to the next, drawn uniformly.
        held_out: Share at the end of each clip that no window reaches.

    Raises:
        ValueError: If every clip is too short.
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
        self._spans = [8, 16] if knots else [n for n in range(5, 21) if n % 8]
        shortest = min(self._spans) * min(strides) + 1
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out must be a share in [0, 1); got {held_out}")
        self._held_out = held_out
        self._clips = [clip for clip in clips.values() if self._length(clip) >= shortest]
        if not self._clips:
            longest = max(clips, key=lambda name: len(clips[name]), default=None)
            raise ValueError(
                f"every clip is too short: {shortest} frames are needed, and the longest, "
                f"{longest}, has {len(clips[longest]) if longest else 0}"
            )
        self._size, self._knots, self._free = size, knots, free
        self._strides = strides

    def _length(self, clip: Clip) -> int:
        """Frames that windows may be drawn from."""
        return len(clip) - round(self._held_out * len(clip))

    def source(self, *, workers: int = 1) -> Stream:
        """Batches of ``frames`` (b, t, 3, h, w) and ``times`` (b, t)."""
        return Stream(self.sample, workers=workers)

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One window: 8-bit ``frames`` (t, h, w, 3) and their ``times``.

        Raises:
            ValueError: If no window without a scene cut is found.
        """
        for _ in range(TRIES):
            clip = self._clips[int(rng.integers(len(self._clips)))]
            count = self._length(clip)
            fitting = [(span, stride) for span in self._spans for stride in self._strides if span * stride < count]
            span, stride = fitting[int(rng.integers(len(fitting)))]
            first = int(rng.integers(count - span * stride))
            frames = clip.read([first + i * stride for i in range(span + 1)])
            if not has_cut(frames):
                return window_sample(rng, frames, self._size, free=self._free, knots=self._knots)
        raise ValueError(f"no window without a scene cut in {TRIES} draws from the clips")


def window_sample(
    rng: np.random.Generator, frames: Sequence[Picture], size: tuple[int, int], *, free: int, knots: bool = True
) -> dict[str, np.ndarray]:
    """A sample of a window: `ClipWindows` says which frames; forwards or backwards, and cropped.

    Args:
        rng: Draws.
        frames: All of the window; where ``knots`` are asked for, one more than a multiple of 8.
        size: (height, width) of the sample.
        free: Frames beside the fixed ones.
        knots: Whether the fixed ones are the nine knots, or both ends alone.
    """
    span = len(frames) - 1
    fixed = np.arange(0, span + 1, span // (KNOTS - 1)) if knots else np.array([0, span])
    between = np.setdiff1d(np.arange(1, span), fixed)
    between = between if len(between) else np.arange(1, span)
    chosen = rng.choice(between, free, replace=len(between) < free)
    order = np.concatenate((fixed, np.sort(chosen)))
    times = (order / span).astype(np.float32)
    order = span - order if rng.random() < 0.5 else order
    sample = {"frames": cropped(rng, [frames[i] for i in order], size), "times": times}
    return sample if knots else {**sample, ENDS_ONLY: np.array(True)}


def cropped(rng: np.random.Generator, frames: list[Picture], size: tuple[int, int]) -> np.ndarray:
    """A random reduction, crop and mirroring, the same of all frames; square crops also turn."""
    import cv2

    (h, w), (fh, fw) = size, frames[0].shape[:2]
    least = max(h / fh, w / fw)
    scale = rng.uniform(least, max(1.0, least))
    sh, sw = max(h, round(fh * scale)), max(w, round(fw * scale))
    y, x = int(rng.integers(0, sh - h + 1)), int(rng.integers(0, sw - w + 1))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    window = np.stack([cv2.resize(f, (sw, sh), interpolation=method) for f in frames])
    window = window[:, y : y + h, x : x + w]
    if rng.random() < 0.5:
        window = window[:, :, ::-1]
    quarter = int(rng.integers(4)) if h == w else 0
    return np.ascontiguousarray(np.rot90(window, quarter, axes=(1, 2)))
