"""Detection of the letterbox bars of a whole video before the work starts.

`rdvfi.content` keeps the bars of a single pair of frames still. Here they are found once, from frames all over the
video, and excluded from estimation and rendering: this is faster, and neither a dark scene nor subtitles inside a
bar move the border of the picture.

A bar is the run of lines from a border that have the colour of the outermost one, except for `_TOLERATED_PERCENT` of
their pixels, where a codec smears the edge. Dark scenes lengthen the run, so the bar of a video is the shortest run
of all sampled frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from torch import Tensor

from rdvfi.media.pixels import Pixels, to_picture
from rdvfi.media.reader import Source
from rdvfi.types import Image

_SAMPLED_PLACES, _FRAMES_PER_PLACE = 8, 2
_TOLERATED_PERCENT = 5.0
_NOISE = 14
"""Difference, of 255, that a codec leaves in a bar."""
_MIN_SIDE = 16
"""Pixels of a side that must be left."""


@dataclass(frozen=True)
class Letterbox:
    """Widths of the bars in pixels."""

    above: int = 0
    below: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.above, self.below, self.left, self.right))

    def crop(self, images: Float[Tensor, "*b c H W"]) -> Float[Tensor, "*b c h w"]:
        """Images without their bars."""
        height, width = images.shape[-2:]
        return images[..., self.above : height - self.below, self.left : width - self.right]

    def crop_pixels(self, pixels: Pixels) -> Pixels:
        """A picture (H, W, C) without its bars."""
        height, width = pixels.shape[:2]
        return pixels[self.above : height - self.below, self.left : width - self.right]

    def add_bars(self, frames: Float[Tensor, "b 3 h w"], first: Image, last: Image, timestep: float) -> Image:
        """Cropped output frames with the bars of the nearer one of the two input frames."""
        framed = (first if timestep <= 0.5 else last).clone()
        self.crop(framed).copy_(frames)
        return framed

    def note(self, name: str) -> str:
        """A sentence on the bars that were found in the video ``name``."""
        if not self:
            return f"no bars were found around the picture of {name}"
        parts = ((self.above, "above"), (self.below, "below"), (self.left, "on the left"), (self.right, "on the right"))
        return f"bars of {', '.join(f'{lines} pixels {side}' for lines, side in parts if lines)} were kept still"


def find_letterbox(source: Source) -> Letterbox:
    """The bars that a video has from beginning to end; raises ValueError if it can only be read once."""
    if not source.repeatable:
        raise ValueError(f"crop_bars is on, but {source.info.name} cannot be read twice")
    runs = [run for pixels in _sample_frames(source) if (run := _bars(to_picture(pixels[..., :3]))) is not None]
    if not runs:
        return Letterbox()
    box = Letterbox(*np.array(runs).min(axis=0).tolist())
    shorter_side = min(source.info.height - box.above - box.below, source.info.width - box.left - box.right)
    return box if shorter_side >= _MIN_SIDE else Letterbox()


def _sample_frames(source: Source) -> Iterator[Pixels]:
    for place in range(_SAMPLED_PLACES):
        since = Fraction(place, _SAMPLED_PLACES) * source.info.span
        for _, frame in zip(range(_FRAMES_PER_PLACE), source.frames(since if place else None), strict=False):
            yield frame.pixels


def _bars(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Lines of one colour above, below, on the left and on the right; None for a picture of one colour."""
    rows = picture.astype(np.int16)
    above, below = _uniform_lines(rows), _uniform_lines(rows[::-1])
    if above + below >= len(rows):
        return None
    columns = rows[above : len(rows) - below].swapaxes(0, 1)
    return above, below, _uniform_lines(columns), _uniform_lines(columns[::-1])


def _uniform_lines(lines: np.ndarray) -> int:
    """Number of lines from the first on that have its colour."""
    colour = np.median(lines[0], axis=0)
    difference = np.percentile(np.abs(lines - colour).max(axis=2), 100 - _TOLERATED_PERCENT, axis=1)
    uniform = difference <= _NOISE
    return int(np.argmin(uniform)) if not uniform.all() else len(lines)
