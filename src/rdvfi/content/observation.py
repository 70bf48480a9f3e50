"""What was found in a pair of frames, and how."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.content.bars import Bars
from rdvfi.content.change import explained_change
from rdvfi.content.light import Light, find_light
from rdvfi.content.overlay import Overlay, find_overlay, make_plates
from rdvfi.content.skipping import is_absent
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.ops.warp import backward_warp
from rdvfi.types import Flow


@dataclass(frozen=True, eq=False)
class Content:
    """What a pair of frames shows beyond motion; None is nothing of the kind."""

    bars: Bars
    overlay: Overlay | None = None
    light: Light | None = None
    static: Bool[Tensor, "b 1 H W"] | None = None
    """Pixels of the frames that stand still whatever moves behind them: new frames have those of an input frame."""

    def names(self, sample: int = 0) -> tuple[str, ...]:
        """What there is of it in a sample, in words; asks the device."""
        one = slice(sample, sample + 1)
        found = {
            "bars": bool(Bars(self.bars.rows[one], self.bars.columns[one], self.bars.size).any()),
            "overlay": self.overlay is not None and bool((self.overlay.mask[one] > 0).any()),
            "light": self.light is not None and bool(Light(self.light.gain[one]).any()),
            "static pixels": self.static is not None and bool(self.static[one].any()),
        }
        return tuple(name for name, there in found.items() if there)


@dataclass(frozen=True, eq=False)
class Observed:
    """What `observe` reads: a pair at motion size, and its motion on a TARGET grid of any size."""

    img0: Float[Tensor, "b 3 hm wm"]
    img1: Float[Tensor, "b 3 hm wm"]
    to_first: Flow
    """From mid-time to the first frame."""
    to_last: Flow
    onward: Flow
    """From the first frame to the last, on the grid of the first."""
    back: Flow
    trust: Float[Tensor, "b 2 h w"]
    """Confidence of the motion at mid-time."""


def observe(
    seen: Observed, bars: Bars, static: Float[Tensor, "b 1 hm wm"] | None = None
) -> tuple[Content, Float[Tensor, " b"]]:
    """What a pair shows beyond motion, and whether its motion explains what changed, in [0, 1].

    Args:
        seen: The pair, its bars covered already.
        bars: Of the frames.
        static: 1 where something is known to stand still in front of what moves, 0 elsewhere.
    """
    size = (seen.to_first.shape[-2], seen.to_first.shape[-1])
    seen = replace(seen, img0=seen.img0.float(), img1=seen.img1.float())
    small = [resize_image(image, size) for image in (seen.img0, seen.img1)]
    warped = [backward_warp(image, flow) for image, flow in zip(small, (seen.to_first, seen.to_last), strict=True)]
    trust = seen.trust.amin(1, keepdim=True)
    light = find_light(warped[0], warped[1], trust)
    pairs = (small[0], small[1]), (warped[0], warped[1])
    explained = explained_change(*pairs, light, seen.trust.mean(1, keepdim=True))
    found = Content(bars, _overlay(seen, static), None if is_absent(light.any, light.gain) else light)
    return found, explained


def _overlay(seen: Observed, static: Float[Tensor, "b 1 hm wm"] | None) -> Overlay | None:
    size = (seen.img0.shape[-2], seen.img0.shape[-1])
    img0, img1 = seen.img0, seen.img1
    mask, around = find_overlay(img0, img1, resize_flow(seen.onward, size), resize_flow(seen.back, size))
    if static is not None:
        mask = torch.maximum(mask, (static > 0.5).to(mask))
    if is_absent(lambda: (mask > 0.0).any(), mask):
        return None
    return Overlay(mask, make_plates(img0, img1, mask, *around))
