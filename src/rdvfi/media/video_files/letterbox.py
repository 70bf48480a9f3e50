"""Detection of the letterbox bars of a whole film before the work starts.

`rdvfi.content` keeps the bars of a pair of frames still by itself. Here they are found once, from
frames all over the film, and left out of whatever is estimated and drawn: it is faster, and neither a
dark scene nor subtitles inside a bar change where the picture ends.

A bar is the run of lines from a border that have one colour, that of the outermost, but for `_SHARE`
of their pixels, which is what a codec smears there. In the dark the run is longer; so a bar is as wide
as in the frame, of all that were looked at, where it is narrowest: no line of the picture stands still.
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

_PLACES, _EACH = 8, 2
"""Places of a film that are looked at, and frames at each."""
_SHARE = 5.0
"""Per cent."""
_NOISE = 14
"""Difference, of 255, that a codec leaves in a bar."""
_LEAST = 16
"""Pixels that are left of a side at least."""


@dataclass(frozen=True)
class Letterbox:
    """How many lines the bars take."""

    above: int = 0
    below: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.above, self.below, self.left, self.right))

    def crop(self, images: Float[Tensor, "*b c H W"]) -> Float[Tensor, "*b c h w"]:
        """The picture without its bars."""
        height, width = images.shape[-2:]
        return images[..., self.above : height - self.below, self.left : width - self.right]

    def crop_pixels(self, pixels: Pixels) -> Pixels:
        """The same of pixels of a file."""
        height, width = pixels.shape[:2]
        return pixels[self.above : height - self.below, self.left : width - self.right]

    def add_bars(self, frames: Float[Tensor, "b 3 h w"], first: Image, last: Image, timestep: float) -> Image:
        """New pictures with the bars of the nearer one of two frames each."""
        framed = (first if timestep <= 0.5 else last).clone()
        self.crop(framed).copy_(frames)
        return framed

    def note(self, name: str) -> str:
        """What was found, in a sentence."""
        if not self:
            return f"no bars were found around the picture of {name}"
        parts = ((self.above, "above"), (self.below, "below"), (self.left, "on the left"), (self.right, "on the right"))
        return f"bars of {', '.join(f'{lines} pixels {side}' for lines, side in parts if lines)} were kept still"


def find_letterbox(source: Source) -> Letterbox:
    """The bars that a film has from its beginning to its end; raises ValueError if it can be read once only."""
    if not source.repeatable:
        raise ValueError(f"crop_bars is on, but {source.info.name} cannot be read twice")
    runs = [found for pixels in _samples(source) if (found := _runs(to_picture(pixels[..., :3]))) is not None]
    if not runs:
        return Letterbox()
    box = Letterbox(*np.array(runs).min(axis=0).tolist())
    small = min(source.info.height - box.above - box.below, source.info.width - box.left - box.right) < _LEAST
    return Letterbox() if small else box


def _samples(source: Source) -> Iterator[Pixels]:
    info = source.info
    for place in range(_PLACES):
        since = Fraction(place, _PLACES) * info.span
        for _, frame in zip(range(_EACH), source.frames(since if place else None), strict=False):
            yield frame.pixels


def _runs(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Lines of one colour above, below, on the left and on the right; None for a frame of one colour."""
    rows, columns = (picture.astype(np.int16), picture.astype(np.int16).swapaxes(0, 1))
    runs = [_run(side) for side in (rows, rows[::-1])]
    if sum(runs) >= len(rows):
        return None
    inside = columns[:, runs[0] : len(rows) - runs[1]]  # bars above and below are no part of those at the sides
    runs += [_run(side) for side in (inside, inside[::-1])]
    return runs[0], runs[1], runs[2], runs[3]


def _run(lines: np.ndarray) -> int:
    """How many lines from the first on are all of its colour."""
    colour = np.median(lines[0], axis=0)
    off = np.percentile(np.abs(lines - colour).max(axis=2), 100 - _SHARE, axis=1)
    constant = off <= _NOISE
    return int(np.argmin(constant)) if not constant.all() else len(lines)
