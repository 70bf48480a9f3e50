r"""Overlays: static foreground in front of a moving scene, such as subtitles, logos and instruments.

An overlay is equal in both frames although its surroundings move. It is removed from both frames, the frames without it
are interpolated, and it is composited onto the results.

*Detection.* Over cells of the picture, the median of the flows that explain their pixels gives the motion of the
surroundings, ``b`` (`rdvfi.content.surroundings`). A pixel belongs to the overlay if both frames are equal there, if
``b`` is not zero and most cells around agree on it, if the pixel's own flow is ``b`` or zero, and if warping the other
frame by ``b`` does not reproduce the pixel. The agreement of the surroundings is essential: thin structures in front of
a sky are equal in both frames at some pixels by chance. Weaker evidence counts near strong evidence (hysteresis
thresholding).

*Removal.* With ``alpha`` the opacity, ``C`` the colour of the overlay, and ``A``, ``B`` the frames without it (clean
plates: the other frame, warped by ``b``, or an inpainting from the surroundings where that is covered as well),

    img0 = alpha C + (1 - alpha) A,   img1 = alpha C + (1 - alpha) B
    =>  1 - alpha = <img0 - img1, A - B> / |A - B|^2,

which holds for soft edges and for semi-transparent marks as well. A frame interpolated from ``A`` and ``B`` is
composited with the overlay as ``alpha C + (1 - alpha) frame``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.cpu_shortcuts import is_absent
from rdvfi.content.surroundings import CELL, CELLS_AROUND, MOVES, MOVING, surrounding_motion, tolerance
from rdvfi.content.windows import dilate, window_mean
from rdvfi.geometry import flow_length, resize_image
from rdvfi.ops.compositing import MAX_STATIC_DIFFERENCE, remove_overlay
from rdvfi.ops.inference import inference_operator
from rdvfi.ops.occlusion import PYRAMID, pull_push
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow, Image, SmallImage

Mask = Float[Tensor, "b 1 h w"]

_STRONG_EVIDENCE, _WEAK_EVIDENCE = 24 / 255, 8 / 255
"""Difference from the frame warped by ``b``: strong evidence for an overlay, and weak evidence (hysteresis)."""
_MIN_SEED_FRACTION = 0.08
"""Least fraction of pixels with strong evidence in a 7x7 window: isolated ones are chance."""
_GROUP_SIDE, _MIN_GROUP_FRACTION = 31, 0.08
"""Side of a window, and the fraction of it that the core of an overlay must fill nearby."""
_MAX_SOLID_DIFFERENCE = 7 / 255
"""Largest mean difference of the frames around a pixel of a static object."""
_SOLID_SIDE = 21
"""Side of the window for that mean."""
_WEAK_SIDE = 41
"""Side of the window around the core in which weak evidence counts."""
_MIN_AGREEMENT = 0.45
"""Least fraction of the cells around that share one motion."""
_PLATE_DILATION = 5
"""Side of the dilation of the mask for the clean plates, which covers soft edges."""
_FLOW_DILATION = 25
"""Side of the dilation for flows: windows of an estimator mix both motions near the overlay."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """An overlay of a pair, at motion size."""

    mask: Mask
    """1 where it is opaque, 0 elsewhere."""
    plates: Float[Tensor, "b 2 3 h w"]
    """Both frames without the overlay (clean plates)."""

    def flow_mask(self, size: tuple[int, int]) -> Mask:
        """1 where flows are affected by the overlay, 0 elsewhere, on a grid of this size."""
        return (resize_image(dilate(self.mask, _FLOW_DILATION), size) > 0.01).float()

    def remove_from(self, img0: Image, img1: Image) -> list[Tensor]:
        """Both frames at full size without the overlay, and its transparency; see `rdvfi.ops.compositing`."""
        return list(remove_overlay(img0, img1, self.mask, dilate(self.mask, _PLATE_DILATION), self.plates))


def find_overlay(img0: SmallImage, img1: SmallImage, onward: Flow, back: Flow) -> tuple[Mask, tuple[Flow, Flow]]:
    """The mask of the overlay (1 opaque, 0 elsewhere), and the motion of its surroundings in both directions.

    Args:
        img0: First frames at motion size.
        img1: Last frames at motion size.
        onward: Flow from first to last, in pixels of that size.
        back: Flow from last to first.
    """
    mask, motions = _overlay(img0, img1, onward, back)
    return mask, (motions[:, 0], motions[:, 1])


def _reference(img0: Tensor, img1: Tensor, onward: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    difference = (img0 - img1).abs().amax(1, keepdim=True)
    equal = difference < MAX_STATIC_DIFFERENCE
    first = _BackgroundTest.of(img0, img1, onward)
    nothing = torch.zeros_like(difference), torch.stack((first.motion, -first.motion), dim=1)
    if is_absent(lambda: (equal & first.possible & (first.differs > _STRONG_EVIDENCE)).any(), difference):
        return nothing
    last = _BackgroundTest.of(img1, img0, back)
    differs = torch.minimum(first.differs, last.differs)
    possible = equal & first.possible & last.possible
    if is_absent(lambda: (possible & (differs > _STRONG_EVIDENCE)).any(), difference):
        return nothing
    # Where the estimated flow is zero already, only pixels between which the background is visible can be an
    # overlay: a solid static object, such as the pillar of a car, is drawn correctly without this rule.
    solid = window_mean(difference, _SOLID_SIDE) < _MAX_SOLID_DIFFERENCE
    possible = possible & (first.follows & last.follows | ~solid)
    certain = ((differs > _STRONG_EVIDENCE) & possible).float()
    seeds = certain * (window_mean(certain, 7) > _MIN_SEED_FRACTION)
    core = _remove_sparse(dilate(seeds, 5) * possible, 0.2)
    core = core * _has_mask_nearby(core, _GROUP_SIDE, _MIN_GROUP_FRACTION)
    if is_absent(core.any, core):
        return nothing
    beside = equal & first.moves & last.moves & _has_mask_nearby(core, _WEAK_SIDE, 0.0)
    faint = ((differs > _WEAK_EVIDENCE) & beside).float()
    mask = torch.maximum(core, _remove_sparse(dilate(faint, 3) * beside, 0.15))
    return mask, torch.stack((first.motion, last.motion), dim=1)


@dataclass(frozen=True, eq=False)
class _BackgroundTest:
    """Comparison of the pixels of a frame with the motion of their surroundings."""

    motion: Flow
    differs: Mask
    """Difference between the pixel and the other frame warped by that motion."""
    moves: Bool[Tensor, "b 1 h w"]
    """Whether the surroundings move."""
    follows: Bool[Tensor, "b 1 h w"]
    """Whether the pixel's own flow equals that of its surroundings."""
    possible: Bool[Tensor, "b 1 h w"]
    """Whether the surroundings share one motion, and the pixel's own flow equals it or zero."""

    @classmethod
    def of(cls, image: SmallImage, other: SmallImage, flow: Flow) -> "_BackgroundTest":
        explained = (_difference(image, other, flow) < _STRONG_EVIDENCE).float()
        around = surrounding_motion(flow, explained)
        length = flow_length(around.motion)
        moves = length > MOVES
        like = flow_length(flow - around.motion) < tolerance(length)
        fits = like | (flow_length(flow) < MOVES)
        possible = moves & (around.agreement > _MIN_AGREEMENT) & fits
        return cls(around.motion, _difference(image, other, around.motion), moves, like & moves, possible)


def _difference(image: SmallImage, other: SmallImage, flow: Flow) -> Mask:
    """Largest difference over the channels between an image and another one warped by a flow."""
    return (image - backward_warp(other, flow)).abs().amax(1, keepdim=True)


def make_plates(img0: SmallImage, img1: SmallImage, mask: Mask, onward: Flow, back: Flow) -> Float[Tensor, "b 2 3 h w"]:
    """Clean plates: both frames without the overlay, at motion size.

    Args:
        img0: First frames.
        img1: Last frames.
        mask: Mask of the overlay.
        onward: Motion of the surroundings from first to last, in pixels.
        back: Motion of the surroundings from last to first.
    """
    return _plates(img0, img1, mask, onward, back)


def _plates_reference(img0: Tensor, img1: Tensor, mask: Tensor, onward: Tensor, back: Tensor) -> Tensor:
    near = dilate(mask, _PLATE_DILATION)
    return torch.stack([_plate(*pair, near) for pair in ((img0, img1, onward), (img1, img0, back))], dim=1)


def _plate(image: SmallImage, other: SmallImage, flow: Flow, near: Mask) -> SmallImage:
    """The other frame, warped; where the overlay covers that too, an inpainting from the surroundings."""
    warped = backward_warp(torch.cat((other, near), dim=1), flow)
    known = 1.0 - near * (warped[:, 3:] > 0.05)
    plate = torch.where(near > 0.5, warped[:, :3], image)
    return torch.where(known > 0.5, plate, pull_push(plate, known))


def _has_mask_nearby(mask: Mask, side: int, share: float) -> Bool[Tensor, "b 1 h w"]:
    """Where the mask fills more than a fraction of some window of about this side nearby.

    Computed on a grid of a quarter of the size, where wide windows are cheap.
    """
    small, cells = F.avg_pool2d(mask, 4, ceil_mode=True, count_include_pad=False), side // 8 * 2 + 1
    nearby = dilate(small if share == 0.0 else window_mean(small, cells), cells)
    return F.interpolate(nearby, (mask.shape[-2], mask.shape[-1]), mode="nearest") > share


def _remove_sparse(mask: Mask, share: float) -> Mask:
    """The mask without pixels whose 5x5 window it fills by ``share`` or less."""
    return mask * (window_mean(mask, 5) > share)


def _empty_outputs(img0: Tensor, img1: Tensor, onward: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    b, _, h, w = img0.shape
    return img0.new_empty((b, 1, h, w)), img0.new_empty((b, 2, 2, h, w))


_overlay = inference_operator(
    "overlay",
    _reference,
    _empty_outputs,
    "overlay",
    launches=21,
    settings={
        "equal": MAX_STATIC_DIFFERENCE,
        "certain": _STRONG_EVIDENCE,
        "faint": _WEAK_EVIDENCE,
        "seeds": _MIN_SEED_FRACTION,
        "group": (_GROUP_SIDE, _MIN_GROUP_FRACTION),
        "solid": _MAX_SOLID_DIFFERENCE,
        "around": _SOLID_SIDE,
        "reach": _WEAK_SIDE,
        "agrees": _MIN_AGREEMENT,
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
    settings={"edge": _PLATE_DILATION, **PYRAMID},
)
