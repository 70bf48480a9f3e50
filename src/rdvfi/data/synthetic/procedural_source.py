"""Procedural motion as a source of batches, generated during training and not stored.

Layered textures move along known smooth paths (`rdvfi.data.synthetic.sampler`). A batch holds frames at
the nine knots ``i / 8`` and at uniformly distributed free times, with exact flow. The content of a scene is
sampled from ``(seed, index)`` on the CPU, so every device generates the same scenes; frames and flows are
computed on the device of the pictures. Neither OpenCV nor files are used.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.data.sources import Batch, check_batch_request
from rdvfi.data.synthetic.layer_motion import LayerMotion
from rdvfi.data.synthetic.layered_scenes import Illumination, LayerBatch, SceneBatch
from rdvfi.data.synthetic.sampler import (
    BACKGROUND_MARGIN,
    LayerPlan,
    ScenePlan,
    SceneRecipe,
    SceneSampler,
    texture_side,
)
from rdvfi.data.synthetic.small_objects import sample_detailed_scene
from rdvfi.data.synthetic.textures import PicturePyramid, draw_mattes

KNOTS = 9
"""Knots of a training sample, at ``i / 8``."""


def build_scenes(plans: Sequence[ScenePlan], pictures: PicturePyramid, size: tuple[int, int]) -> SceneBatch:
    """The scenes of a batch, on the device of the pictures."""
    layers = []
    for slot in range(len(plans[0].layers)):
        slot_plans = {row: layer for row, plan in enumerate(plans) if (layer := plan.layers[slot]) is not None}
        if slot_plans:
            layers.append(_build_layer(slot_plans, pictures, size, background=slot == 0))
    device = pictures.device
    light = Illumination(
        torch.tensor([plan.slope for plan in plans], dtype=torch.float32).to(device),
        torch.tensor([plan.curve for plan in plans], dtype=torch.float32).to(device),
    )
    shutter = torch.tensor([plan.shutter for plan in plans], dtype=torch.float32)
    return SceneBatch(layers, size, light, shutter.to(device))


def _build_layer(
    slot_plans: dict[int, LayerPlan], pictures: PicturePyramid, size: tuple[int, int], *, background: bool
) -> LayerBatch:
    plans = list(slot_plans.values())
    if background:
        margin = int(BACKGROUND_MARGIN * max(size))
        shape = size[0] + 2 * margin, size[1] + 2 * margin
    else:
        shape = texture_side(size), texture_side(size)
    colour = pictures.crop([plan.crop for plan in plans], shape)
    if background:
        matte = torch.ones_like(colour[:, :1])
    else:
        matte = draw_mattes([plan.matte for plan in plans], shape[0], colour.device)
    half = torch.tensor([(shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0])
    corner = torch.tensor([plan.centre for plan in plans], dtype=torch.float32) - half
    motion = LayerMotion.of(
        [plan.path for plan in plans], [plan.joint for plan in plans], [plan.wave for plan in plans], colour.device
    )
    return LayerBatch(
        torch.tensor(list(slot_plans)).to(colour.device), torch.cat((colour, matte), dim=1), corner.to(colour), motion
    )


def sample_times(rngs: Sequence[np.random.Generator], free: int) -> Float[Tensor, "b t"]:
    """The knots and ``free`` random times of each sample."""
    knots = torch.linspace(0.0, 1.0, KNOTS).expand(len(rngs), KNOTS)
    free_times = np.stack([rng.uniform(0.02, 0.98, free) for rng in rngs])
    return torch.cat((knots, torch.from_numpy(free_times).float()), dim=1)


def flow_targets(free: int) -> Int[Tensor, "t 4"]:
    """Indices of the target times of each time: first frame, last frame, previous knot, next knot.

    The neighbours of a free time are the two ends; an end without a neighbour is its own.
    """
    last = KNOTS - 1
    targets = [(0, last, max(i - 1, 0), min(i + 1, last)) for i in range(KNOTS)]
    return torch.tensor(targets + [(0, last, 0, last)] * free)


class MovingTextures:
    """Batches of procedural motion with exact flow.

    Args:
        pictures: 8-bit RGB, (n, 3, h, w), on the device where batches are generated.
        size: (height, width) of the frames, multiples of ``stride``.
        free: Free times of a sample in addition to its nine knots.
        stride: Side in pixels of the cells at whose centres flow is given.
        recipe: Distribution of the scenes.
        exposures: Times over which a blurred frame is averaged, odd; 1 leaves all frames sharp.
    """

    def __init__(
        self,
        pictures: Tensor,
        size: tuple[int, int] = (160, 256),
        *,
        free: int = 3,
        stride: int = 8,
        recipe: SceneRecipe | None = None,
        exposures: int = 1,
    ) -> None:
        if min(size) < 32 or size[0] % stride or size[1] % stride:
            raise ValueError(f"size is {size}; both sides must be at least 32 and multiples of {stride}")
        self._pictures = PicturePyramid(pictures)
        self._size, self._free, self._stride = size, free, stride
        self._recipe, self._exposures = recipe or SceneRecipe(), exposures

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; sample ``j`` of batch ``i`` is generated from ``(seed, i size + j)``."""
        check_batch_request(size, start)
        return (self.samples(range(i * size, (i + 1) * size), seed) for i in count(start))

    @torch.no_grad()
    def samples(self, numbers: Sequence[int], seed: int) -> Batch:
        """The samples with these numbers.

        Returns:
            Float32 tensors on the device of the pictures:
            ``frames`` (b, t, 3, h, w) in [0, 1], at the knots, then at the free times;
            ``times`` (b, t);
            ``flows`` (b, t, 4, 2, h / stride, w / stride), in full-size pixels, on the TARGET grid
            of their time, to the first frame, the last, the previous and the next knot (for
            free times: to the ends again);
            ``visible`` (b, t, 4, h / stride, w / stride), 1 where the target frame shows the point.
        """
        rngs = [np.random.default_rng([seed, number]) for number in numbers]
        samplers = [SceneSampler(rng, self._size, len(self._pictures), self._recipe) for rng in rngs]
        scenes = build_scenes([sample_detailed_scene(s) for s in samplers], self._pictures, self._size)
        times = sample_times(rngs, self._free)
        frames, labels = scenes.frames(times, exposures=self._exposures)
        flows, visible = scenes.flows(times, flow_targets(self._free), labels, stride=self._stride)
        return {"frames": frames, "times": times.to(frames.device), "flows": flows, "visible": visible.float()}
