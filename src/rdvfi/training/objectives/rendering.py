"""Frames at random times during training, and the maps that they are drawn with."""

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
from rdvfi.training.losses.evidence import Drawing, Maps
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.types import Image, Times, map_tensors


@dataclass(frozen=True, eq=False)
class Rendered:
    """One frame per sample, at a free time of its own.

    ``plain`` is the trajectory's motion and its blend by consistency; ``refined`` what a learned
    renderer made of them and drew with, None for other renderers.
    """

    frames: Float[Tensor, "b 3 h w"]
    plain: Maps
    refined: Maps | None

    @property
    def mask(self) -> Float[Tensor, "b 1 hf wf"]:
        """The first frame's share: the learned one where there is one."""
        return self.plain.mask if self.refined is None else self.refined.mask


def render_free(
    model: Interpolator, keyframes: Keyframes, trajectory: Trajectory, clip: ClipBatch, index: int
) -> Rendered:
    """The clips' frame number ``index``, drawn by the model.

    A renderer takes times that a batch shares. Whether this one does can be seen where the times are on
    the CPU; elsewhere that would wait for the device, so every sample is drawn by itself.
    """
    times, device = clip.times[:, index], clip.frames.device
    shared = times.device.type == "cpu" and bool((times == times[0]).all())
    times = times.to(device, torch.float32, non_blocking=True)
    if shared:
        return _rendered(model, clip.first, clip.last, Motion.of(keyframes, trajectory), times[:1])
    rows: list[Rendered] = []
    for i in range(len(times)):
        own, when = slice(i, i + 1), times[i : i + 1]
        keys = _rows(keyframes, own)
        path = _rows(trajectory, own) if is_dataclass(trajectory) else None
        path = model.trajectory(keys) if path is None else path
        rows.append(_rendered(model, clip.first[own], clip.last[own], Motion.of(keys, path), when))
    refined = [row.refined for row in rows if row.refined is not None]
    return Rendered(
        torch.cat([row.frames for row in rows]),
        _together([row.plain for row in rows]),
        _together(refined) if refined else None,
    )


def drawing_of(drawn: Rendered, clip: ClipBatch, index: int) -> Drawing | None:
    """Maps of a learned renderer, with exact flow or maps of a teacher as targets, if there are any."""
    if drawn.refined is None:
        return None
    size = (drawn.mask.shape[-2], drawn.mask.shape[-1])
    visible = mask = None
    if clip.flows is not None and clip.visible is not None:
        wanted = clip.flows[:, index, :2]
        visible = F.interpolate(clip.visible[:, index, :2], size, mode="nearest")
    else:
        wanted, mask = clip.taught(index)
    if wanted is None:
        return None
    first, last, truth = (resize_image(x.float(), size) for x in (clip.first, clip.last, clip.frames[:, index]))
    return Drawing(
        drawn.refined,
        drawn.plain,
        pair_on_grid(wanted, size),
        first,
        last,
        truth,
        None if mask is None else resize_image(mask.float(), size),
        visible,
    )


def pair_on_grid(flows: Float[Tensor, "b 2 2 _ _"], size: tuple[int, int]) -> Float[Tensor, "b 4 h w"]:
    """Flows to both ends, one after the other, in pixels of a grid of ``size``."""
    return resize_flow(flows.float().flatten(0, 1), size).unflatten(0, (-1, 2)).flatten(1, 2)


def _rendered(model: Interpolator, first: Image, last: Image, motion: Motion, when: Times) -> Rendered:
    """Frames at one time."""
    renderer, flows = model.renderer, motion.trajectory.at(when)
    with torch.no_grad():
        mask = consistency_mask(motion.trajectory, when, flows)
    plain = Maps(torch.cat(flows, dim=2)[:, 0], mask[:, 0])
    if not isinstance(renderer, RefiningRenderer):
        return Rendered(renderer(first, last, motion, when)[:, 0], plain, None)
    maps = renderer.refine(first, last, motion, when)
    refined = Maps(torch.cat((maps.flow0, maps.flow1), dim=2)[:, 0], maps.mask[:, 0])
    return Rendered(maps.draw(first, last)[:, 0], plain, refined)


def _together(rows: Sequence[Maps]) -> Maps:
    return Maps(torch.cat([row.flows for row in rows]), torch.cat([row.mask for row in rows]))


def _rows(value: Any, own: slice) -> Any:
    """Some samples of a dataclass of tensors; tensors of few axes belong to all samples."""
    return map_tensors(value, lambda part: part[own] if part.dim() > 2 else part)
