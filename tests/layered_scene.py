"""Scenes with a few given layers, for tests that need exact motion."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rdvfi.data.synthetic.layered_scenes import LayerBatch, SceneBatch
from rdvfi.data.synthetic.object_paths import STATIC, LayerPath


def background_layer(
    picture: np.ndarray, path: LayerPath = STATIC, corner: tuple[float, float] = (0.0, 0.0)
) -> LayerBatch:
    """A background: an 8-bit picture whose pixel (0, 0) is at ``corner`` at time 0."""
    colour = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255.0
    return LayerBatch.of_texture(torch.cat((colour, torch.ones_like(colour[:, :1])), dim=1)[0], path, corner)


def rectangle_layer(picture: np.ndarray, path: LayerPath, corner: tuple[float, float]) -> LayerBatch:
    """An opaque rectangle in front, with an empty border a pixel wide around it."""
    texture = torch.nn.functional.pad(background_layer(picture).texture, (1, 1, 1, 1), mode="replicate")
    texture[:, 3, [0, -1]], texture[:, 3, :, [0, -1]] = 0.0, 0.0
    return LayerBatch.of_texture(texture[0], path, (corner[0] - 1.0, corner[1] - 1.0))


def single_scene(size: tuple[int, int], *layers: LayerBatch) -> SceneBatch:
    """A batch of one scene with these layers, from back to front."""
    return SceneBatch(layers, size)


def render_frame(scenes: SceneBatch, time: float) -> Float[Tensor, "1 3 h w"]:
    """The picture at a time, in [0, 1]."""
    return scenes.frames(torch.tensor([[time]]))[0][:, 0]


def layer_labels(scenes: SceneBatch, time: float) -> Int[Tensor, "h w"]:
    """The topmost layer of every pixel at a time."""
    return scenes.frames(torch.tensor([[time]]))[1][0, 0]


def exact_flows(
    scenes: SceneBatch, times: list[float], to: tuple[float, ...] = (0.0, 1.0)
) -> tuple[Float[Tensor, "t n 2 h w"], Bool[Tensor, "t n h w"]]:
    """Exact flows from each time to each other one, and where the point is visible there."""
    flows, visible = scenes.flows_to(torch.tensor([times]), torch.tensor([to]))
    return flows[0], visible[0]
