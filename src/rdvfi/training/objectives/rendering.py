"""Frames at free times during training, and the maps with which they are rendered."""

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interfaces import Keyframes, Motion, Trajectory
from rdvfi.interpolator import Interpolator
from rdvfi.render.base import RefiningRenderer, consistency_mask
from rdvfi.training.losses.evidence import MapSupervision, WarpMaps
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.types import Image, Times, map_tensors


@dataclass(frozen=True, eq=False)
class RenderedFrames:
    """One frame per sample, each at its own free time.

    ``initial`` maps are the flows of the trajectory, and the mask by forward-backward consistency; ``refined`` ones
    are those of a learned renderer, with which the frames were rendered, or None.
    """

    frames: Float[Tensor, "b 3 h w"]
    initial: WarpMaps
    refined: WarpMaps | None

    @property
    def mask(self) -> Float[Tensor, "b 1 hf wf"]:
        """The blending weight of the first frame: the learned one if there is one."""
        return self.initial.mask if self.refined is None else self.refined.mask


def render_free_frame(
    model: Interpolator, keyframes: Keyframes, trajectory: Trajectory, clip: ClipBatch, index: int
) -> RenderedFrames:
    """Render the frame ``index`` of every clip.

    A renderer needs the same times for all samples. Samples are rendered one by one if their times differ, and
    also if the times are on a GPU, where comparing them would synchronise with the device.
    """
    times, device = clip.times[:, index], clip.frames.device
    same_times = times.device.type == "cpu" and bool((times == times[0]).all())
    times = times.to(device, torch.float32, non_blocking=True)
    if same_times:
        return _render_at(model, clip.first, clip.last, Motion.of(keyframes, trajectory), times[:1])
    samples: list[RenderedFrames] = []
    for i in range(len(times)):
        row = slice(i, i + 1)
        own_keyframes = _select_rows(keyframes, row)
        own_trajectory = _select_rows(trajectory, row) if is_dataclass(trajectory) else model.trajectory(own_keyframes)
        motion = Motion.of(own_keyframes, own_trajectory)
        samples.append(_render_at(model, clip.first[row], clip.last[row], motion, times[row]))
    refined = [sample.refined for sample in samples if sample.refined is not None]
    return RenderedFrames(
        torch.cat([sample.frames for sample in samples]),
        _concatenate_maps([sample.initial for sample in samples]),
        _concatenate_maps(refined) if refined else None,
    )


def supervise_maps(rendered: RenderedFrames, clip: ClipBatch, index: int) -> MapSupervision | None:
    """Maps of a learned renderer with their targets, exact flow or maps of a teacher; None if there are none."""
    if rendered.refined is None:
        return None
    size = (rendered.mask.shape[-2], rendered.mask.shape[-1])
    visible = mask = None
    if clip.flows is not None and clip.visible is not None:
        flows = clip.flows[:, index, :2]
        visible = F.interpolate(clip.visible[:, index, :2], size, mode="nearest")
    else:
        flows, mask = clip.teacher_maps(index)
    if flows is None:
        return None
    first, last, frame = (resize_image(x.float(), size) for x in (clip.first, clip.last, clip.frames[:, index]))
    return MapSupervision(
        rendered.refined,
        rendered.initial,
        resize_flow(flows.float().flatten(0, 1), size).unflatten(0, (-1, 2)).flatten(1, 2),
        first,
        last,
        frame,
        target_mask=None if mask is None else resize_image(mask.float(), size),
        visible=visible,
    )


def _render_at(model: Interpolator, first: Image, last: Image, motion: Motion, time: Times) -> RenderedFrames:
    renderer, flows = model.renderer, motion.trajectory.at(time)
    with torch.no_grad():
        mask = consistency_mask(motion.trajectory, time, flows)
    initial = WarpMaps(torch.cat(flows, dim=2)[:, 0], mask[:, 0])
    if not isinstance(renderer, RefiningRenderer):
        return RenderedFrames(renderer(first, last, motion, time)[:, 0], initial, None)
    maps = renderer.refine(first, last, motion, time)
    refined = WarpMaps(torch.cat((maps.flow0, maps.flow1), dim=2)[:, 0], maps.mask[:, 0])
    return RenderedFrames(maps.draw(first, last)[:, 0], initial, refined)


def _concatenate_maps(maps: Sequence[WarpMaps]) -> WarpMaps:
    return WarpMaps(torch.cat([each.flows for each in maps]), torch.cat([each.mask for each in maps]))


def _select_rows(value: Any, rows: slice) -> Any:
    """Some samples of a dataclass of tensors; tensors with up to two axes are shared by all samples."""
    return map_tensors(value, lambda tensor: tensor[rows] if tensor.dim() > 2 else tensor)
