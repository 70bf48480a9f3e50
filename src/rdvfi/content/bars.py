"""Letterbox and pillarbox bars: borders of constant colour that both frames share.

Bars disturb motion estimation. Inside a bar every displacement matches, so there is no information, and the static edge
between bar and picture attracts the flow of the picture beside it. `find_bars` therefore counts the constant lines at
each side, `Bars.filled` replaces the bars by replicating the nearest line of the picture before motion is estimated or
frames are drawn, and the bars of the input are copied into the new frames (`rdvfi.render.content`).

A line (a row or a column) belongs to a bar if it has the colour of the outermost line in both frames: either the whole
line, up to coding noise, or at least the fraction `_BACKGROUND` of it where the remaining pixels are equal in both
frames (subtitles inside a bar). A run of such lines from the border is a bar only if the next line differs from the
bar's colour along at least the fraction `_EDGE` of its length: a bar ends at a straight edge, a uniform sky does not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rdvfi.content.cpu_shortcuts import is_absent
from rdvfi.ops.inference import inference_operator
from rdvfi.types import Image

_RANGE, _DEVIATION = 14 / 255, 2.5 / 255
"""Coding noise within a bar: largest and mean deviation from its colour."""
_EQUAL = 6 / 255
"""Coding noise between two frames of a static region: largest difference."""
_BACKGROUND = 0.4
"""Least fraction of a line that has the bar's colour if it contains text."""
_EDGE = 0.3
"""Least fraction of the first line of the picture that differs from the bar."""
_SOFT = 2
"""Number of lines over which coding or scaling blurs that edge."""
_WIDEST = 3
"""A bar covers at most one third of the side."""
_SAMPLES = 128
"""Approximate number of pixels sampled per line."""


@dataclass(frozen=True, eq=False)
class Bars:
    """The rectangle of the picture inside the bars, per sample; without bars it is the whole frame."""

    rows: Int64[Tensor, "b 2"]
    """The first row of the picture, and the one after its last."""
    columns: Int64[Tensor, "b 2"]
    """The same for columns."""
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

    def filled(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
        """Images, padded or not, whose bars are replaced by replicating the nearest line of the picture."""
        if is_absent(self.any, images):
            return images
        return _fill_bars(images, torch.cat((self.rows, self.columns), dim=1))

    def edges(self) -> list[Tensor]:
        """Rows and columns as `rdvfi.ops.compositing` takes them; empty if there are known to be no bars."""
        return [] if is_absent(self.any, self.rows) else [self.rows, self.columns]

    @classmethod
    def none(cls, images: Image) -> "Bars":
        """No bars, for frames of this shape and device."""
        h, w = images.shape[-2:]
        ends = torch.arange(2, device=images.device).expand(len(images), 2)
        return cls(ends * h, ends * w, (h, w))


def _fill_reference(images: Tensor, inside: Tensor) -> Tensor:
    b, c, h, w = images.shape
    rows, columns = _nearest(inside[:, :2], h), _nearest(inside[:, 2:], w)
    tall = images.gather(2, rows[:, None, :, None].expand(b, c, h, w))
    return tall.gather(3, columns[:, None, None, :].expand(b, c, h, w))


def _nearest(inside: Int64[Tensor, "b 2"], length: int) -> Int64[Tensor, "b n"]:
    lines = torch.arange(length, device=inside.device)[None]
    return torch.minimum(torch.maximum(lines, inside[:, :1]), inside[:, 1:] - 1)


def find_bars(img0: Image, img1: Image) -> Bars:
    """The bars that both frames share."""
    h, w = img0.shape[-2:]
    if is_absent(lambda: _begins(img0, img1).any() | _begins(img0.mT, img1.mT).any(), img0):
        return Bars.none(img0)
    found = _bars(img0, img1)
    return Bars(found[:, :2], found[:, 2:], (h, w))


def _bars_reference(img0: Tensor, img1: Tensor) -> Tensor:
    """The first row of the picture and the one after its last, and the same for columns, (b, 4)."""
    h, w = img0.shape[-2:]
    turned = img0.mT, img1.mT
    rows = (_run(img0, img1), _run(img0.flip(2), img1.flip(2)))
    columns = (_run(*turned), _run(turned[0].flip(2), turned[1].flip(2)))
    return torch.stack((rows[0], h - rows[1], columns[0], w - columns[1]), dim=1)


def _begins(img0: Image, img1: Image) -> Bool[Tensor, "b 2"]:
    """Whether the outermost rows, the upper and the lower one, are constant in both frames."""
    outermost = [image[:, :, row, :: _step(image)] for row in (0, -1) for image in (img0, img1)]
    lines = torch.stack(outermost, dim=1).unflatten(1, (2, 2))  # (b, row, frame, 3, w)
    return (lines.amax(4) - lines.amin(4)).amax((2, 3)) < 2.0 * _RANGE


def _step(image: Image) -> int:
    step = image.shape[3] // _SAMPLES
    return step if step > 0 else 1  # `max` would stay in the shapes of a traced graph


def _run(img0: Image, img1: Image) -> Int64[Tensor, " b"]:
    """Number of rows of the bar at the upper side."""
    deepest = max(1, img0.shape[2] // _WIDEST)
    first, last = (image[:, :, : deepest + _SOFT, :: _step(img0)].contiguous() for image in (img0, img1))
    colour = 0.5 * (first[:, :, :1].mean(3, keepdim=True) + last[:, :, :1].mean(3, keepdim=True))
    off = torch.maximum((first - colour).abs().amax(1), (last - colour).abs().amax(1))
    constant = (off.amax(2) < _RANGE) & (off.mean(2) < _DEVIATION)
    equal = (first - last).abs().amax((1, 3)) < _EQUAL
    differs = (off > _EQUAL).float().mean(2)
    line = constant | (equal & (differs < 1.0 - _BACKGROUND))
    # The outermost line defines the colour of the bar, so it must be constant itself.
    run = (line[:, :deepest] & constant[:, :1]).long().cumprod(1).sum(1)
    after = torch.stack([differs.gather(1, (run + i)[:, None]) for i in range(_SOFT)]).amax(0)[:, 0]
    return run * (after > _EDGE)


_bars = inference_operator(
    "bars",
    _bars_reference,
    lambda img0, img1: img0.new_empty((img0.shape[0], 4), dtype=torch.int64),
    "bars",
    launches=3,
    settings={
        "within": _RANGE,
        "mean_within": _DEVIATION,
        "equal": _EQUAL,
        "background": _BACKGROUND,
        "edge": _EDGE,
        "soft": _SOFT,
        "widest": _WIDEST,
        "samples": _SAMPLES,
    },
)
_fill_bars = inference_operator(
    "fill_bars",
    _fill_reference,
    lambda images, inside: torch.empty_like(images, memory_format=torch.contiguous_format),
    "bars",
)
