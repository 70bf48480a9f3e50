"""Masks of static pixels of a film: given as an image, or detected.

Found are pixels of overlays that stay as they are for several frames. That something is an overlay is seen in
two ways. `rdvfi.content.overlay` sees in single pairs what stands still in front of what moves. Near the middle
of a zoom, and in slow motion, a pair shows too little: so the motion of the picture as a whole is followed over
several frames from an anchor on (an affine motion per pair, fitted to the flow of what changes), and what is
still as it was in the anchor, though the anchor moved by that differs there, is an overlay as well. What was
seen is remembered as long as the pixels stay equal.

Ground that stands still while something passes is no overlay, and is not held: what passes is drawn.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.windows import widened, window_mean
from rdvfi.geometry import pixel_grid, resize_image
from rdvfi.interfaces import FlowGrid, Motion
from rdvfi.media.image_files.images import read_image
from rdvfi.media.reader import SourceInfo
from rdvfi.ops.warp import backward_warp
from rdvfi.saved_models.staged_model import MOTION_AREA
from rdvfi.types import Image

_EQUAL = 6 / 255
"""Difference of two frames that a codec may leave in what stands still."""
_SAME = 10 / 255
"""The same of a frame and the anchor."""
_STABLE = 3
"""Pairs over which pixels have to be equal, as far as there are so many."""
_MEMORY = 0.9
"""What is left after a pair of having been seen as an overlay; below `_SEEN` it is forgotten."""
_SEEN = 0.2
_STEP, _STEPS = 5, 6
"""An overlay is continued over stable pixels beside it: so often, by half of this."""
_SHOWS = 24 / 255
"""Difference from the moved anchor that shows an overlay."""
_MOVED = 1.5
"""Pixels, of a picture of motion size, by which it has to have moved for that."""
_DENSE = 0.1
"""Share of such pixels around one that is not there by chance."""
_AGREE = 0.6
"""Share of what changes that has to move as the picture does, and of the picture's cells that need to have such."""
_CELLS, _LEAST = 6, 0.1
"""Cells along each side, and the share of a cell that has to move."""
_FAR, _LONG = 32.0, 16
"""A new anchor is taken when the picture has moved so many pixels, or after so many pairs."""
_FITS = 4
"""Rounds of the fit, each without what the last one did not explain."""


class StaticPixels:
    """Finds, pair after pair of a stream, the pixels of overlays."""

    def __init__(self) -> None:
        self._age: Float[Tensor, "1 1 H W"] | None = None
        self._seen: Float[Tensor, "1 1 H W"] | None = None
        self._anchor: Image | None = None
        self._path = torch.eye(3)
        self._pairs = self._since = 0

    def update(self, first: Image, last: Image, motion: Motion) -> Bool[Tensor, "1 1 H W"] | None:
        """Where pixels of a pair stand still; None if nowhere.

        Args:
            first: First frame, (1, 3, H, W).
            last: Last one.
            motion: Of the pair.
        """
        size = (first.shape[-2], first.shape[-1])
        if self._age is None or self._seen is None or not bool(motion.scene.same_scene[0]):
            self._age = self._seen = torch.zeros_like(first[:, :1])
            self._pairs, self._anchor = 0, None
        if self._anchor is None:
            self._anchor, self._path, self._since = first, torch.eye(3), 0
        self._pairs += 1
        equal = (_apart(first, last) <= _EQUAL) & (_apart(self._anchor, last) <= _SAME)
        self._age = (self._age + 1.0) * equal
        seen = self._seen * _MEMORY
        if motion.content is not None and motion.content.overlay is not None:
            seen = torch.maximum(seen, (resize_image(motion.content.overlay.mask.float(), size) > 0.5).float())
        seen = torch.maximum(seen, self._against(last, motion, equal))
        self._seen = seen * equal
        stable = (equal & (self._age >= min(self._pairs, _STABLE))).float()
        found = (self._seen > _SEEN).float() * stable
        if not bool(found.any()):
            return None
        for _ in range(_STEPS):
            found = widened(found, _STEP) * stable
        return found > 0.5

    def _against(self, last: Image, motion: Motion, equal: Bool[Tensor, "1 1 H W"]) -> Float[Tensor, "1 1 H W"]:
        """1 where the picture is as the anchor is, and not as the anchor moved."""
        nothing = torch.zeros_like(last[:, :1])
        step = _whole_motion(motion, equal)
        anchor, self._anchor = self._anchor, None
        if step is None or anchor is None:
            return nothing
        self._path, self._since = self._path @ step, self._since + 1
        share = min(1.0, (MOTION_AREA / (last.shape[-2] * last.shape[-1])) ** 0.5)
        small = (round(last.shape[-2] * share), round(last.shape[-1] * share))
        moved = _flow_of(self._path, small, last.device)
        then, now = resize_image(anchor.float(), small), resize_image(last.float(), small)
        shows = (_apart(backward_warp(then, moved), now) > _SHOWS) & (moved.norm(dim=1, keepdim=True) > _MOVED)
        shows = (shows & (_apart(then, now) <= _SAME)).float()
        shows = shows * (window_mean(shows, 7) > _DENSE)
        if self._since < _LONG and float(moved.norm(dim=1).mean()) < _FAR:
            self._anchor = anchor
        return (resize_image(shows, (last.shape[-2], last.shape[-1])) > 0.5).float() if self._since > 1 else nothing


def _apart(one: Image, other: Image) -> Float[Tensor, "1 1 h w"]:
    """Difference of two pictures, in the worst channel."""
    return (one - other).abs().amax(1, keepdim=True)


def _whole_motion(motion: Motion, equal: Bool[Tensor, "1 1 H W"]) -> Float[Tensor, "3 3"] | None:
    """The affine motion, from places of the last frame to those of the first, of what changes; None if it has none.

    In coordinates of -1 to 1 over the picture.
    """
    if motion.trajectory.grid is not FlowGrid.TARGET:
        return None
    flow = motion.trajectory.at(torch.ones(1, device=equal.device))[0][0, 0].float()
    h, w = flow.shape[-2:]
    changes = resize_image((~equal).float(), (h, w))[0, 0] > 0.5
    if int(changes.sum()) < 64:
        return None
    scale = torch.tensor([2 / w, 2 / h], device=flow.device)
    places = (pixel_grid(h, w, device=flow.device).permute(1, 2, 0)[changes] + 0.5) * scale - 1
    ends = places + flow.permute(1, 2, 0)[changes] * scale
    known = torch.cat((places, torch.ones_like(places[:, :1])), dim=1).double()
    fits, affine = torch.ones(len(known), dtype=torch.bool, device=flow.device), known.new_zeros(3, 2)
    for _ in range(_FITS):
        if int(fits.sum()) < 64:
            return None
        affine = torch.linalg.lstsq(known[fits], ends[fits].double()).solution
        off = ((known @ affine - ends) / scale).norm(dim=1)
        fits = off < 0.5 + 0.1 * (flow.norm(dim=0)[changes])
    moves = torch.zeros_like(changes)
    moves[changes] = fits
    covered = F.adaptive_avg_pool2d(moves[None].float(), _CELLS) > _LEAST
    if min(float(fits.float().mean()), float(covered.float().mean())) < _AGREE:
        return None
    return torch.cat((affine.T.float().cpu(), torch.tensor([[0.0, 0.0, 1.0]])))


def _flow_of(path: Float[Tensor, "3 3"], size: tuple[int, int], device: torch.device) -> Float[Tensor, "1 2 h w"]:
    """A motion of places in -1 to 1 as a flow in pixels."""
    h, w = size
    scale = torch.tensor([2 / w, 2 / h], device=device)
    places = (pixel_grid(h, w, device=device).permute(1, 2, 0) + 0.5) * scale - 1
    ends = torch.cat((places, torch.ones_like(places[..., :1])), dim=-1) @ path.to(device).T
    return ((ends[..., :2] - places) / scale).permute(2, 0, 1)[None]


def read_mask(path: Path, info: SourceInfo) -> Bool[np.ndarray, "H W"]:
    """A picture as a mask: where it is brighter than half, pixels stand still.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture, or of another size than the film.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"mask is {path}, which {what}; expected auto, or an image of the film's size")
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    if (height, width) != (info.height, info.width):
        raise ValueError(
            f"mask {path} is {width}x{height} pixels; the frames of {info.name} are {info.width}x{info.height}"
        )
    return np.asarray(pixels[..., :3].max(axis=2) > np.iinfo(pixels.dtype).max // 2)
