"""Parts of the motion laboratory's scenes: textures, shapes, shifts, an overlay."""

from dataclasses import dataclass
from functools import cache
from itertools import cycle
from math import cos, pi, sin

import numpy as np
import torch

from rdvfi.data.synthetic.generated_images import discs_and_boxes, facade, lettering
from rdvfi.data.synthetic.layered_scenes import LayerBatch
from rdvfi.data.synthetic.object_paths import LayerPath, Point
from rdvfi.data.synthetic.sampler import LayerPlan, blob_matte
from rdvfi.data.synthetic.textures import Crop, Matte, PicturePyramid

Size = tuple[int, int]
PICTURES = 6
"""Number of pictures without repeating texture."""
FACADE = PICTURES
"""Index of the picture with repeating texture, after the others."""


@cache
def scene_textures() -> PicturePyramid:
    """All pictures, of 768x576 pixels."""
    pictures = [discs_and_boxes(np.random.default_rng([i, 2029]), 576, 768, smallest=4.0) for i in range(PICTURES)]
    pictures.append(facade(np.random.default_rng(2029), 576, 768))
    stack = np.rint(255.0 * np.stack(pictures)).astype(np.uint8)
    return PicturePyramid(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous())


def draw_overlay(size: Size) -> LayerBatch:
    """A static layer with two lines of subtitles and a mark in a corner."""
    h, w = size
    texts = [("Nobody told me where", 0.14, 0.84), ("the keys are.", 0.3, 0.95), ("R7", 0.84, 0.14)]
    layer = lettering(size, [(text, x * w, y * h, 0.07 * h) for text, x, y in texts])
    matte = layer[..., 3:]
    texture = np.concatenate((layer[..., :3] / np.maximum(matte, 1e-3), matte), axis=2).clip(0.0, 1.0)
    return LayerBatch.of_texture(torch.from_numpy(texture.astype(np.float32)).permute(2, 0, 1).contiguous())


@dataclass
class PartSampler:
    """Samples the parts of one scene; each layer gets a different picture. ``size`` is (height, width)."""

    rng: np.random.Generator
    size: Size

    def __post_init__(self) -> None:
        self._pictures = cycle(self.rng.permutation(PICTURES).tolist())

    @property
    def centre(self) -> Point:
        """Centre of the frame, (x, y) in pixels."""
        return (self.size[1] - 1) / 2, (self.size[0] - 1) / 2

    def scale(self, length: float) -> float:
        """A length in pixels, given for a width of 448 pixels."""
        return length * self.size[1] / 448.0

    def randomise(self, value: float) -> float:
        """The value, changed by at most 15 per cent, with a random sign."""
        return float(value * self.rng.uniform(0.85, 1.15) * self.rng.choice([-1.0, 1.0]))

    def shift(self, length: float, heading: float | None = None) -> Point:
        """A shift by about ``length`` pixels (at a width of 448) at the angle ``heading`` (random if None)."""
        angle = self.rng.uniform(0.0, 2.0 * pi) if heading is None else heading
        distance = self.scale(length) * self.rng.uniform(0.85, 1.15)
        return distance * cos(angle), distance * sin(angle)

    def crop(self, picture: int | None = None, reduction: float = 0.7) -> Crop:
        """A random crop of a picture; the next picture of the scene if None."""
        index = next(self._pictures) if picture is None else picture
        position = (self.rng.random(), self.rng.random())
        return Crop(index, reduction, position, (False, False), (1.0, 1.0, 1.0), 1.0)

    def background(self, path: LayerPath | None = None, picture: int | None = None) -> LayerPlan:
        """A background layer, static without a path."""
        return LayerPlan(self.crop(picture), path or LayerPath(), self.centre)

    def panning_background(self) -> LayerPlan:
        """A background layer under a camera pan."""
        return self.background(LayerPath(shift=(self.randomise(self.scale(36.0)), self.randomise(self.scale(5.0)))))

    def shape(self, path: LayerPath, matte: Matte | None = None, at: Point | None = None) -> LayerPlan:
        """A shape that is at ``at``, or the centre of the frame, at time 0.5."""
        matte = matte or blob_matte(self.rng, self.rng.uniform(0.45, 0.6) * min(self.size))
        return LayerPlan(self.crop(), path, path.start_position(at or self.centre, 0.5), matte)
