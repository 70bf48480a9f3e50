"""Letterbox and pillarbox bars: borders of constant colour that both frames share.

Bars disturb motion estimation. Inside a bar every displacement matches, so there is no information, and the static edge
between bar and picture attracts the flow of the picture beside it. `find_bars` therefore counts the constant lines at
each side, `Bars.fill` replaces the bars by replicating the nearest line of the picture before motion is estimated or
frames are drawn, and the bars of the input are copied into the new frames (`rdvfi.render.content`).

A line (a row or a column) belongs to a bar if it has the colour of the outermost line in both frames: either the whole
line, up to coding noise, or at least the fraction `_MIN_BACKGROUND` of it where the remaining pixels are equal in both
frames (subtitles inside a bar). A run of such lines from the border is a bar only if the next line differs from the
colour of the bar along at least the fraction `_MIN_EDGE` of its length: bars end at a straight edge, a uniform sky does
not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rdvfi.content.cpu_shortcuts import is_absent
from rdvfi.ops.inference import inference_operator
from rdvfi.types import Image

_MAX_DEVIATION, _MAX_MEAN_DEVIATION = 14 / 255, 2.5 / 255
"""Coding noise within a bar: largest deviation of a pixel from its colour, and of the mean over a line."""
_MAX_DIFFERENCE = 6 / 255
"""Coding noise of a static region: largest difference between both frames."""
_MIN_BACKGROUND = 0.4
"""Least fraction of a line that has the bar's colour if it contains text."""
_MIN_EDGE = 0.3
"""Least fraction of the first line of the picture that differs from the bar."""
_SOFT_EDGE_LINES = 2
"""Number of lines over which coding or scaling blurs that edge."""
_MAX_BAR_DIVISOR = 3
"""A bar covers at most one third of the height or width."""
_SAMPLES_PER_LINE = 128
"""Approximate number of pixels sampled per line."""


@dataclass(frozen=True, eq=False)
class Bars:
    """The rectangle of the picture inside the bars, per sample; without bars it is the whole frame."""

    rows: Int64[Tensor, "b 2"]
    """The first row of the picture, and the row after its last."""
    columns: Int64[Tensor, "b 2"]
    """The first column of the picture, and the column after its last."""
    size: tuple[int, int]
    """Height and width of the frames."""

    def any(self) -> Tensor:
        """Whether any sample has a bar, as a boolean tensor with one element."""
        h, w = self.size
        return ((self.rows[:, 1] - self.rows[:, 0] < h) | (self.columns[:, 1] - self.columns[:, 0] < w)).any()

    def clone(self) -> "Bars":
        """A copy in memory of its own; replaying a captured graph overwrites the graph's outputs."""
        return Bars(self.rows.clone(), self.columns.clone(), self.size)

    def differs(self, other: "Bars") -> Tensor:
        """Whether the bars of any sample differ, as a boolean tensor with one element."""
        return (self.rows != other.rows).any() | (self.columns != other.columns).any()

    def fill(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
        """Replace the bars of images, padded or not, by replicating the nearest line of the picture."""
        if is_absent(self.any, images):
            return images
        return _fill_bars(images, torch.cat((self.rows, self.columns), dim=1))

    def edges(self) -> list[Tensor]:
        """Rows and columns for `rdvfi.ops.compositing`; empty if there are known to be no bars."""
        return [] if is_absent(self.any, self.rows) else [self.rows, self.columns]

    @classmethod
    def none(cls, images: Image) -> "Bars":
        """No bars, for frames of this shape and device."""
        h, w = images.shape[-2:]
        ends = torch.arange(2, device=images.device).expand(len(images), 2)
        return cls(ends * h, ends * w, (h, w))


def _fill_reference(images: Tensor, inside: Tensor) -> Tensor:
    b, c, h, w = images.shape
    rows, columns = _nearest_inside(inside[:, :2], h), _nearest_inside(inside[:, 2:], w)
    tall = images.gather(2, rows[:, None, :, None].expand(b, c, h, w))
    return tall.gather(3, columns[:, None, None, :].expand(b, c, h, w))


def _nearest_inside(inside: Int64[Tensor, "b 2"], length: int) -> Int64[Tensor, "b n"]:
    """For each of ``length`` lines, the index of the nearest line of the picture."""
    lines = torch.arange(length, device=inside.device)[None]
    return torch.minimum(torch.maximum(lines, inside[:, :1]), inside[:, 1:] - 1)


def find_bars(img0: Image, img1: Image) -> Bars:
    """The bars that both frames share."""
    h, w = img0.shape[-2:]
    if is_absent(lambda: _outermost_constant(img0, img1).any() | _outermost_constant(img0.mT, img1.mT).any(), img0):
        return Bars.none(img0)
    edges = _bars(img0, img1)
    return Bars(edges[:, :2], edges[:, 2:], (h, w))


def _bars_reference(img0: Tensor, img1: Tensor) -> Tensor:
    """First row of the picture, the row after its last, first column, and the column after its last: (b, 4)."""
    h, w = img0.shape[-2:]
    turned = img0.mT, img1.mT
    rows = (_bar_height(img0, img1), _bar_height(img0.flip(2), img1.flip(2)))
    columns = (_bar_height(*turned), _bar_height(turned[0].flip(2), turned[1].flip(2)))
    return torch.stack((rows[0], h - rows[1], columns[0], w - columns[1]), dim=1)


def _outermost_constant(img0: Image, img1: Image) -> Bool[Tensor, "b 2"]:
    """Whether the outermost rows, the upper and the lower one, are constant in both frames."""
    outermost = [image[:, :, row, :: _sample_step(image)] for row in (0, -1) for image in (img0, img1)]
    lines = torch.stack(outermost, dim=1).unflatten(1, (2, 2))  # (b, row, frame, 3, w)
    return (lines.amax(4) - lines.amin(4)).amax((2, 3)) < 2.0 * _MAX_DEVIATION


def _sample_step(image: Image) -> int:
    step = image.shape[3] // _SAMPLES_PER_LINE
    return step if step > 0 else 1  # `max` would remain in the shapes of a traced graph


def _bar_height(img0: Image, img1: Image) -> Int64[Tensor, " b"]:
    """Number of rows of the bar at the top."""
    max_height = max(1, img0.shape[2] // _MAX_BAR_DIVISOR)
    first, last = (
        image[:, :, : max_height + _SOFT_EDGE_LINES, :: _sample_step(img0)].contiguous() for image in (img0, img1)
    )
    colour = 0.5 * (first[:, :, :1].mean(3, keepdim=True) + last[:, :, :1].mean(3, keepdim=True))
    deviation = torch.maximum((first - colour).abs().amax(1), (last - colour).abs().amax(1))
    constant = (deviation.amax(2) < _MAX_DEVIATION) & (deviation.mean(2) < _MAX_MEAN_DEVIATION)
    equal = (first - last).abs().amax((1, 3)) < _MAX_DIFFERENCE
    differs = (deviation > _MAX_DIFFERENCE).float().mean(2)
    in_bar = constant | (equal & (differs < 1.0 - _MIN_BACKGROUND))
    # The outermost line defines the colour of the bar, so it must be constant itself.
    height = (in_bar[:, :max_height] & constant[:, :1]).long().cumprod(1).sum(1)
    after = torch.stack([differs.gather(1, (height + i)[:, None]) for i in range(_SOFT_EDGE_LINES)]).amax(0)[:, 0]
    return height * (after > _MIN_EDGE)


_bars = inference_operator(
    "bars",
    _bars_reference,
    lambda img0, img1: img0.new_empty((img0.shape[0], 4), dtype=torch.int64),
    "bars",
    launches=3,
    settings={
        "within": _MAX_DEVIATION,
        "mean_within": _MAX_MEAN_DEVIATION,
        "equal": _MAX_DIFFERENCE,
        "background": _MIN_BACKGROUND,
        "edge": _MIN_EDGE,
        "soft": _SOFT_EDGE_LINES,
        "widest": _MAX_BAR_DIVISOR,
        "samples": _SAMPLES_PER_LINE,
    },
)
_fill_bars = inference_operator(
    "fill_bars",
    _fill_reference,
    lambda images, inside: torch.empty_like(images, memory_format=torch.contiguous_format),
    "bars",
)
