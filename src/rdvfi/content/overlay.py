r"""Overlays: what stands still in front of what moves, as subtitles, logos and instruments do.

An overlay is equal in both frames although everything around it moves as one: the motion of the
surroundings explains it badly. It is lifted off, the frames without it are interpolated, and it is
laid back on top.

*Finding.* Over cells of the picture the median of the flows that explain their pixels gives the
motion of the surroundings, ``b``. A pixel belongs to the overlay if both frames are equal there,
``b`` is no rest and most cells around agree on it, the flow of the pixel is ``b`` or zero, and the
picture moved by ``b`` differs. The agreement of the surroundings is essential: wires in front of a
sky are equal in places by chance. Fainter parts count beside certain ones (hysteresis).

*Lifting.* With ``alpha`` the opacity, ``C`` its colour and ``A``, ``B`` the frames without it
(``plates``: the other frame, moved by ``b``, or the surroundings where that is covered too),

    img0 = alpha C + (1 - alpha) A,   img1 = alpha C + (1 - alpha) B
    =>  1 - alpha = <img0 - img1, A - B> / |A - B|^2,

which also holds for soft edges and for marks that are half transparent. A frame made from ``A`` and
``B`` shows the overlay again as ``alpha C + (1 - alpha) frame``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.skipping import is_absent
from rdvfi.content.surroundings import CELL, CELLS_AROUND, MOVES, MOVING, surrounding_motion, tolerance
from rdvfi.content.windows import widened, window_mean
from rdvfi.geometry import flow_length, resize_image
from rdvfi.ops.compositing import EQUAL, lifted_overlay
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.occlusion import PYRAMID, pull_push
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Image, SmallImage

Mask = Float[Tensor, "b 1 h w"]

_CERTAIN, _FAINT = 24 / 255, 8 / 255
"""Difference from the moved picture that shows an overlay, and one that does so beside it."""
_SEEDS = 0.08
"""Share of certain pixels around one that is not there by chance."""
_GROUP, _SUPPORT = 31, 0.08
"""An overlay fills this share of a window of this side somewhere near; less is chance."""
_SOLID = 7 / 255
"""Mean difference of the frames around a pixel of what stands still as a whole."""
_AROUND = 21
"""Side of the window in which a thing is seen to be solid."""
_REACH = 41
"""Side of the window around certain parts in which faint ones count."""
_AGREES = 0.45
"""Share of the cells around that move as one."""
_EDGE = 5
"""Side of the window by which the plate reaches beyond the overlay, for its soft edges."""
_FLOW_EDGE = 25
"""The same for its flow: an estimator's windows mix both motions there."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """An overlay of a pair, at motion size."""

    mask: Mask
    """1 where it is opaque, 0 elsewhere."""
    plates: Float[Tensor, "b 2 3 h w"]
    """Both frames without it."""

    def flow_mask(self, size: tuple[int, int]) -> Mask:
        """Where flows are those of the overlay, wholly or in part, on a grid of this size: 1 or 0."""
        return (resize_image(widened(self.mask, _FLOW_EDGE), size) > 0.01).float()

    def lifted(self, img0: Image, img1: Image) -> list[Tensor]:
        """Both frames, at full size, without it, and its transparency: see `rdvfi.ops.compositing`."""
        return list(lifted_overlay(img0, img1, self.mask, widened(self.mask, _EDGE), self.plates))


def find_overlay(img0: SmallImage, img1: SmallImage, onward: Flow, back: Flow) -> tuple[Mask, tuple[Flow, Flow]]:
    """Where an overlay is opaque (1, elsewhere 0), and the motion of its surroundings, both ways.

    Args:
        img0: First frames at motion size.
        img1: Last ones.
        onward: Flow from first to last, in pixels of that size.
        back: The other way.
    """
    mask, motions = _overlay(img0, img1, onward, back)
    return mask, (motions[:, 0], motions[:, 1])


def _reference(img0: Tensor, img1: Tensor, onward: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    apart = (img0 - img1).abs().amax(1, keepdim=True)
    equal = apart < EQUAL
    first = _Against.of(img0, img1, onward)
    nothing = torch.zeros_like(apart), torch.stack((first.motion, -first.motion), dim=1)
    if is_absent(lambda: (equal & first.possible & (first.differs > _CERTAIN)).any(), apart):
        return nothing
    last = _Against.of(img1, img0, back)
    differs = torch.minimum(first.differs, last.differs)
    possible = equal & first.possible & last.possible
    if is_absent(lambda: (possible & (differs > _CERTAIN)).any(), apart):
        return nothing
    # A thing that an estimator saw standing still is an overlay only if what is between its parts
    # moves: a car's pillar before a landscape is drawn well already.
    solid = window_mean(apart, _AROUND) < _SOLID
    possible = possible & (first.dragged & last.dragged | ~solid)
    certain = ((differs > _CERTAIN) & possible).float()
    seeds = certain * (window_mean(certain, 7) > _SEEDS)
    core = _dense(widened(seeds, 5) * possible, 0.2)
    core = core * _near(core, _GROUP, _SUPPORT)
    if is_absent(core.any, core):
        return nothing
    beside = equal & first.moves & last.moves & _near(core, _REACH, 0.0)
    faint = ((differs > _FAINT) & beside).float()
    mask = torch.maximum(core, _dense(widened(faint, 3) * beside, 0.15))
    return mask, torch.stack((first.motion, last.motion), dim=1)


@dataclass(frozen=True, eq=False)
class _Against:
    """A frame against the motion of its surroundings."""

    motion: Flow
    differs: Mask
    """How far the picture moved by it is from the pixel."""
    moves: Bool[Tensor, "b 1 h w"]
    """Whether the surroundings move."""
    dragged: Bool[Tensor, "b 1 h w"]
    """Whether the pixel's own flow is theirs."""
    possible: Bool[Tensor, "b 1 h w"]
    """Whether they move as one, and the pixel's own flow is theirs or zero."""

    @classmethod
    def of(cls, image: SmallImage, other: SmallImage, flow: Flow) -> "_Against":
        explained = (_difference(image, other, flow) < _CERTAIN).float()
        around = surrounding_motion(flow, explained)
        length = flow_length(around.motion)
        moves = length > MOVES
        like = flow_length(flow - around.motion) < tolerance(length)
        fits = like | (flow_length(flow) < MOVES)
        possible = moves & (around.agreement > _AGREES) & fits
        return cls(around.motion, _difference(image, other, around.motion), moves, like & moves, possible)


def _difference(image: SmallImage, other: SmallImage, flow: Flow) -> Mask:
    """How far a picture is from another one moved by a flow, in its worst channel."""
    return (image - backward_warp(other, flow)).abs().amax(1, keepdim=True)


def make_plates(img0: SmallImage, img1: SmallImage, mask: Mask, onward: Flow, back: Flow) -> Float[Tensor, "b 2 3 h w"]:
    """Both frames without an overlay, at motion size.

    Args:
        img0: First frames.
        img1: Last ones.
        mask: Where the overlay is.
        onward: Motion of the surroundings from first to last, in pixels.
        back: The other way.
    """
    return _plates(img0, img1, mask, onward, back)


def _plates_reference(img0: Tensor, img1: Tensor, mask: Tensor, onward: Tensor, back: Tensor) -> Tensor:
    near = widened(mask, _EDGE)
    return torch.stack([_plate(*pair, near) for pair in ((img0, img1, onward), (img1, img0, back))], dim=1)


def _plate(image: SmallImage, other: SmallImage, flow: Flow, near: Mask) -> SmallImage:
    """What the other frame shows there; where it is covered there too, the surroundings."""
    seen = backward_warp(torch.cat((other, near), dim=1), flow)
    known = 1.0 - near * (seen[:, 3:] > 0.05)
    plate = torch.where(near > 0.5, seen[:, :3], image)
    return torch.where(known > 0.5, plate, pull_push(plate, known))


def _near(mask: Mask, side: int, share: float) -> Bool[Tensor, "b 1 h w"]:
    """Where a window of about this side within reach of it holds more than a share of the mask.

    Found on a grid of a quarter of the size, where wide windows cost little.
    """
    small, cells = F.avg_pool2d(mask, 4, ceil_mode=True, count_include_pad=False), side // 8 * 2 + 1
    held = widened(small if share == 0.0 else window_mean(small, cells), cells)
    return F.interpolate(held, (mask.shape[-2], mask.shape[-1]), mode="nearest") > share


def _dense(mask: Mask, share: float) -> Mask:
    """A mask without what fills less than ``share`` of its surroundings."""
    return mask * (window_mean(mask, 5) > share)


def _empty(img0: Tensor, img1: Tensor, onward: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    b, _, h, w = img0.shape
    return img0.new_empty((b, 1, h, w)), img0.new_empty((b, 2, 2, h, w))


_overlay = inference_operator(
    "overlay",
    _reference,
    _empty,
    "overlay",
    launches=21,
    settings={
        "equal": EQUAL,
        "certain": _CERTAIN,
        "faint": _FAINT,
        "seeds": _SEEDS,
        "group": (_GROUP, _SUPPORT),
        "solid": _SOLID,
        "around": _AROUND,
        "reach": _REACH,
        "agrees": _AGREES,
        "moves": MOVES,
        "cell": CELL,
        "cells_around": CELLS_AROUND,
        "moving": MOVING,
    },
)
_plates = inference_operator(
    "plates",
    _plates_reference,
    lambda img0, img1, mask, onward, back: img0.new_empty((img0.shape[0], 2, *img0.shape[1:])),
    "plates",
    launches=11,
    settings={"edge": _EDGE, **PYRAMID},
)
