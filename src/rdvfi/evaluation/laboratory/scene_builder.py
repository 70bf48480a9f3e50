"""A scene of the motion laboratory: its frames, and the exact path of every pixel, at any time.

Frames and flows are those of `rdvfi.data.synthetic.layered_scenes`, over pictures that are drawn from
random numbers (`rdvfi.data.synthetic.generated_images`): nothing is downloaded, nothing is trained on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.data.synthetic.layered_scenes import Scenes
from rdvfi.types import Times

SUPERSAMPLE = 2
"""Samples of a pixel along each side of a frame."""
_STILL_TIMES = 17


@dataclass(frozen=True, eq=False)
class MotionScene:
    """A scene whose motion is known; times 0 and 1 are its end frames.

    Attributes:
        name: Its kind.
        about: What happens, in a few words.
        determined: Whether the two end frames determine the paths.
        scenes: Layers and paths.
        noise: Standard deviation of the noise of every frame, of a range of 1.
        seed: Of the scene, and of its noise.
    """

    name: str
    about: str
    determined: bool
    scenes: Scenes
    noise: float
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.scenes.size

    def frames(self, times: Times) -> Float[Tensor, "t 3 h w"]:
        """Frames in [0, 1] at some times; the same time gives the same noise."""
        frames = self._clean(times)
        if not self.noise:
            return frames
        draws = [np.random.default_rng([self.seed, round(1e6 * float(time))]) for time in times]
        noise = np.stack([draw.standard_normal((3, *self.size), dtype=np.float32) for draw in draws])
        return (frames + self.noise * torch.from_numpy(noise)).clamp(0.0, 1.0)

    def flows(
        self, times: Times, others: Float[Tensor, " n"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "t n 2 hs ws"], Bool[Tensor, "t n hs ws"]]:
        """Exact flows from each time to each of ``others``, and where the point is visible there.

        ``f_0->t`` of all times is ``flows(torch.zeros(1), times)[0][0]``.

        Args:
            times: Where the flows start: on the pixels of these frames.
            others: Where they lead.
            stride: Flows are given at the centres of cells of this many pixels.

        Returns:
            Flows (dx, dy) in pixels of the frames, whatever the stride; and whether the point is inside
            the other frame and not covered there.
        """
        flows, visible = self.scenes.flows_to(times[None], others[None], stride=stride)
        return flows[0], visible[0]

    def still(self) -> Bool[Tensor, "h w"]:
        """Where the truth never changes by more than a level of 255 between the ends, noise aside."""
        frames = self._clean(torch.linspace(0.0, 1.0, _STILL_TIMES))
        return ((frames.amax(0) - frames.amin(0)) < 1.5 / 255).all(0)

    def _clean(self, times: Times) -> Float[Tensor, "t 3 h w"]:
        return self.scenes.frames(times.float()[None], supersample=SUPERSAMPLE)[0][0]
