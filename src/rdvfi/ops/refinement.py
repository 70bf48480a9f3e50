"""What phi_s does pixel by pixel between its convolutions (`rdvfi.render.synthesis`): three passes a stage.

The ``state`` of a new frame has eight channels: the flows F_0 and F_1 to both end frames, the lean of the
blend in log-odds, and the colour to add. Times are numbered sample by sample: row ``b * t + i`` of what
belongs to new frames is time i of sample b.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.geometry import resize_image
from rdvfi.ops.inference import operator
from rdvfi.ops.warp import backward_warp


@operator("refinement")
def stage_inputs(
    first: Tensor, last: Tensor, state: Tensor, mask: Tensor, times: Tensor, gain: Tensor | None
) -> Tensor:
    """What a stage reads, (n, 14, h, w): both warped frames, their difference, the flows, the blend, the time.

    Args:
        first: First frames on this grid, (b, 3, h, w).
        last: Last ones.
        state: Of every new frame.
        mask: Share of the first frame before any lean, (n, 1, h, w).
        times: Of every new frame, (n,).
        gain: Logarithm of how much brighter the last frame is, (n, 3, _, _) on any grid. Then the warped
            frames are shown in the light of their time.
    """
    size = (state.shape[-2], state.shape[-1])
    spread = [each_time(image, state.shape[0] // image.shape[0]) for image in (first, last)]
    warped0, warped1 = backward_warp(spread[0], state[:, :2]), backward_warp(spread[1], state[:, 2:4])
    t = times[:, None, None, None]
    if gain is not None:
        gain = F.interpolate(gain, size, mode="bilinear", align_corners=False)
        warped0, warped1 = warped0 * (t * gain).exp(), warped1 * ((t - 1.0) * gain).exp()
    difference = (warped0 - warped1).abs().mean(1, keepdim=True)
    clock = torch.cat((t * (1.0 - t), 1.0 - 2.0 * t), dim=1).expand(-1, -1, *size)
    return torch.cat((warped0, warped1, difference, 0.05 * state[:, :4], leaning(mask, state[:, 4:5]), clock), dim=1)


def each_time(image: Tensor, t: int) -> Tensor:
    """The image of each sample, once per time: (b, c, h, w) to (b * t, c, h, w)."""
    return image[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1)


def leaning(mask: Tensor, lean: Tensor) -> Tensor:
    """The blend, moved by ``2 lean`` in log-odds; 0 and 1 stay what they are."""
    first, last = mask * lean.exp(), (1.0 - mask) * (-lean).exp()
    return first / (first + last)


@operator("refinement")
def stage_step(state: Tensor, answer: Tensor, room: Tensor, mask: Tensor, scale: int, last: bool) -> Tensor:
    """The state after a stage; after the last one with the blend itself in the place of its lean.

    Args:
        state: Before.
        answer: Of the stage, before its channels are shuffled to twice the size, (n, 4 a, hs, ws).
        room: How much may be corrected, (n, 1, h, w).
        mask: Share of the first frame before any lean.
        scale: Grid pixels per pixel of the stage.
        last: Whether it is the last one, which also adds colour.
    """
    out = room * resize_image(F.pixel_shuffle(answer, 2).float(), (state.shape[-2], state.shape[-1]))
    lean = state[:, 4:5] + out[:, 4:5]
    colour = 0.1 * out[:, 5:8] if last else state[:, 5:]
    return torch.cat((state[:, :4] + scale * out[:, :4], leaning(mask, lean) if last else lean, colour), dim=1)


@operator("refinement")
def correction_room(difference: Tensor, envelope: Tensor, agreement: float) -> Tensor:
    """How much may be corrected, (n, 1, h, w): nothing at both ends, nor where the warped frames agree.

    Args:
        difference: Mean absolute difference of the warped frames, (n, 1, h, w).
        envelope: ``t (1 - t)``, (n, 1, h, w).
        agreement: Difference that leaves half of a correction.
    """
    rise = F.avg_pool2d(difference, 5, 1, 2, count_include_pad=False).pow(4)
    return 4.0 * envelope * (rise / (rise + agreement**4))


@operator("refinement")
def stage_entry(inputs: Tensor, latents: Tensor | None, scale: int, border: int, dtype: torch.dtype) -> Tensor:
    """A stage's inputs at ``1 / scale`` of the grid, two by two pixels in its channels, and latents behind them.

    They lie in memory as `torch.channels_last`.

    Args:
        inputs: On the grid, (n, c, h, w).
        latents: Features of the keyframes on any grid, (n, l, _, _).
        scale: Grid pixels per pixel of the stage, at least 2.
        border: Replicated pixels around.
        dtype: Of the stage's network.
    """
    h, w = inputs.shape[-2:]
    size = (h // scale, w // scale)
    x = F.pixel_unshuffle(resize_image(inputs, (2 * size[0], 2 * size[1])), 2)
    if latents is not None:
        x = torch.cat((x, resize_image(latents, size)), dim=1)
    x = x.to(dtype)
    if border:
        x = F.pad(x, (border,) * 4, mode="replicate")
    return x.contiguous(memory_format=torch.channels_last)
