"""Visualisations of a motion over a frame: flow, confidence, occlusion, point paths.

All are read from the trajectory at the time that is shown. Flow is coloured by direction and length
(`rdvfi.motion.trajectory.plot`), relative to the longest of the pair, so that colours stay comparable
at all times. A point counts as occluded in a frame where the confidence of its flow there is below
one half, that is where the forward-backward error exceeds 1.4 pixels of the trajectory's grid.
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

_LAYER_OPACITY = 0.7
_VISIBLE_CONFIDENCE = 0.5
_PATHS_PER_ROW = 20
"""Paths side by side over the width."""
_PATH_STEPS = 24
_MIN_PATH_LENGTH = 1.5
"""Length of the shortest path that is drawn, in pixels of the trajectory's grid."""
_SUBPIXEL_BITS = 3
"""Fractional bits of the coordinates passed to OpenCV."""


class Layer(Enum):
    """Layers over the frame."""

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
    def from_trajectory(
        cls,
        trajectory: Trajectory,
        size: tuple[int, int],
        device: torch.device,
        *,
        points: Sequence[tuple[float, float]] = (),
    ) -> "PointPaths":
        """Paths of points of a frame.

        Args:
            trajectory: The motion of the pair.
            size: Height and width of the frame, in pixels.
            device: The trajectory's device.
            points: Pixels (x, y) of the first frame; a regular grid if empty.
        """
        times = torch.linspace(0.0, 1.0, _PATH_STEPS + 1, device=device)
        shift = trajectory.shift(torch.zeros_like(times), times)[0].float().cpu()
        h, w = shift.shape[-2:]
        step = max(1, round(w / _PATHS_PER_ROW))
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
        drawn_paths = longest >= (0.0 if points else _MIN_PATH_LENGTH * size[1] / w)
        return cls(curves[drawn_paths], times.cpu().numpy())

    def draw(self, picture: Picture, time: float) -> Picture:
        """The picture with the paths, and the positions of their points at ``time``."""
        drawn = np.ascontiguousarray(picture).copy()
        thickness = max(1, round(picture.shape[1] / 900))
        curves = [_to_fixed_point(curve) for curve in self.points]
        for colour, width in (((20, 20, 20), thickness + 2), ((255, 255, 255), thickness)):
            cv2.polylines(drawn, curves, False, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)
        for curve in self.points:
            x, y = (float(np.interp(time, self.times, curve[:, axis])) for axis in (0, 1))
            centre = (round(x * 2**_SUBPIXEL_BITS), round(y * 2**_SUBPIXEL_BITS))
            cv2.circle(drawn, centre, (2 + thickness) << _SUBPIXEL_BITS, (235, 60, 60), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        return drawn


def _to_fixed_point(curve: Float[np.ndarray, "s 2"]) -> np.ndarray:
    """Coordinates as OpenCV's fixed-point numbers."""
    return np.round(curve * 2**_SUBPIXEL_BITS).astype(np.int32)


def flow_scale(trajectory: Trajectory, like: Times) -> float:
    """The flow length shown at full saturation: the 99th percentile between the ends, in pixels of the grid."""
    return float(trajectory.across(like)[0].norm(dim=1).quantile(0.99))


def draw_layer(picture: Picture, trajectory: Trajectory, layer: Layer, times: Times, scale: float) -> Picture:
    """A picture with a layer over it.

    Args:
        picture: The frame at the time.
        trajectory: The motion of the pair.
        layer: The layer.
        times: The time, as a tensor with one element.
        scale: Flow length shown at full saturation, in pixels of the trajectory's grid.
    """
    if layer is Layer.NONE:
        return picture
    confidence = trajectory.confidence(times)[0, 0]
    if layer is Layer.OCCLUSION:
        visible = (confidence > _VISIBLE_CONFIDENCE).float()
        colours, strength = _occlusion_colours(visible), 1.0 - visible.amin(0)
    else:
        flow = layer is Layer.FLOW
        colours = (
            flow_colours(_flow_between_ends(trajectory, times), scale) if flow else confidence.amin(0).expand(3, -1, -1)
        )
        strength = torch.ones_like(confidence[0])
    return _blend_layer(picture, colours, strength)


def _blend_layer(picture: Picture, colours: Float[Tensor, "3 h w"], strength: Float[Tensor, "h w"]) -> Picture:
    """The picture, blended with colours over its grey version by ``strength`` in [0, 1]."""
    height, width = picture.shape[:2]
    maps = torch.cat((colours * 255.0, strength[None])).float().permute(1, 2, 0).cpu().numpy()
    wide = cv2.resize(maps, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = wide[..., :3] * _LAYER_OPACITY + grey * np.float32(1.0 - _LAYER_OPACITY)
    return np.round(picture + (mixed - picture) * wide[..., 3:]).astype(np.uint8)


def _flow_between_ends(trajectory: Trajectory, times: Times) -> Float[Tensor, "2 h w"]:
    """Motion of the point visible at each pixel from the first frame to the last."""
    if trajectory.grid is FlowGrid.SOURCE:
        return trajectory.shift(torch.zeros_like(times), torch.ones_like(times))[0, 0]
    to_first, to_last = trajectory.at(times)
    return (to_last - to_first)[0, 0]


def _occlusion_colours(visible: Float[Tensor, "2 h w"]) -> Float[Tensor, "3 h w"]:
    """Orange where only the first frame shows the point, blue where only the last does, black where neither does."""
    first, last = visible
    return torch.stack((first, 0.55 * torch.maximum(first, last), last))
