"""Letterbox and pillarbox bars: constant borders that are in both frames.

Black matches black wherever it is, so bars tell an estimator nothing, and their straight edge, which
stands still beside a picture that moves, tells it something false: the motion of the picture leaks
into the bars and the bars into the picture. `find_bars` counts the constant lines at each side,
`Bars.filled` continues the picture over them for whoever estimates or draws; the bars of the input are
put back into the frames made (`rdvfi.render.content`).

A line (a row or a column) belongs to a bar if it looks like the outermost one in both frames: all of
it up to what a codec leaves of noise, or at least `_BACKGROUND` of it where the rest is equal in both
frames, as subtitles inside a bar are. The run of such lines from the border is a bar if the line
after it differs along at least `_EDGE` of its length: a bar ends in a straight edge, a sky does not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rdvfi.content.skipping import is_absent
from rdvfi.ops.inference import inference_operator
from rdvfi.types import Image

_RANGE, _DEVIATION = 14 / 255, 2.5 / 255
"""What a codec leaves in a bar: the largest and the mean deviation from its colour."""
_EQUAL = 6 / 255
"""Difference of two frames that a codec may leave in what stands still."""
_BACKGROUND = 0.4
"""Share of a line that shows the bar's colour where text stands in it."""
_EDGE = 0.3
"""Share of the first line of the picture that differs from the bar."""
_SOFT = 2
"""Lines over which a codec or a scaler smears that edge."""
_WIDEST = 3
"""A bar takes at most a third of the side."""
_SAMPLES = 128
"""Pixels of a line that are looked at, about: what matters here is wider than those between."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Where the picture is, per sample; a frame without bars has it everywhere."""

    rows: Int64[Tensor, "b 2"]
    """The first row of the picture, and the one after its last."""
    columns: Int64[Tensor, "b 2"]
    """The same for columns."""
    size: tuple[int, int]
    """Height and width of the frames."""

    def any(self) -> Tensor:
        """Whether a sample has any bar: a tensor with one truth value."""
        h, w = self.size
        return ((self.rows[:, 1] - self.rows[:, 0] < h) | (self.columns[:, 1] - self.columns[:, 0] < w)).any()

    def clone(self) -> "Bars":
        """A copy, which no later call of a captured graph writes over."""
        return Bars(self.rows.clone(), self.columns.clone(), self.size)

    def differs(self, other: "Bars") -> Tensor:
        """Whether any sample has other bars: a tensor with one truth value."""
        return (self.rows != other.rows).any() | (self.columns != other.columns).any()

    def filled(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
        """Images, also padded ones, whose bars are covered by the nearest line of the picture."""
        if is_absent(self.any, images):
            return images
        return _fill_bars(images, torch.cat((self.rows, self.columns), dim=1))

    def edges(self) -> list[Tensor]:
        """Rows and columns, as `rdvfi.ops.compositing` takes them; empty if it is known that there are no bars."""
        return [] if is_absent(self.any, self.rows) else [self.rows, self.columns]

    @classmethod
    def none(cls, images: Image) -> "Bars":
        """No bars, in frames like these."""
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
    """The bars that two frames have in common."""
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
    """Rows of a bar at the upper side."""
    deepest = max(1, img0.shape[2] // _WIDEST)
    first, last = (image[:, :, : deepest + _SOFT, :: _step(img0)].contiguous() for image in (img0, img1))
    colour = 0.5 * (first[:, :, :1].mean(3, keepdim=True) + last[:, :, :1].mean(3, keepdim=True))
    off = torch.maximum((first - colour).abs().amax(1), (last - colour).abs().amax(1))
    constant = (off.amax(2) < _RANGE) & (off.mean(2) < _DEVIATION)
    equal = (first - last).abs().amax((1, 3)) < _EQUAL
    differs = (off > _EQUAL).float().mean(2)
    line = constant | (equal & (differs < 1.0 - _BACKGROUND))
    # The outermost line tells the colour, so it has to be constant itself.
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
