"""Parts that the motion laboratory's scenes are put together from: textures, shapes, shifts, an overlay."""

from dataclasses import dataclass
from functools import cache
from itertools import cycle
from math import cos, pi, sin

import numpy as np
import torch

from rdvfi.data.synthetic.generated_images import discs_and_boxes, facade, lettering
from rdvfi.data.synthetic.layered_scenes import Layers
from rdvfi.data.synthetic.object_paths import LayerPath, Point
from rdvfi.data.synthetic.sampler import LayerPlan, blob_matte
from rdvfi.data.synthetic.textures import Crop, Matte, Pictures

Size = tuple[int, int]
PICTURES = 6
"""Pictures without repetition."""
FACADE = PICTURES
"""Number of the picture that repeats itself; it follows the others."""


@cache
def drawn_textures() -> Pictures:
    """Textures of all layers, of 768x576 pixels."""
    drawn = [discs_and_boxes(np.random.default_rng([i, 2029]), 576, 768, smallest=4.0) for i in range(PICTURES)]
    drawn.append(facade(np.random.default_rng(2029), 576, 768))
    stack = np.rint(255.0 * np.stack(drawn)).astype(np.uint8)
    return Pictures(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous())


def overlay(size: Size) -> Layers:
    """Two lines of subtitles and a mark in a corner, which rest."""
    h, w = size
    capital = 0.07 * h
    lines = [("Nobody told me where", 0.14 * w, 0.84 * h, capital), ("the keys are.", 0.3 * w, 0.95 * h, capital)]
    layer = lettering(size, [*lines, ("R7", 0.84 * w, 0.14 * h, capital)])
    matte = layer[..., 3:]
    texture = np.concatenate((layer[..., :3] / np.maximum(matte, 1e-3), matte), axis=2).clip(0.0, 1.0)
    return Layers.of_texture(torch.from_numpy(texture.astype(np.float32)).permute(2, 0, 1).contiguous())


@dataclass
class SceneParts:
    """Draws the parts of one scene, every layer of another picture."""

    rng: np.random.Generator
    size: Size

    def __post_init__(self) -> None:
        self._order = cycle(self.rng.permutation(PICTURES).tolist())

    @property
    def middle(self) -> Point:
        """Of the frame."""
        return (self.size[1] - 1) / 2, (self.size[0] - 1) / 2

    def pixels(self, length: float) -> float:
        """A length of a frame that is 448 pixels wide."""
        return length * self.size[1] / 448.0

    def either(self, value: float) -> float:
        """About a value, with either sign."""
        return float(value * self.rng.uniform(0.85, 1.15) * self.rng.choice([-1.0, 1.0]))

    def shift(self, length: float, heading: float | None = None) -> Point:
        """A shift of about a length (at a width of 448), in a random direction if none is given."""
        angle = self.rng.uniform(0.0, 2.0 * pi) if heading is None else heading
        far = self.pixels(length) * self.rng.uniform(0.85, 1.15)
        return far * cos(angle), far * sin(angle)

    def crop(self, picture: int | None = None, reduction: float = 0.7) -> Crop:
        """A window of a picture, its colours as they are."""
        chosen = next(self._order) if picture is None else picture
        place = (self.rng.random(), self.rng.random())
        return Crop(chosen, reduction, place, (False, False), (1.0, 1.0, 1.0), 1.0)

    def ground(self, path: LayerPath | None = None, picture: int | None = None) -> LayerPlan:
        """The background; at rest if no path is given."""
        return LayerPlan(self.crop(picture), path or LayerPath(), self.middle)

    def panned(self) -> LayerPlan:
        """A background that a camera pans over."""
        return self.ground(LayerPath(shift=(self.either(self.pixels(36.0)), self.either(self.pixels(5.0)))))

    def shape(self, path: LayerPath, matte: Matte | None = None, at: Point | None = None) -> LayerPlan:
        """A shape that is in the middle of the frame, or at ``at``, at half time."""
        matte = matte or blob_matte(self.rng, self.rng.uniform(0.45, 0.6) * min(self.size))
        return LayerPlan(self.crop(), path, path.origin(at or self.middle, 0.5), matte)
