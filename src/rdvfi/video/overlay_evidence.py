r"""Evidence that pixels belong to an overlay: static in front of a picture that moves.

Between two frames ``i < j`` of a run, not necessarily neighbours, a pixel is evidence if it is equal in all frames
from ``i`` to ``j`` although the picture's motion from ``i`` to ``j`` would have changed it. The motion is DIS flow in
both directions, and is used in two ways:

*Motion of the surroundings.* `rdvfi.content.overlay` compares the pixel with the other frame warped by the median
motion around it. This works for any scene, but not where the motion vanishes: near the centre of a zoom.

*Global motion.* An affine motion is fitted robustly to the flow of all pixels that change. If most of them follow it,
in most cells of the picture that change, it is the motion of the picture near its centre as well: a pixel with a strong
gradient distinguishes a motion of a fraction of a pixel from none.
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

SMALL_AREA = MOTION_AREA
"""Area in pixels of the reduced frames in which evidence is searched."""
EQUAL = 10
"""Grey levels by which a pixel of an overlay may vary over several frames, by codec noise at the reduced size."""
_LEVELS = 255
_UNEXPLAINED = 24 / _LEVELS
"""Least difference from the warped frame that the flow does not explain."""
_MIN_CHANGE, _MIN_MOTION = 8 / _LEVELS, 0.1
"""Least difference from the frame warped by the global motion, and least motion in pixels, that are evidence."""
_LOCAL_EVIDENCE = 30
"""Strength of evidence from the surroundings, in grey levels."""
_MAX_OVERLAY_SHARE = 0.35
"""Largest share of an overlay in the pixels that the global motion would change."""
_MIN_DENSITY = 0.1
"""Least share of evidence in a 7x7 window; isolated pixels are noise."""
_MIN_CHANGED, _MIN_EXPLAINED = 0.002, 0.6
"""Least share of pixels that change, and least share of these that the flow explains."""
_MIN_AGREEMENT, _GRID, _MIN_CELL_CHANGE, _MIN_CELLS = 0.6, 6, 0.03, 6
"""Global motion: least share of changing pixels, and of changing cells, that follow it; number of cells along each
side; least share of changing pixels in a changing cell; least number of changing cells."""
_MIN_FIT_PIXELS, _FIT_ROUNDS = 64, 4
"""Least number of pixels for the affine fit; number of rounds, each without the outliers of the previous one."""
_SINGULAR = 1e-9
"""Least ratio of the eigenvalues of its normal equations."""

Evidence = UInt8[np.ndarray, "h w"]
"""Grey levels by which motion would have changed each pixel; 0 where there is no evidence."""


@dataclass(eq=False)
class SmallFrame:
    """A frame at the size at which evidence is searched."""

    picture: Picture
    evidence: dict[int, Evidence | None] = field(default_factory=dict)
    """Evidence between this frame and a later one, by their distance in frames; a cache for neighbouring pairs."""

    @classmethod
    def from_picture(cls, picture: Picture) -> "SmallFrame":
        """Reduce a frame of any size."""
        height, width = picture.shape[:2]
        scale = (SMALL_AREA / (height * width)) ** 0.5
        if scale >= 1:
            return cls(picture)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

    def evidence_until(self, other: "SmallFrame", distance: int) -> Evidence | None:
        """Evidence between this frame and a later one; None if there is none."""
        if distance not in self.evidence:
            self.evidence[distance] = find_evidence(self.picture, other.picture)
        return self.evidence[distance]


def find_evidence(first: Picture, last: Picture) -> Evidence | None:
    """Evidence between two frames; None if there is none.

    Args:
        first: The earlier frame, (h, w, 3).
        last: The later frame.
    """
    changed_pixels = cv2.absdiff(first, last).max(axis=2) > EQUAL
    if not _MIN_CHANGED < changed_pixels.mean() < 1:
        return None
    img0, img1 = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 for picture in (first, last))
    grays, dis = (to_gray(img0[0]), to_gray(img1[0])), DIS("fast")
    forward, backward = (_to_flow(dis(*pair)) for pair in (grays, grays[::-1]))
    residual = _warp_residual(img1, img0, backward)
    changed = torch.from_numpy(changed_pixels)[None, None]
    if float((residual[changed] < _UNEXPLAINED).float().mean()) < _MIN_EXPLAINED:
        return None
    evidence = _LOCAL_EVIDENCE * find_overlay(img0, img1, forward, backward)[0]
    forward_motion, backward_motion = (_fit_global_motion(flow, changed) for flow in (forward, backward))
    if forward_motion is not None and backward_motion is not None:
        both = _expected_change(img0, img1, forward_motion), _expected_change(img1, img0, backward_motion)
        # Of thin lines, each direction shows one side.
        change = torch.maximum(*both)
        is_due = change > _UNEXPLAINED
        change = torch.where(is_due, change, torch.minimum(*both))
        if float((is_due & ~changed).sum()) <= _MAX_OVERLAY_SHARE * float((is_due | changed).sum()):
            evidence = torch.maximum(evidence, _LEVELS * change)
    evidence *= ~changed
    return evidence[0, 0].to(torch.uint8).numpy() if bool(evidence.any()) else None


def _to_flow(field: Float[np.ndarray, "h w 2"]) -> Flow:
    return torch.from_numpy(np.ascontiguousarray(field)).permute(2, 0, 1)[None].float()


def _warp_residual(image: SmallImage, other: SmallImage, flow: Flow) -> Float[Tensor, "1 1 h w"]:
    return (image - backward_warp(other, flow)).abs().amax(1, keepdim=True)


def _expected_change(image: SmallImage, other: SmallImage, motion: Flow) -> Float[Tensor, "1 1 h w"]:
    """The change of a frame by the global motion; 0 where it is not evidence.

    This is the difference from the other frame, warped. Since warping blurs, it is limited by what the gradient allows.
    """
    down, right = torch.gradient(image, dim=(2, 3))
    linear = (right * motion[:, :1] + down * motion[:, 1:]).abs().amax(1, keepdim=True)
    is_valid = (flow_length(motion) > _MIN_MOTION) & stays_inside(motion)
    change = torch.minimum(_warp_residual(image, other, motion), linear) * is_valid
    visible = (change > _MIN_CHANGE).float()
    return change * visible * (window_mean(visible, 7) > _MIN_DENSITY)


def _fit_global_motion(flow: Flow, changed: Bool[Tensor, "1 1 h w"]) -> Flow | None:
    """The affine motion that most changing pixels follow, as a flow; None if there is none."""
    h, w = flow.shape[-2:]
    centred = pixel_grid(h, w).permute(1, 2, 0) - torch.tensor([w / 2, h / 2])
    points = torch.cat((centred / max(h, w), torch.ones(h, w, 1)), dim=-1).double()
    chosen = changed[0, 0]
    chosen_points, flows = points[chosen], flow[0].permute(1, 2, 0)[chosen].double()
    inliers, affine = torch.ones(len(chosen_points), dtype=torch.bool), chosen_points.new_zeros(3, 2)
    for _ in range(_FIT_ROUNDS):
        if int(inliers.sum()) < _MIN_FIT_PIXELS:
            return None
        fitted = chosen_points[inliers]
        products = fitted.T @ fitted
        if int(torch.linalg.matrix_rank(products, rtol=_SINGULAR, hermitian=True)) < 3:  # they are on one line
            return None
        affine = torch.linalg.solve(products, fitted.T @ flows[inliers])
        inliers = (chosen_points @ affine - flows).norm(dim=1) < 0.5 + 0.1 * flows.norm(dim=1)
    follows = torch.zeros_like(chosen)
    follows[chosen] = inliers
    cells = adaptive_avg_pool2d(torch.stack((chosen, follows)).float(), _GRID)
    is_changing = cells[0] > _MIN_CELL_CHANGE
    agrees = cells[1][is_changing] > _MIN_AGREEMENT * cells[0][is_changing]
    if len(agrees) < _MIN_CELLS or min(float(inliers.float().mean()), float(agrees.float().mean())) < _MIN_AGREEMENT:
        return None
    return (points @ affine).float().permute(2, 0, 1)[None]
