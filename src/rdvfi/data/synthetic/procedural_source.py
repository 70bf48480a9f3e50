"""Procedural motion as a source of batches, generated during training and not stored.

Layered textures move on known smooth paths (`rdvfi.data.synthetic.sampler`); a batch holds frames at
the nine knots ``i / 8`` and at free times drawn uniformly, and the exact flows that supervise
motion. What a scene holds is drawn by number, from ``(seed, index)``, so every device makes the same
scenes; its frames and flows are made on the device of the pictures. No OpenCV, no files.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rdvfi.data.sources import Batch, check
from rdvfi.data.synthetic.layer_motion import LayerMotion
from rdvfi.data.synthetic.layered_scenes import Illumination, Layers, Scenes
from rdvfi.data.synthetic.sampler import MARGIN, LayerPlan, ScenePlan, SceneRecipe, SceneSampler, texture_side
from rdvfi.data.synthetic.small_objects import draw_scene
from rdvfi.data.synthetic.textures import Pictures, draw_mattes

KNOTS = 9


def build_scenes(plans: Sequence[ScenePlan], pictures: Pictures, size: tuple[int, int]) -> Scenes:
    """The scenes of a batch, on the device of the pictures."""
    layers = []
    for slot in range(len(plans[0].layers)):
        own = {row: plan.layers[slot] for row, plan in enumerate(plans)}
        some = {row: layer for row, layer in own.items() if layer is not None}
        if some:
            layers.append(_layer(some, pictures, size, background=slot == 0))
    device = pictures.device
    light = Illumination(
        torch.tensor([plan.slope for plan in plans], dtype=torch.float32).to(device),
        torch.tensor([plan.curve for plan in plans], dtype=torch.float32).to(device),
    )
    shutter = torch.tensor([plan.shutter for plan in plans], dtype=torch.float32)
    return Scenes(layers, size, light, shutter.to(device))


def _layer(own: dict[int, LayerPlan], pictures: Pictures, size: tuple[int, int], *, background: bool) -> Layers:
    plans = list(own.values())
    if background:
        margin = int(MARGIN * max(size))
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
    return Layers(
        torch.tensor(list(own)).to(colour.device), torch.cat((colour, matte), dim=1), corner.to(colour), motion
    )


def instants(rngs: Sequence[np.random.Generator], free: int) -> Float[Tensor, "b t"]:
    """The knots, and ``free`` more times of each sample."""
    knots = torch.linspace(0.0, 1.0, KNOTS).expand(len(rngs), KNOTS)
    between = np.stack([rng.uniform(0.02, 0.98, free) for rng in rngs])
    return torch.cat((knots, torch.from_numpy(between).float()), dim=1)


def around(free: int) -> Int[Tensor, "t 4"]:
    """Where the flows of each time lead: first, last, knot before, knot after; as indices.

    The neighbours of a free time are the two ends again, and those of an end include itself.
    """
    last = KNOTS - 1
    near = [(0, last, max(i - 1, 0), min(i + 1, last)) for i in range(KNOTS)]
    return torch.tensor(near + [(0, last, 0, last)] * free)


class MovingTextures:
    """Batches of procedural motion with exact flow.

    Args:
        pictures: 8-bit RGB, (n, 3, h, w), on the device where batches are made.
        size: (height, width) of the frames, multiples of ``stride``.
        free: Free times of a sample, beside its nine knots.
        stride: Flows are given at the centres of cells of this many pixels.
        recipe: What scenes hold.
        exposures: Instants that a blurred frame is averaged over, odd; 1 leaves all frames sharp.
        supersample: Samples of a pixel along each side.
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
        supersample: int = 1,
    ) -> None:
        if min(size) < 32 or size[0] % stride or size[1] % stride:
            raise ValueError(f"size is {size}; both sides must be at least 32 and multiples of {stride}")
        self._pictures = Pictures(pictures)
        self._size, self._free, self._stride = size, free, stride
        self._recipe = recipe or SceneRecipe()
        self._exposures, self._supersample = exposures, supersample

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; sample ``j`` of batch ``i`` is drawn from ``(seed, i size + j)``."""
        check(size, start)
        return (self.samples(range(i * size, (i + 1) * size), seed) for i in count(start))

    @torch.no_grad()
    def samples(self, numbers: Sequence[int], seed: int) -> Batch:
        """Samples by number.

        Returns:
            On the device of the pictures, float32:
            ``frames`` (b, t, 3, h, w) in [0, 1], at the knots and then the free times;
            ``times`` (b, t);
            ``flows`` (b, t, 4, 2, h / stride, w / stride), in full-size pixels, on the TARGET grid
            of their time, to the first frame, the last, the knot before and the knot after (for
            free times: the ends again);
            ``visible`` (b, t, 4, h / stride, w / stride), 1 where the other frame shows the point.
        """
        rngs = [np.random.default_rng([seed, number]) for number in numbers]
        draws = [SceneSampler(rng, self._size, len(self._pictures), self._recipe) for rng in rngs]
        scenes = build_scenes([draw_scene(draw) for draw in draws], self._pictures, self._size)
        times = instants(rngs, self._free)
        frames, labels = scenes.frames(times, exposures=self._exposures, supersample=self._supersample)
        flows, visible = scenes.flows(times, around(self._free), labels, stride=self._stride)
        return {"frames": frames, "times": times.to(frames.device), "flows": flows, "visible": visible.float()}
