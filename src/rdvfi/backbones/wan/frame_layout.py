"""Times of Wan's latent frames, and the mask of its InP conditioning.

The InP models read 36 channels per latent frame: ``noise 16 | mask 4 | latent of the known 16``. Unknown pixels are
mid grey *before* encoding, so unknown latents are those of grey, not zeros. A latent frame of Wan's causal autoencoder
stands for four frames, the first one for one, and its mask has a channel for each of them: 1 is known.

* ``PER_FRAME``: each latent is a single frame, encoded alone, at any knots. What RDVFI's keyframes
  are: one instant each. The mask of a known frame is 1111.
* ``CAUSAL_25``, ``CAUSAL_33``: one clip, as in pretraining, of which the first and the last frame
  are known. Latent ``j`` ends at frame ``4 j``, which is its knot. The first mask is 1111, the last
  0001.

Time in the rotary embedding is counted in latent frames. With free knots eight of them span the
pair, so that the default knots ``i / 8`` are the integers of pretraining.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

SPAN = 8
"""Latent frames from the first to the last image, when each latent is a frame."""


class Layout(Enum):
    """Assignment of the keyframes to the model's latent frames."""

    PER_FRAME = "per-frame"
    CAUSAL_25 = "causal-25"
    CAUSAL_33 = "causal-33"


@dataclass(frozen=True)
class Frames:
    """The latent frames of a layout.

    Args:
        layout: Name of the layout.
        knots: Times of single-frame latents, ends included; None is ``i / 8``.

    Raises:
        ValueError: If knots do not increase from 0 to 1, or are given for a causal layout.
    """

    layout: Layout = Layout.PER_FRAME
    knots: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.knots is None:
            return
        if self.causal:
            raise ValueError("knots are free in the layout PER_FRAME only")
        steps = [b - a for a, b in zip(self.knots, self.knots[1:], strict=False)]
        if len(self.knots) < 2 or self.knots[0] != 0 or self.knots[-1] != 1 or min(steps) <= 0:
            raise ValueError(f"knots must increase from 0 to 1; got {self.knots}")

    @property
    def causal(self) -> bool:
        """Whether the latents are those of one clip."""
        return self.layout is not Layout.PER_FRAME

    @property
    def clip(self) -> int:
        """Frames of the clip in a causal layout."""
        return {Layout.CAUSAL_25: 25, Layout.CAUSAL_33: 33}[self.layout]

    @cached_property
    def times(self) -> tuple[float, ...]:
        """The instant of each latent frame."""
        if self.knots is not None:
            return self.knots
        count = (self.clip - 1) // 4 if self.causal else SPAN
        return tuple(i / count for i in range(count + 1))

    @property
    def count(self) -> int:
        """Latent frames, ends included."""
        return len(self.times)

    @property
    def positions(self) -> tuple[float, ...]:
        """Time of each latent frame in the rotary embedding."""
        return tuple(map(float, range(self.count) if self.causal else self._scaled()))

    def _scaled(self) -> list[float]:
        return [SPAN * time for time in self.times]

    def mask(self) -> Float[Tensor, "4 f"]:
        """1 where a frame is known."""
        mask = torch.zeros(4, self.count)
        mask[:, 0] = 1.0
        mask[3 if self.causal else slice(None), -1] = 1.0
        return mask
