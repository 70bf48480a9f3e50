"""Sheets: pictures that show results of a model on training samples.

Each sample of a clip has two rows::

    first frame | last frame | warped first | warped last | weight of the first | result
    keyframe at 1/4 | keyframe at 1/2 | flow to first | flow to last | five times the error | true frame

Keyframes are the nearest existing ones, decoded if the backbone has a decoder. Flows are coloured: hue is
direction, saturation is length. The weight is the blending mask with which the frame was rendered: learned, or by
forward-backward consistency.

Each sample of a coarse flow has one row::

    first frame | last frame | last warped | five times its error | flow | known flow

Known flow is grey where it is unknown or the point is occluded in the last frame.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Keyframes, Trajectory
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import Picture, to_pixels
from rdvfi.motion.trajectory.plot import flow_colours
from rdvfi.ops.warp import backward_warp
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.rendering import RenderedFrames

_ERROR_SCALE = 5.0
"""Factor of displayed errors."""


def draw_sheet(
    model: Interpolator,
    clip: ClipBatch,
    keyframes: Keyframes,
    trajectory: Trajectory,
    rendered: RenderedFrames,
    index: int,
) -> Picture:
    """The sheet of a small batch of clips whose frame ``index`` was rendered."""
    decoded = _decode_keyframes(model, keyframes, clip)
    samples = [_draw_sample(clip, trajectory, rendered, index, decoded, i) for i in range(len(rendered.frames))]
    return to_pixels(torch.cat(samples, dim=-2).detach(), deep=False)


def draw_flow_sheet(
    first: Float[Tensor, "b 3 hf wf"],
    last: Float[Tensor, "b 3 hf wf"],
    flow: Float[Tensor, "b 2 hf wf"],
    exact: Float[Tensor, "b 2 hs ws"],
    visible: Float[Tensor, "b hs ws"],
) -> Picture:
    """The sheet of a small batch of flows from the first frames to the last, in pixels of the frames."""
    size = (first.shape[-2], first.shape[-1])
    warped = backward_warp(last.float(), flow.float())
    rows = []
    for i in range(len(first)):
        longest = float((visible[i] * exact[i].norm(dim=0)).max())
        error = _ERROR_SCALE * (warped[i] - first[i]).abs()
        flow_picture = flow_colours(flow[i].float(), longest)
        exact_picture = torch.where(visible[i] > 0.5, flow_colours(exact[i].float(), longest), 0.5)
        exact_picture = F.interpolate(exact_picture[None], size, mode="nearest")[0]
        rows.append(torch.cat((first[i], last[i], warped[i], error, flow_picture, exact_picture), dim=-1))
    return to_pixels(torch.cat(rows, dim=-2).detach(), deep=False)


def _draw_sample(
    clip: ClipBatch,
    trajectory: Trajectory,
    rendered: RenderedFrames,
    index: int,
    decoded: Float[Tensor, "b 2 3 h w"],
    i: int,
) -> Float[Tensor, "3 hs ws"]:
    """The two rows of sample ``i``."""
    time = clip.times[i, index : index + 1].to(clip.frames.device, torch.float32)
    size = (rendered.frames.shape[-2], rendered.frames.shape[-1])
    ends = clip.first[i : i + 1].float(), clip.last[i : i + 1].float()
    flows = [resize_flow(flow[i], size) for flow in trajectory.at(time)]
    warped = [backward_warp(end, flow)[0] for end, flow in zip(ends, flows, strict=True)]
    weight = resize_image(rendered.mask[i : i + 1].float().expand(-1, 3, -1, -1), size)[0]
    longest = max(float(flow.norm(dim=1).max()) for flow in flows)
    flow_pictures = [flow_colours(flow[0], longest) for flow in flows]
    target, result = clip.frames[i, index].float(), rendered.frames[i].float()
    upper_row = (ends[0][0], ends[1][0], *warped, weight, result)
    lower_row = (*decoded[i].float(), *flow_pictures, _ERROR_SCALE * (result - target).abs(), target)
    return torch.cat([torch.cat(row, dim=-1) for row in (upper_row, lower_row)], dim=-2)


def _decode_keyframes(model: Interpolator, keyframes: Keyframes, clip: ClipBatch) -> Float[Tensor, "b 2 3 h w"]:
    """Pictures of the keyframes near 1/4 and 1/2; grey if the backbone has no decoder."""
    last = keyframes.latents.shape[1] - 1
    latents = keyframes.latents[:, [last // 4, (last + 1) // 2]]
    try:
        return model.generator.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
    except TypeError:
        b, _, c, h, w = clip.frames.shape
        return clip.frames.new_full((b, 2, c, h, w), 0.5)
