"""The flow of `matching` as a further hypothesis for DIS.

Learned matching finds large displacements and objects that move by more than their size; patches are accurate to a
fraction of a pixel. `MatchedDIS` combines both. DIS is initialised with the learned flow, so that every patch has one
more candidate, and the result competes with the hypotheses of `rdvfi.motion.flow.similarity_hypotheses` and with the
learned flow itself: every pixel takes the hypothesis of least photometric error in its neighbourhood. Where the learned
flow is not forward-backward consistent it is penalised by some grey levels; if it is consistent almost nowhere it is
discarded. Matching runs on images of half the size, which extends its range at a quarter of the cost.

When an object leaves the frame while a similar one enters, two frames do not tell whether it is the same one, and
this method does not either.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import About
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Count, FlowEstimator, Reads, Repeats
from rdvfi.motion.flow.matching import Matching
from rdvfi.motion.flow.similarity_hypotheses import (
    DIS,
    Cost,
    Hypothesis,
    Keypoints,
    check_preset,
    similarity_flow,
    to_gray,
)
from rdvfi.ops.occlusion import SAME_SCENE, forward_backward_error
from rdvfi.registry import flows

_INCONSISTENT = 8.0
"""Penalty of an inconsistent learned flow, in grey levels."""
_SIDE = 9
"""Side of the window over which consistency is averaged."""


def penalty_of(apart: Cost) -> Cost:
    """Grey levels: 0 where the flow is forward-backward consistent within a pixel."""
    import cv2

    return _INCONSISTENT * cv2.blur(np.clip(apart - 1.0, 0.0, 1.0), (_SIDE, _SIDE))


# An operator of its own, so that a compiled program calls it as a whole. Its annotations are plain:
# they are its schema.
@torch.library.custom_op("rdvfi::matched_dis_flow", mutates_args=(), tags=torch.Tag.cudagraph_unsafe)
def _matched_dis_flow(source: Tensor, target: Tensor, guess: Tensor, back: Tensor, preset: str) -> Tensor:
    """Flow of every pair of images with a hypothesis for each, on the CPU one by one."""
    dis, find, fields = DIS(preset), Keypoints(), []
    apart = forward_backward_error(guess.float(), back.float())[:, 0].cpu()
    for first, second, guessed, error in zip(source, target, guess, apart, strict=True):
        grays = (to_gray(first), to_gray(second))
        learned = None
        if float((error < 1.0).float().mean()) >= SAME_SCENE:
            flow = np.ascontiguousarray(guessed.float().cpu().permute(1, 2, 0).numpy())
            learned = Hypothesis(flow, penalty_of(error.numpy()))
        field = similarity_flow(dis, *grays, find, learned)
        fields.append(torch.from_numpy(np.ascontiguousarray(field)).permute(2, 0, 1))
    return torch.stack(fields).contiguous().to(source.device)


@_matched_dis_flow.register_fake
def _(source: Tensor, target: Tensor, guess: Tensor, back: Tensor, preset: str) -> Tensor:
    n, _, h, w = source.shape
    return source.new_empty((n, 2, h, w), dtype=torch.float32)


class MatchedDIS(FlowEstimator):
    """DIS with similarity hypotheses and a learned one; gradients stop here.

    Args:
        learned: Reads pixels.
        preset: Preset of DIS.
        shrink: Factor by which the pictures are reduced for the learned flow.
    """

    reads = Reads.PIXELS

    def __init__(self, learned: FlowEstimator, *, preset: str, shrink: int) -> None:
        super().__init__()
        if shrink < 1:
            raise ValueError(f"shrink must be at least 1; got {shrink}")
        if learned.reads is not Reads.PIXELS:
            raise TypeError("the learned flow of 'matched-dis' must read pixels")
        check_preset(preset)
        self.learned, self.shrink, self._preset = learned, shrink, preset

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return self._chosen(source, target, *self._learned_flows(source, target))

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        onward, back = self._learned_flows(first, second)
        found = self._chosen(
            torch.cat((first, second)), torch.cat((second, first)), torch.cat((onward, back)), torch.cat((back, onward))
        )
        return found[: len(first)], found[len(first) :]

    def _learned_flows(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        """Both learned flows at full size, found on smaller pictures."""
        size = (first.shape[-2], first.shape[-1])
        small = (max(1, size[0] // self.shrink), max(1, size[1] // self.shrink))
        seen = (resize_image(image.float(), small) for image in (first, second))
        onward, back = self.learned.both_ways(*seen)
        return resize_flow(onward, size), resize_flow(back, size)

    def _chosen(
        self,
        source: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        guess: Float[Tensor, "n 2 h w"],
        back: Float[Tensor, "n 2 h w"],
    ) -> Float[Tensor, "n 2 h w"]:
        given = (tensor.detach() for tensor in (source, target, guess, back))
        return _matched_dis_flow(*given, self._preset)


@flows.register(
    "matched-dis",
    about=About(
        citation="after H. Xu et al., CVPR 2022; T. Kroeger et al., ECCV 2016", url="https://arxiv.org/abs/2111.13680"
    ),
)
def matched_dis(
    *,
    width: int = 96,
    heads: Count = 2,
    blocks: Count = 2,
    steps: Repeats = 3,
    fine_steps: Repeats = 2,
    preset: str = "medium",
    shrink: Count = 2,
) -> FlowEstimator:
    """`matching` as a further hypothesis of `sift-dis`; its network is trained as `matching`.

    Args:
        width: Channels of the learned flow at stride 8.
        heads: Heads of attention.
        blocks: Blocks of attention.
        steps: Refinements at stride 8.
        fine_steps: Refinements at stride 4.
        preset: Preset of DIS: "ultrafast", "fast" or "medium".
        shrink: Factor by which the pictures are reduced for the learned flow.
    """
    learned = Matching(width, heads=heads, blocks=blocks, steps=steps, fine_steps=fine_steps)
    return MatchedDIS(learned, preset=preset, shrink=shrink)
