"""phi_s: flows to both end frames, refined in three stages from coarse to fine.

The trajectory gives the flows F_0 and F_1 at time tau. Other flows may give better frames at motion boundaries, at
occlusions, and where the motion is wrong. Three stages read both end frames, warped by the current flows, at a
sixteenth, an eighth and a quarter of the motion size. Each adds an update to both flows and to the mask; the last also
predicts the colour residual. The next stage warps again with the updated flows. This is the coarse-to-fine refinement
of RIFE's IFNet (Huang et al., 2022, https://arxiv.org/abs/2011.06294), which starts from zero flow; here it starts
from the trajectory and also reads the neighbouring keyframes, warped to tau.

The last layers are zero-initialised: before training the renderer is `warp`. Beside the frames it can learn from
exact flow, or from another model's flows and mask: the loss ``imitation`` of `rdvfi.training`.
`rdvfi.render.base` says how a frame is drawn from these maps.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import RDVFI_S
from rdvfi.geometry import resize_image
from rdvfi.interfaces import Motion, Renderer
from rdvfi.layers import ResidualBlock, apply_layers, conv, zero_conv
from rdvfi.ops.activation import uses_fused_operators
from rdvfi.ops.refinement import correction_room, stage_entry, stage_inputs, stage_step
from rdvfi.registry import renderers
from rdvfi.render.base import RefiningRenderer, WarpInputs, consistency_mask, warped_neighbours
from rdvfi.types import Flow, Image, Times

Map = Float[Tensor, "n 1 h w"]

COARSEST = 8
"""Both sides of the grid are padded to a multiple of this."""
_INPUTS = 14
_LATENT_WIDTH = 24
_AGREEMENT = 0.03
"""Difference of the warped frames (about eight 8-bit levels) at which corrections are attenuated by half."""
_DARK = 0.02
"""Added to the brightness before ratios are taken."""


class RefinementStage(nn.Module):
    """One refinement at ``1 / scale`` of the grid.

    Args:
        scale: Grid pixels per pixel of this stage.
        width: Channels.
        blocks: Residual blocks.
        inherited: Channels of the previous stage; 0 for the first.
        latents: Channels of the keyframes' features; 0 for a stage that does not read them.
        answers: Output channels: flows, mask, and for the last stage the colour residual.
    """

    def __init__(self, scale: int, width: int, blocks: int, *, inherited: int, latents: int, answers: int) -> None:
        super().__init__()
        self.scale = scale
        self.enter = conv(4 * _INPUTS + latents, width)
        self.inherit = nn.Conv2d(inherited, width, 1) if inherited else None
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), nn.SiLU())
        self.answer = nn.Sequential(zero_conv(width, 4 * answers), nn.PixelShuffle(2))

    def forward(
        self,
        inputs: Float[Tensor, "n f h w"],
        latents: Float[Tensor, "n l hz wz"] | None,
        before: Float[Tensor, "n c hc wc"] | None,
    ) -> tuple[Float[Tensor, "n a hs ws"], Float[Tensor, "n d hs ws"]]:
        """The output at twice the resolution, as channels (before pixel shuffle), and features for the next stage."""
        kernels = uses_fused_operators(inputs)
        x = stage_entry(inputs, latents, self.scale, int(kernels), self.enter.weight.dtype)
        size = (inputs.shape[-2] // self.scale, inputs.shape[-1] // self.scale)
        if self.inherit is not None and before is not None:
            before = F.interpolate(self.inherit(before), size, mode="bilinear", align_corners=False)
        if kernels:
            blocks = [block for block in self.body if isinstance(block, ResidualBlock)]
            x = apply_layers(blocks, F.conv2d(x, self.enter.weight), self.enter.bias, before)[1]
        else:
            x = self.enter(x)
            x = self.body(x if before is None else x + before)
        return self.answer[0](x), x


class Refinement(nn.Module):
    """Refined flows, mask and colour residual of a new frame, from its warped end frames and keyframes.

    Args:
        latent_channels: Channels of a keyframe's latents.
        width: Channels of the last and finest stage; the others have two and two and a half times as many.
    """

    def __init__(self, latent_channels: int, width: int, *, one_light: bool = False) -> None:
        super().__init__()
        self.one_light = one_light
        wide, widest = 2 * width, width * 5 // 2
        self.latents = nn.Conv2d(2 * latent_channels, _LATENT_WIDTH, 1)
        self.stages = nn.ModuleList(
            (
                RefinementStage(8, widest, 4, inherited=0, latents=_LATENT_WIDTH, answers=5),
                RefinementStage(4, wide, 3, inherited=widest, latents=_LATENT_WIDTH, answers=5),
                RefinementStage(2, width, 2, inherited=wide, latents=0, answers=8),
            )
        )

    def forward(
        self,
        images: tuple[Float[Tensor, "s 3 h w"], Float[Tensor, "s 3 h w"]],
        flows: tuple[Flow, Flow],
        mask: Map,
        neighbours: Float[Tensor, "n l hz wz"],
        times: Float[Tensor, " n"],
    ) -> tuple[Flow, Flow, Map, Float[Tensor, "n 3 h w"]]:
        """Refined flows and mask, and the colour residual.

        Args:
            images: Both end frames on the grid of the flows, shared by all times of a sample.
            flows: Flows from the new frame to each of them, in pixels of the grid.
            mask: Weight of the first frame, [0, 1]; 1 at time 0, 0 at time 1.
            neighbours: Latents of the two neighbouring keyframes, warped to the new frame.
            times: Time of each new frame, in [0, 1].
        """
        h, w = mask.shape[-2:]
        size = (-h % COARSEST, -w % COARSEST)
        first, last, mask = (_pad(x, size) for x in (*images, mask))
        state = _pad(F.pad(torch.cat(flows, dim=1), (0, 0, 0, 0, 0, 4)), size)
        times = times.to(torch.float32)
        latents = self.latents(neighbours.to(self.latents.weight)).float()
        inputs = stage_inputs(first, last, state, mask, times, None)
        gain = None
        if self.one_light:
            gain = log_gain(inputs[:, :3], inputs[:, 3:6])
            inputs = stage_inputs(first, last, state, mask, times, gain)
        room = correction_room(inputs[:, 6:7], inputs[:, -2:-1], _AGREEMENT)
        before = None
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, RefinementStage)
            if index:
                inputs = stage_inputs(first, last, state, mask, times, gain)
            answer, before = stage(inputs, latents if index < 2 else None, before)
            state = stage_step(state, answer, room, mask, stage.scale, index == len(self.stages) - 1)
        state = state[..., :h, :w]
        return state[:, :2], state[:, 2:4], state[:, 4:5], state[:, 5:]


def log_gain(first: Float[Tensor, "n 3 h w"], last: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 _ _"]:
    """Local log brightness ratio of the last to the first frame, per colour, at an eighth of the size.

    An illumination change affects the whole image, motion only parts of it: mean absolute gains below 0.02 are set
    to zero, those from 0.05 on are used fully.

    Args:
        first: The first frame, warped; sides are multiples of eight.
        last: The last frame, warped to the same time.
    """
    brightness = F.avg_pool2d(torch.cat((first, last)), 8)
    means = F.avg_pool2d(brightness, 5, 1, 2, count_include_pad=False) + _DARK
    count = first.shape[0]  # `chunk` would ask how many parts there are, and no traced graph could tell
    gain = (means[count:] / means[:count]).log()
    share = ((gain.abs().mean((1, 2, 3), keepdim=True) - 0.02) / 0.03).clamp(0.0, 1.0)
    return share * gain


def _pad(x: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c _ _"]:
    return F.pad(x, (0, size[1], 0, size[0]), mode="replicate") if any(size) else x


class SynthesisRenderer(RefiningRenderer):
    """The learned renderer.

    Args:
        latent_channels: Channels of the keyframes' latents.
        width: Channels of the last and finest stage.
    """

    def __init__(self, latent_channels: int, width: int, *, one_light: bool = False) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.refinement = Refinement(latent_channels, width, one_light=one_light)

    def refine(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> WarpInputs:
        """Flows, mask and residual of each time after three stages."""
        flows = motion.trajectory.at(timesteps)
        b, t, _, h, w = flows[0].shape
        mask = consistency_mask(motion.trajectory, timesteps, flows)
        small = resize_image(img0.float(), (h, w)), resize_image(img1.float(), (h, w))
        maps = self.refinement(
            small,
            (flows[0].flatten(0, 1), flows[1].flatten(0, 1)),
            mask.flatten(0, 1),
            warped_neighbours(motion, timesteps, flows),
            timesteps.to(torch.float32).repeat(b),
        )
        flow0, flow1, share, residual = (part.unflatten(0, (b, t)) for part in maps)
        return WarpInputs(flow0, flow1, share, residual, small)


@renderers.register("synthesis", about=RDVFI_S)
def synthesis(*, latent_channels: int = 16, width: int = 48, one_light: bool = False) -> Renderer:
    """The learned fusion of warped frames and keyframes (the paper's phi_s).

    Args:
        latent_channels: Channels of the backbone's latents.
        width: Channels of the last and finest stage.
        one_light: Exposure normalisation: the network compares both frames at the same local brightness, so that an
            illumination change is not taken for an error of the motion. Frames are drawn without it.
    """
    return SynthesisRenderer(latent_channels, width, one_light=one_light)
