"""Pixelwise operations of phi_s between its convolutions (`rdvfi.render.synthesis`): three passes per stage.

The ``state`` of a new frame has eight channels: the flows F_0 and F_1 to both end frames, half the shift of
the blend in log-odds, and the colour to add. Times are numbered sample by sample: row ``b * t + i`` of tensors of new
frames is time i of sample b.
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
    """The inputs of a stage, (n, 14, h, w): both warped frames, their difference, flows, blend, and time.

    Args:
        first: First frames on this grid, (b, 3, h, w).
        last: Last ones.
        state: State of every new frame, (n, 8, h, w).
        mask: Blending weight of the first frame before any shift, (n, 1, h, w).
        times: Time of every new frame, (n,).
        gain: Log gain of the last frame, (n, 3, _, _) on any grid; the warped frames are then brought to the
            illumination of their time.
    """
    size = (state.shape[-2], state.shape[-1])
    repeated = [repeat_per_time(image, state.shape[0] // image.shape[0]) for image in (first, last)]
    warped0, warped1 = backward_warp(repeated[0], state[:, :2]), backward_warp(repeated[1], state[:, 2:4])
    t = times[:, None, None, None]
    if gain is not None:
        gain = F.interpolate(gain, size, mode="bilinear", align_corners=False)
        warped0, warped1 = warped0 * (t * gain).exp(), warped1 * ((t - 1.0) * gain).exp()
    difference = (warped0 - warped1).abs().mean(1, keepdim=True)
    time_channels = torch.cat((t * (1.0 - t), 1.0 - 2.0 * t), dim=1).expand(-1, -1, *size)
    return torch.cat(
        (warped0, warped1, difference, 0.05 * state[:, :4], shift_blend(mask, state[:, 4:5]), time_channels), dim=1
    )


def repeat_per_time(image: Tensor, t: int) -> Tensor:
    """The image of each sample, once per time: (b, c, h, w) to (b * t, c, h, w)."""
    return image[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1)


def shift_blend(mask: Tensor, half_shift: Tensor) -> Tensor:
    """The blend, shifted by ``2 half_shift`` in log-odds; 0 and 1 do not change."""
    first, last = mask * half_shift.exp(), (1.0 - mask) * (-half_shift).exp()
    return first / (first + last)


@operator("refinement")
def stage_step(state: Tensor, output: Tensor, room: Tensor, mask: Tensor, scale: int, last: bool) -> Tensor:
    """The state after a stage; after the last one it contains the blend instead of its shift.

    Args:
        state: State before the stage, (n, 8, h, w).
        output: Output of the stage, before its channels are shuffled to twice the size, (n, 4 a, hs, ws).
        room: Limit of the correction, (n, 1, h, w).
        mask: Blending weight of the first frame before any shift, (n, 1, h, w).
        scale: Grid pixels per pixel of the stage.
        last: Whether it is the last stage, which also adds colour.
    """
    out = room * resize_image(F.pixel_shuffle(output, 2).float(), (state.shape[-2], state.shape[-1]))
    half_shift = state[:, 4:5] + out[:, 4:5]
    blend = shift_blend(mask, half_shift) if last else half_shift
    colour = 0.1 * out[:, 5:8] if last else state[:, 5:]
    return torch.cat((state[:, :4] + scale * out[:, :4], blend, colour), dim=1)


@operator("refinement")
def correction_room(difference: Tensor, envelope: Tensor, agreement: float) -> Tensor:
    """The limit of corrections, (n, 1, h, w): zero at both ends and where the warped frames agree.

    Args:
        difference: Mean absolute difference of the warped frames, (n, 1, h, w).
        envelope: ``t (1 - t)``, (n, 1, h, w).
        agreement: Difference that leaves half of a correction.
    """
    rise = F.avg_pool2d(difference, 5, 1, 2, count_include_pad=False).pow(4)
    return 4.0 * envelope * (rise / (rise + agreement**4))


@operator("refinement")
def stage_entry(inputs: Tensor, latents: Tensor | None, scale: int, border: int, dtype: torch.dtype) -> Tensor:
    """A stage's inputs at ``1 / scale`` of the grid, pixel-unshuffled by two, followed by the latents.

    The memory format is `torch.channels_last`.

    Args:
        inputs: On the grid, (n, c, h, w).
        latents: Features of the keyframes on any grid, (n, l, _, _).
        scale: Grid pixels per pixel of the stage, at least 2.
        border: Replicated pixels around.
        dtype: Type of the stage's network.
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
