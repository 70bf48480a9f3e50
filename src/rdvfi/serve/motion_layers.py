"""Visualisations of a motion over a frame: flow, confidence, occlusion, point paths.

All are read from the trajectory at the time that is shown. Flow is coloured by direction and length
(`rdvfi.motion.trajectory.plot`), relative to the longest of the pair, so that colours stay comparable
while time passes. A point counts as occluded in a frame where the confidence of its flow there is below
one half, that is where going there and back misses by more than 1.4 pixels of the trajectory's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Trajectory
from rdvfi.media.pixels import Picture
from rdvfi.motion.trajectory.plot import flow_colours
from rdvfi.types import Times

_OPACITY = 0.7
_VISIBLE = 0.5
_COLUMNS = 20
"""Paths from left to right."""
_STEPS = 24
_SHORTEST = 1.5
"""Pixels of a path that is worth drawing."""
_SUBPIXEL = 3
"""Bits after the point of the coordinates that are drawn."""


class Layer(Enum):
    """What lies over the frame."""

    NONE = "picture"
    FLOW = "flow"
    CONFIDENCE = "confidence"
    OCCLUSION = "occlusion"


@dataclass(frozen=True, eq=False)
class PointPaths:
    """Paths of points of the first frame, in pixels of the frame."""

    points: Float[np.ndarray, "n s 2"]
    times: Float[np.ndarray, " s"]

    @classmethod
    def of(
        cls,
        trajectory: Trajectory,
        size: tuple[int, int],
        device: torch.device,
        *,
        points: Sequence[tuple[float, float]] = (),
    ) -> "PointPaths":
        """The paths of points through a frame of this height and width.

        Args:
            trajectory: Of the pair.
            size: Of the frame.
            device: Of the trajectory.
            points: Pixels (x, y) of the frame; an even grid if none is given.
        """
        times = torch.linspace(0.0, 1.0, _STEPS + 1, device=device)
        shift = trajectory.shift(torch.zeros_like(times), times)[0].float().cpu()
        h, w = shift.shape[-2:]
        step = max(1, round(w / _COLUMNS))
        ys, xs = (torch.arange(step // 2, side, step) for side in (h, w))
        start = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)
        if points:
            share = torch.tensor((w / size[1], h / size[0]))
            start = ((torch.tensor(points, dtype=torch.float32) + 0.5) * share).long()
            start = torch.minimum(start.clamp(min=0), torch.tensor((w - 1, h - 1)))
        moved = start[:, None] + shift[:, :, start[:, 1], start[:, 0]].permute(2, 0, 1)
        scale = torch.tensor((size[1] / w, size[0] / h))
        curves = ((moved + 0.5) * scale - 0.5).numpy()
        longest = np.linalg.norm(curves - curves[:, :1], axis=-1).max(axis=1)
        worth = longest >= (0.0 if points else _SHORTEST * size[1] / w)
        return cls(curves[worth], times.cpu().numpy())

    def draw(self, picture: Picture, time: float) -> Picture:
        """The paths, and where their points are now, over a picture."""
        drawn = np.ascontiguousarray(picture).copy()
        thick = max(1, round(picture.shape[1] / 900))
        curves = [_fixed(curve) for curve in self.points]
        for colour, width in (((20, 20, 20), thick + 2), ((255, 255, 255), thick)):
            cv2.polylines(drawn, curves, False, colour, width, cv2.LINE_AA, _SUBPIXEL)
        for curve in self.points:
            x, y = (float(np.interp(time, self.times, curve[:, axis])) for axis in (0, 1))
            centre = (round(x * 2**_SUBPIXEL), round(y * 2**_SUBPIXEL))
            cv2.circle(drawn, centre, (2 + thick) << _SUBPIXEL, (235, 60, 60), -1, cv2.LINE_AA, _SUBPIXEL)
        return drawn


def _fixed(curve: Float[np.ndarray, "s 2"]) -> np.ndarray:
    """Coordinates as whole numbers of the fraction of a pixel that OpenCV draws with."""
    return np.round(curve * 2**_SUBPIXEL).astype(np.int32)


def longest_flow(trajectory: Trajectory, like: Times) -> float:
    """The 99th percentile of the lengths of the flow from end to end: what full colour stands for."""
    return float(trajectory.across(like)[0].norm(dim=1).quantile(0.99))


def draw_layer(picture: Picture, trajectory: Trajectory, layer: Layer, times: Times, longest: float) -> Picture:
    """A layer over a picture of the same time, which ``times`` holds alone.

    Args:
        picture: What is under it.
        trajectory: The motion.
        layer: What is drawn.
        times: The time.
        longest: What full colour of the flow stands for, in pixels of the trajectory's grid.
    """
    if layer is Layer.NONE:
        return picture
    trust = trajectory.confidence(times)[0, 0]
    if layer is Layer.OCCLUSION:
        seen = (trust > _VISIBLE).float()
        colours, strength = _visibility(seen), 1.0 - seen.amin(0)
    else:
        flow = layer is Layer.FLOW
        colours = flow_colours(_whole_flow(trajectory, times), longest) if flow else trust.amin(0).expand(3, -1, -1)
        strength = torch.ones_like(trust[0])
    return _over(picture, colours, strength)


def _over(picture: Picture, colours: Float[Tensor, "3 h w"], strength: Float[Tensor, "h w"]) -> Picture:
    """Colours over the grey picture where their strength is 1, the picture itself where it is 0."""
    height, width = picture.shape[:2]
    maps = torch.cat((colours * 255.0, strength[None])).float().permute(1, 2, 0).cpu().numpy()
    wide = cv2.resize(maps, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = wide[..., :3] * _OPACITY + grey * np.float32(1.0 - _OPACITY)
    return np.round(picture + (mixed - picture) * wide[..., 3:]).astype(np.uint8)


def _whole_flow(trajectory: Trajectory, times: Times) -> Float[Tensor, "2 h w"]:
    """How far the point seen at each pixel moves from the first frame to the last."""
    if trajectory.grid is FlowGrid.SOURCE:
        return trajectory.shift(torch.zeros_like(times), torch.ones_like(times))[0, 0]
    to_first, to_last = trajectory.at(times)
    return (to_last - to_first)[0, 0]


def _visibility(seen: Float[Tensor, "2 h w"]) -> Float[Tensor, "3 h w"]:
    """Orange where the first frame alone shows the point, blue where the last does, black where neither."""
    first, last = seen
    return torch.stack((first, 0.55 * torch.maximum(first, last), last))
