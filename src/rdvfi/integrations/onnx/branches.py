"""Branches of a graph (``If``) around work that few pairs need.

With fixed shapes every content rule always runs (`rdvfi.content.cpu_shortcuts`), which would take a fifth of the time
of ``render`` on a CPU. A branch copies tensors that it only passes on, so the branches on full-size frames return the
final frames or small images (`draw_pair`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode

from rdvfi.content import Content
from rdvfi.geometry import resize_image
from rdvfi.integrations.onnx.motion_tensors import named_tensors, replace_tensors
from rdvfi.interfaces import Motion, Renderer
from rdvfi.render.base import WarpingRenderer, WarpInputs
from rdvfi.render.content import background_motion, composite, draw, without_foreground
from rdvfi.types import Image, Times, Video

Branch = Callable[..., tuple[Tensor, ...]]


def run_if(needed: Tensor, work: Branch, otherwise: Branch, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``work(*operands)`` where ``needed`` is true, else ``otherwise(*operands)``; operands may share no memory."""
    mode = _get_current_function_mode()  # inactive while branches are traced
    assert mode is not None

    def substituted(branch: Branch) -> Branch:
        def call(*x: Tensor) -> tuple[Tensor, ...]:
            with mode:
                return branch(*x)

        return call

    return torch.ops.higher_order.cond(needed, substituted(work), substituted(otherwise), operands)


def pass_first(x: Tensor, *_: Tensor) -> tuple[Tensor]:
    """A branch that returns the first operand; a graph requires a copy."""
    return (x.clone(),)


def draw_pair(renderer: Renderer, img0: Image, img1: Image, motion: Motion, times: Times) -> Video:
    """`rdvfi.render.content.draw`, skipping the rules on bars and overlays where there are none."""
    content = motion.content
    if content is None or content.illumination is None or content.static is not None:
        return draw(renderer, img0, img1, motion, times)
    if not isinstance(renderer, WarpingRenderer):
        return draw(renderer, img0, img1, motion, times)
    branches = _ForegroundBranches(content, content.illumination.gain)
    needed = content.bars.any()
    if content.overlay is not None:
        needed = needed | (content.overlay.mask.max() > 0.0)
    tensors = tuple(named_tensors(content).values())
    small0, small1 = run_if(needed, branches.shrink_background, branches.shrink, (img0, img1, *tensors))
    maps = renderer.maps(small0, small1, background_motion(motion), times)
    separate = (x.clone() for x in (maps.flow0, maps.flow1, maps.mask, maps.residual))
    operands = (img0, img1, times, *separate, *tensors)
    return run_if(needed, branches.draw_with_foreground, branches.draw_alone, operands)[0]


@dataclass(frozen=True, eq=False)
class _ForegroundBranches:
    """The branches of `draw_pair`: full-size frames with and without bars and an overlay.

    A branch is called with the tensors of the content, since it may use only its operands.
    """

    content: Content
    like: Tensor
    """A map on the trajectory's grid."""

    def shrink(self, img0: Tensor, img1: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        """Both frames on the trajectory's grid."""
        size = (self.like.shape[-2], self.like.shape[-1])
        return resize_image(img0.float(), size), resize_image(img1.float(), size)

    def shrink_background(self, img0: Tensor, img1: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """The same with bars filled and without the overlay."""
        first, last, _ = without_foreground(self._rebuild(tensors), img0, img1)
        return self.shrink(first, last)

    def draw_alone(self, img0: Tensor, img1: Tensor, _: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        """Frames drawn with the maps that ``tensors`` begins with."""
        return (_warp_inputs(tensors).draw(img0, img1),)

    def draw_with_foreground(self, img0: Tensor, img1: Tensor, times: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        """The same from the background, composited with bars and overlay."""
        content = self._rebuild(tensors[4:])
        first, last, lifted = without_foreground(content, img0, img1)
        frames = _warp_inputs(tensors).draw(first, last)
        return (composite(content, frames, img0, img1, times, lifted),)

    def _rebuild(self, tensors: tuple[Tensor, ...]) -> Content:
        given = dict(zip(named_tensors(self.content), tensors, strict=True))
        return replace_tensors(self.content, lambda name, _: given[name])


def _warp_inputs(tensors: tuple[Tensor, ...]) -> WarpInputs:
    flow0, flow1, mask, residual = tensors[:4]
    return WarpInputs(flow0, flow1, mask, residual)
