"""A scene of the motion laboratory: frames and exact flows at any time.

They are rendered by `rdvfi.data.synthetic.layered_scenes` with randomly generated pictures
(`rdvfi.data.synthetic.generated_images`), which are not used in training. Nothing is downloaded.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.data.synthetic.layered_scenes import SceneBatch
from rdvfi.types import Times

SUPERSAMPLE = 2
"""Samples per pixel in each direction."""
_STILL_SAMPLES = 17


@dataclass(frozen=True, eq=False)
class MotionScene:
    """A scene whose motion is known; times 0 and 1 are its end frames.

    Attributes:
        name: Kind of the scene.
        about: A short description.
        determined: Whether the two end frames determine the paths.
        scenes: Layers and paths, as a batch of one.
        noise: Standard deviation of the noise of every frame, for values in [0, 1].
        seed: Seed of the scene and of its noise.
    """

    name: str
    about: str
    determined: bool
    scenes: SceneBatch
    noise: float
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.scenes.size

    def frames(self, times: Times) -> Float[Tensor, "t 3 h w"]:
        """Frames in [0, 1] at ``times``. The noise depends on the seed and the time only."""
        frames = self._render(times)
        if not self.noise:
            return frames
        generators = [np.random.default_rng([self.seed, round(1e6 * float(time))]) for time in times]
        noise = np.stack([generator.standard_normal((3, *self.size), dtype=np.float32) for generator in generators])
        return (frames + self.noise * torch.from_numpy(noise)).clamp(0.0, 1.0)

    def flows(
        self, times: Times, others: Float[Tensor, " n"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "t n 2 hs ws"], Bool[Tensor, "t n hs ws"]]:
        """Exact flows from each time to each of ``others``, and visibility.

        The flows from time 0 to all times are ``flows(torch.zeros(1), times)[0][0]``.

        Args:
            times: Times of the frames on whose pixels the flows are defined.
            others: Times of the frames that the flows point to.
            stride: Size in pixels of square cells; flows are computed at their centres.

        Returns:
            Flows (dx, dy) in pixels of the frames, for any stride; and whether the point is inside
            the other frame and not occluded there.
        """
        flows, visible = self.scenes.flows_to(times[None], others[None], stride=stride)
        return flows[0], visible[0]

    def still(self) -> Bool[Tensor, "h w"]:
        """Mask of the pixels that change by at most one level of 255 between the ends, without noise."""
        frames = self._render(torch.linspace(0.0, 1.0, _STILL_SAMPLES))
        return ((frames.amax(0) - frames.amin(0)) < 1.5 / 255).all(0)

    def _render(self, times: Times) -> Float[Tensor, "t 3 h w"]:
        """Frames without noise."""
        return self.scenes.frames(times.float()[None], supersample=SUPERSAMPLE)[0][0]
