"""Analysis of a pair of frames: bars, overlays, illumination change, and partial cuts; its result is a `Content`."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.bars import Bars
from rdvfi.content.cpu_shortcuts import is_absent
from rdvfi.content.illumination import IlluminationChange, find_illumination_change
from rdvfi.content.overlay import Overlay, find_overlay, make_plates
from rdvfi.content.partial_cuts import explained_change
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow


@dataclass(frozen=True, eq=False)
class Content:
    """Content of a pair that motion does not describe; None where there is none of a kind."""

    bars: Bars
    overlay: Overlay | None = None
    illumination: IlluminationChange | None = None
    static: Bool[Tensor, "b 1 H W"] | None = None
    """Pixels that the caller declares static: new frames copy them from an input frame."""

    def names(self, sample: int = 0) -> tuple[str, ...]:
        """Kinds of content in a sample, as text. Waits for the device."""
        one = slice(sample, sample + 1)
        present = {
            "bars": bool(Bars(self.bars.rows[one], self.bars.columns[one], self.bars.size).any()),
            "overlay": self.overlay is not None and bool((self.overlay.mask[one] > 0).any()),
            "illumination change": self.illumination is not None
            and bool(IlluminationChange(self.illumination.gain[one]).any()),
            "static pixels": self.static is not None and bool(self.static[one].any()),
        }
        return tuple(name for name, is_present in present.items() if is_present)


@dataclass(frozen=True, eq=False)
class ContentInputs:
    """Input of `analyse_content`: a pair at motion size, and its motion on a TARGET grid of any size."""

    img0: Float[Tensor, "b 3 hm wm"]
    img1: Float[Tensor, "b 3 hm wm"]
    to_first: Flow
    """Flow from mid-time to the first frame."""
    to_last: Flow
    """Flow from mid-time to the last frame."""
    onward: Flow
    """Flow from the first frame to the last, on the grid of the first."""
    back: Flow
    """Flow from the last frame to the first, on the grid of the last."""
    confidence: Float[Tensor, "b 2 h w"]
    """Confidence of the motion at mid-time."""


def analyse_content(
    pair: ContentInputs, bars: Bars, static: Float[Tensor, "b 1 hm wm"] | None = None
) -> tuple[Content, Float[Tensor, " b"]]:
    """The content of each pair, and the degree to which motion explains the difference of its frames, in [0, 1].

    Args:
        pair: Frames with filled bars (`Bars.fill`), and their motion.
        bars: The bars of the frames.
        static: 1 where the caller declares the foreground static, 0 elsewhere.
    """
    size = (pair.to_first.shape[-2], pair.to_first.shape[-1])
    pair = replace(pair, img0=pair.img0.float(), img1=pair.img1.float())
    small = [resize_image(image, size) for image in (pair.img0, pair.img1)]
    warped = [backward_warp(image, flow) for image, flow in zip(small, (pair.to_first, pair.to_last), strict=True)]
    change = find_illumination_change(warped[0], warped[1], pair.confidence.amin(1, keepdim=True))
    frames = (small[0], small[1]), (warped[0], warped[1])
    explained = explained_change(*frames, change, pair.confidence.mean(1, keepdim=True))
    illumination = None if is_absent(change.any, change.gain) else change
    return Content(bars, _analyse_overlay(pair, static), illumination), explained


def _analyse_overlay(pair: ContentInputs, static: Float[Tensor, "b 1 hm wm"] | None) -> Overlay | None:
    """The overlay, including pixels that the caller declares static; None if there is known to be none."""
    size = (pair.img0.shape[-2], pair.img0.shape[-1])
    img0, img1 = pair.img0, pair.img1
    mask, around = find_overlay(img0, img1, resize_flow(pair.onward, size), resize_flow(pair.back, size))
    if static is not None:
        mask = torch.maximum(mask, (static > 0.5).to(mask))
    if is_absent(lambda: (mask > 0.0).any(), mask):
        return None
    return Overlay(mask, make_plates(img0, img1, mask, *around))
