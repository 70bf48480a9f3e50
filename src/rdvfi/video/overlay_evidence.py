r"""Evidence that pixels belong to an overlay: static in front of a picture that moves.

Between two frames ``i < j`` of a run, not necessarily neighbours, a pixel is evidence if it is equal in all frames
from ``i`` to ``j`` although the picture's motion from ``i`` to ``j`` would have changed it. The motion is DIS flow,
in both directions, and is read in two ways:

*Motion of the surroundings.* `rdvfi.content.overlay` compares the pixel with the other frame warped by the median
motion around it. This holds for any scene, and fails where the motion vanishes: near the centre of a zoom.

*Motion of the whole picture.* An affine motion is fitted to the flow of all pixels that change, robustly. If most of
them follow it, in most cells of the picture that change, it says how the picture moves near its centre as well: a
pixel with a strong gradient tells a motion of a fraction of a pixel from none.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from rdvfi.content.overlay import find_overlay
from rdvfi.content.windows import window_mean
from rdvfi.geometry import flow_length, pixel_grid, stays_inside
from rdvfi.media.pixels import Picture
from rdvfi.motion.flow.similarity_hypotheses import DIS, to_gray
from rdvfi.ops.warp import backward_warp
from rdvfi.saved_models.staged_model import MOTION_AREA
from rdvfi.types import Flow, SmallImage

SMALL = MOTION_AREA
"""Pixels of the pictures on which evidence is looked for."""
EQUAL = 10
"""Grey levels by which a pixel of an overlay may vary over several frames: what codecs leave, at the reduced size."""
_LEVELS = 255
_EXPLAINS = 24 / _LEVELS
"""Least difference from the warped frame that the flow does not explain."""
_SHOWS, _MOVED = 8 / _LEVELS, 0.1
"""Least difference from the frame that is moved as the whole picture is, and least motion, in pixels of the reduced
size, that are evidence."""
_STRONG = 30
"""Strength of evidence by the surroundings, in grey levels."""
_MINORITY = 0.35
"""Share of the pixels that the motion of the whole picture would change that may be an overlay, at most."""
_DENSE = 0.1
"""Share of a 7x7 window: isolated pixels are chance."""
_CHANGED, _EXPLAINED = 0.002, 0.6
"""Least share of pixels that change; least share of these that the flow explains."""
_AGREE, _CELLS, _LEAST, _SPREAD = 0.6, 6, 0.03, 6
"""Least share of changing pixels, and of cells with such, that follow the affine motion; cells along each side, the
share of a cell that has to change, and how many cells do at least."""
_FEW, _ROUNDS = 64, 4
"""Pixels that an affine motion is fitted to at least; rounds of the fit, each without outliers of the one before."""
_SINGULAR = 1e-9
"""Least ratio of the eigenvalues of its normal equations."""

Evidence = UInt8[np.ndarray, "h w"]
"""Grey levels by which motion would have changed each pixel; 0 where that is not known."""


@dataclass(eq=False)
class SmallFrame:
    """A frame at the size on which evidence is looked for."""

    picture: Picture
    evidence: dict[int, Evidence | None] = field(default_factory=dict)
    """Found between this frame and the one that follows it after so many, kept for the pairs around."""

    @classmethod
    def of(cls, picture: Picture) -> "SmallFrame":
        """A frame of any size, reduced."""
        height, width = picture.shape[:2]
        share = (SMALL / (height * width)) ** 0.5
        if share >= 1:
            return cls(picture)
        size = max(1, round(width * share)), max(1, round(height * share))
        return cls(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

    def until(self, other: "SmallFrame", distance: int) -> Evidence | None:
        """Evidence between this frame and a later one; None if there is none."""
        if distance not in self.evidence:
            self.evidence[distance] = find_evidence(self.picture, other.picture)
        return self.evidence[distance]


def find_evidence(first: Picture, last: Picture) -> Evidence | None:
    """Evidence between two frames; None if there is none.

    Args:
        first: One frame, (h, w, 3).
        last: Another one.
    """
    changes = _apart(first, last) > EQUAL
    if not _CHANGED < changes.mean() < 1:
        return None
    img0, img1 = (torch.from_numpy(each).permute(2, 0, 1)[None].float() / 255 for each in (first, last))
    grays, dis = (to_gray(img0[0]), to_gray(img1[0])), DIS("fast")
    onward, back = (_tensor(dis(*pair)) for pair in (grays, grays[::-1]))
    warped = _difference(img1, img0, back)
    changed = torch.from_numpy(changes)[None, None]
    if float((warped[changed] < _EXPLAINS).float().mean()) < _EXPLAINED:
        return None
    found = _STRONG * find_overlay(img0, img1, onward, back)[0]
    whole = [_whole_motion(flow, changed) for flow in (onward, back)]
    if whole[0] is not None and whole[1] is not None:
        each = _against(img0, img1, whole[0]), _against(img1, img0, whole[1])
        # Of thin lines, each direction shows one side.
        against = torch.maximum(*each)
        due = against > _EXPLAINS
        against = torch.where(due, against, torch.minimum(*each))
        if float((due & ~changed).sum()) <= _MINORITY * float((due | changed).sum()):
            found = torch.maximum(found, _LEVELS * against)
    found *= ~changed
    return found[0, 0].to(torch.uint8).numpy() if bool(found.any()) else None


def _tensor(field: Float[np.ndarray, "h w 2"]) -> Flow:
    return torch.from_numpy(np.ascontiguousarray(field)).permute(2, 0, 1)[None].float()


def _apart(one: Picture, other: Picture) -> UInt8[np.ndarray, "h w"]:
    """Difference of two pictures, in the worst channel."""
    return cv2.absdiff(one, other).max(axis=2)


def _difference(image: SmallImage, other: SmallImage, flow: Flow) -> Float[Tensor, "1 1 h w"]:
    return (image - backward_warp(other, flow)).abs().amax(1, keepdim=True)


def _against(image: SmallImage, other: SmallImage, motion: Flow) -> Float[Tensor, "1 1 h w"]:
    """By how much the motion of the whole picture would have changed a frame; 0 where that is not evidence.

    That is the difference from the other frame, warped. Warping blurs; so it is at most what the gradient says.
    """
    down, right = torch.gradient(image, dim=(2, 3))
    linear = (right * motion[:, :1] + down * motion[:, 1:]).abs().amax(1, keepdim=True)
    possible = (flow_length(motion) > _MOVED) & stays_inside(motion)
    differs = torch.minimum(_difference(image, other, motion), linear) * possible
    shows = (differs > _SHOWS).float()
    return differs * shows * (window_mean(shows, 7) > _DENSE)


def _whole_motion(flow: Flow, changed: Bool[Tensor, "1 1 h w"]) -> Flow | None:
    """The affine motion that most changing pixels follow, as a flow; None if there is none."""
    h, w = flow.shape[-2:]
    centred = pixel_grid(h, w).permute(1, 2, 0) - torch.tensor([w / 2, h / 2])
    places = torch.cat((centred / max(h, w), torch.ones(h, w, 1)), dim=-1).double()
    chosen = changed[0, 0]
    known, flows = places[chosen], flow[0].permute(1, 2, 0)[chosen].double()
    fits, affine = torch.ones(len(known), dtype=torch.bool), known.new_zeros(3, 2)
    for _ in range(_ROUNDS):
        if int(fits.sum()) < _FEW:
            return None
        products = known[fits].T @ known[fits]
        if int(torch.linalg.matrix_rank(products, rtol=_SINGULAR, hermitian=True)) < 3:  # they lie on one line
            return None
        affine = torch.linalg.solve(products, known[fits].T @ flows[fits])
        fits = (known @ affine - flows).norm(dim=1) < 0.5 + 0.1 * flows.norm(dim=1)
    follows = torch.zeros_like(chosen)
    follows[chosen] = fits
    cells = adaptive_avg_pool2d(torch.stack((chosen, follows)).float(), _CELLS)
    change = cells[0] > _LEAST
    agree = cells[1][change] > _AGREE * cells[0][change]
    if len(agree) < _SPREAD or min(float(fits.float().mean()), float(agree.float().mean())) < _AGREE:
        return None
    return (places @ affine).float().permute(2, 0, 1)[None]
