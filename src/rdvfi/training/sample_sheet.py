"""An image with the results of a model on two training samples.

From left to right for each sample, in two rows::

    first frame | last frame | warped first | warped last | weight of the first | result
    keyframe at 1/4 | keyframe at 1/2 | flow to first | flow to last | five times the error | truth

Keyframes are the nearest that there are, decoded where the backbone has a decoder. Flows are coloured:
hue is direction, saturation is length. The weight is what the frame was drawn with: a learned one where the renderer
has one, else that of consistency.

Of a coarse flow, in one row per sample::

    first frame | last frame | last warped | its error, five times | flow | known flow

Known flow is grey where nothing is known of it, or the other frame does not show the point.
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
from rdvfi.training.objectives.rendering import Rendered

Tile = Float[Tensor, "3 h w"]


def draw_sheet(
    model: Interpolator, clip: ClipBatch, keyframes: Keyframes, trajectory: Trajectory, drawn: Rendered, index: int
) -> Picture:
    """The sheet of a small batch, of which frame number ``index`` was drawn."""
    decoded = _decoded(model, keyframes, clip)
    blocks = [_block(clip, trajectory, drawn, index, decoded, i) for i in range(len(drawn.frames))]
    return to_pixels(torch.cat(blocks, dim=-2).detach(), deep=False)


def draw_flows(
    first: Float[Tensor, "b 3 hf wf"],
    last: Float[Tensor, "b 3 hf wf"],
    flow: Float[Tensor, "b 2 hf wf"],
    known: Float[Tensor, "b 2 hs ws"],
    visible: Float[Tensor, "b hs ws"],
) -> Picture:
    """The sheet of a flow from the first frames to the last; flows in pixels of the frames."""
    size = (first.shape[-2], first.shape[-1])
    warped = backward_warp(last.float(), flow.float())
    rows = []
    for i in range(len(first)):
        longest = float((visible[i] * known[i].norm(dim=0)).max())
        true = torch.where(visible[i] > 0.5, flow_colours(known[i].float(), longest), 0.5)
        found = flow_colours(flow[i].float(), longest)
        error = 5.0 * (warped[i] - first[i]).abs()
        large = F.interpolate(true[None], size, mode="nearest")[0]
        rows.append(torch.cat((first[i], last[i], warped[i], error, found, large), dim=-1))
    return to_pixels(torch.cat(rows, dim=-2).detach(), deep=False)


def _block(
    clip: ClipBatch, trajectory: Trajectory, drawn: Rendered, index: int, decoded: Float[Tensor, "b 2 3 h w"], i: int
) -> Float[Tensor, "3 hs ws"]:
    when = clip.times[i, index : index + 1].to(clip.frames.device, torch.float32)
    flows = trajectory.at(when)
    size = (drawn.frames.shape[-2], drawn.frames.shape[-1])
    ends = clip.first[i : i + 1].float(), clip.last[i : i + 1].float()
    large = [resize_flow(flow[i], size) for flow in flows]
    warped = [backward_warp(end, flow)[0] for end, flow in zip(ends, large, strict=True)]
    weight = resize_image(drawn.mask[i : i + 1].float().expand(-1, 3, -1, -1), size)[0]
    longest = max(float(flow.norm(dim=1).max()) for flow in large)
    colours = [flow_colours(flow[0], longest) for flow in large]
    truth, result = clip.frames[i, index].float(), drawn.frames[i].float()
    above = (ends[0][0], ends[1][0], *warped, weight, result)
    below = (*decoded[i].float(), *colours, 5.0 * (result - truth).abs(), truth)
    return torch.cat([torch.cat(row, dim=-1) for row in (above, below)], dim=-2)


def _decoded(model: Interpolator, keyframes: Keyframes, clip: ClipBatch) -> Float[Tensor, "b 2 3 h w"]:
    """Two keyframes as pictures, grey where the backbone cannot decode."""
    last = keyframes.latents.shape[1] - 1
    chosen = [last // 4, (last + 1) // 2]
    try:
        latents = keyframes.latents[:, chosen]
        images = model.generator.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
    except TypeError:
        b, _, c, h, w = clip.frames.shape
        return clip.frames.new_full((b, 2, c, h, w), 0.5)
    return images
