"""A learned flow as one more hypothesis of the classical one.

Learned matching reaches over any distance and finds things that move by more than their size;
patches of pixels are exact, and cannot be talked into anything. `MatchedDIS` asks both: the learned
flow, refined by DIS from there, stands beside plain DIS and its similarity hypotheses
(`rdvfi.motion.dis`), and every pixel takes the one that explains it and its surroundings best.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import About
from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.motion.dis import DIS, Keypoints, check_preset, similarity_flow, to_gray
from rdvfi.motion.matching import Matching
from rdvfi.registry import flows


# An operator of its own, so that a compiled program calls it as a whole. Its annotations are plain:
# they are its schema.
@torch.library.custom_op("rdvfi::matched_dis_flow", mutates_args=())
def _matched_dis_flow(source: Tensor, target: Tensor, guess: Tensor, preset: str) -> Tensor:
    """Flow of every pair of images with a hypothesis for each, on the CPU one by one."""
    dis, find, fields = DIS(preset), Keypoints(), []
    for first, second, guessed in zip(source, target, guess, strict=True):
        grays = (to_gray(first), to_gray(second))
        learned = np.ascontiguousarray(guessed.float().cpu().permute(1, 2, 0).numpy())
        field = similarity_flow(dis, *grays, find, [learned, dis(*grays, learned)])
        fields.append(torch.from_numpy(np.ascontiguousarray(field)).permute(2, 0, 1))
    return torch.stack(fields).contiguous().to(source.device)


@_matched_dis_flow.register_fake
def _(source: Tensor, target: Tensor, guess: Tensor, preset: str) -> Tensor:
    n, _, h, w = source.shape
    return source.new_empty((n, 2, h, w), dtype=torch.float32)


class MatchedDIS(FlowEstimator):
    """DIS with similarity hypotheses and a learned one; gradients stop here.

    Args:
        learned: Reads pixels.
        preset: Of DIS.
    """

    reads = Reads.PIXELS

    def __init__(self, learned: FlowEstimator, *, preset: str) -> None:
        super().__init__()
        if learned.reads is not Reads.PIXELS:
            raise TypeError("the learned flow of 'matched-dis' must read pixels")
        check_preset(preset)
        self.learned, self._preset = learned, preset

    def forward(
        self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n 2 h w"]:
        """See `rdvfi.interfaces.FlowEstimator.forward`."""
        return self._chosen(source, target, self.learned(source, target))

    def both_ways(
        self, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
        """See `rdvfi.interfaces.FlowEstimator.both_ways`."""
        guess = torch.cat(self.learned.both_ways(first, second))
        found = self._chosen(torch.cat((first, second)), torch.cat((second, first)), guess)
        onward, back = found.chunk(2)
        return onward, back

    def _chosen(
        self,
        source: Float[Tensor, "n c h w"],
        target: Float[Tensor, "n c h w"],
        guess: Float[Tensor, "n 2 h w"],
    ) -> Float[Tensor, "n 2 h w"]:
        return _matched_dis_flow(source.detach(), target.detach(), guess.detach(), self._preset)


@flows.register(
    "matched-dis",
    about=About(
        citation="after H. Xu et al., CVPR 2022; T. Kroeger et al., ECCV 2016",
        url="https://arxiv.org/abs/2111.13680",
    ),
)
def matched_dis(
    *,
    width: int = 96,
    heads: int = 2,
    blocks: int = 2,
    steps: int = 3,
    fine_steps: int = 2,
    preset: str = "medium",
) -> FlowEstimator:
    """`matching` as one more hypothesis of `sift-dis`; what it learned is trained as `matching`.

    Args:
        width: Of the learned flow: channels at stride 8.
        heads: Heads of attention.
        blocks: Blocks of attention.
        steps: Refinements at stride 8.
        fine_steps: Refinements at stride 4.
        preset: Of DIS: "ultrafast", "fast" or "medium".
    """
    learned = Matching(width, heads=heads, blocks=blocks, steps=steps, fine_steps=fine_steps)
    return MatchedDIS(learned, preset=preset)
