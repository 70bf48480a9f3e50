"""Photometric augmentation of pairs: each image under a different illumination.

Gain, offset and gamma change, mostly for both pictures alike, a little for each (exposure) and for
each channel (white balance), as in the training of PWC-Net and RAFT; channels change their places,
some pairs lose their colours, some get the noise of a sensor. Libraries of augmentations change all
frames of a sample alike or each by itself; a pair needs both at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.sources import Batch, BatchSource

_STREAM = 9
"""Sets these random numbers apart from those that a source draws from the same seed."""
_ALL, _EACH, _CHANNEL = 0.15, 0.04, 0.03
"""Deviations of a gain's and a gamma's logarithm: of the pair, of each picture, of each channel."""
_OFFSET, _OFFSET_EACH = 0.03, 0.015
_NOISE = 0.02
"""Largest deviation of noise."""
_SHUFFLED, _NOISY, _GREY = 0.4, 0.3, 0.15
"""Shares of pairs."""


@dataclass(frozen=True, eq=False)
class Recoloured:
    """A source whose pictures are recoloured, each pair in its own way.

    Batch ``i`` depends on ``(size, seed, i)`` alone, as a source's must.

    Args:
        source: Gives ``frames`` (b, t, 3, h, w); nothing else of its batches is touched.
        strength: 0 leaves them alone, 1 is usual.
        alike: All frames of a sample change in the same way, and get no noise: for clips, whose
            frames are compared with each other.

    Raises:
        ValueError: If ``strength`` is negative.
    """

    source: BatchSource
    strength: float = 1.0
    alike: bool = False

    def __post_init__(self) -> None:
        if self.strength < 0.0:
            raise ValueError(f"strength must not be negative; got {self.strength}")

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.source.batches(size, seed, start), start):
            state = np.random.SeedSequence([seed, index, _STREAM]).generate_state(1, np.uint64)
            draw = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            yield {**batch, "frames": recoloured(batch["frames"], self.strength, draw, alike=self.alike)}


def recoloured(
    frames: Float[Tensor, "b t 3 h w"], strength: float, draw: torch.Generator, *, alike: bool = False
) -> Float[Tensor, "b t 3 h w"]:
    """The frames in other colours, in [0, 1].

    Args:
        frames: On any device.
        strength: 0 leaves them alone, 1 is usual.
        draw: On the CPU, so that every device has the same colours; the noise of the sensor is drawn
            on the device of the frames, from a number of its own.
        alike: Whether all frames of a sample change in the same way, and get no noise.
    """
    (b, t), device, own = frames.shape[:2], frames.device, 0.0 if alike else 1.0

    def normal(deviation: float, *shape: int) -> Tensor:
        return (strength * deviation * torch.randn(b, *shape, 1, 1, generator=draw)).to(device)

    def chosen(share: float) -> Tensor:
        return (torch.rand(b, 1, 1, 1, 1, generator=draw) < min(1.0, strength) * share).to(device)

    gain = (normal(_ALL, 1, 1) + normal(own * _EACH, t, 1) + normal(_CHANNEL, 1, 3)).exp()
    gamma = (normal(_ALL, 1, 1) + normal(own * _EACH, t, 1)).exp()
    offset = normal(_OFFSET, 1, 3) + normal(own * _OFFSET_EACH, t, 1)
    order = torch.rand(b, 3, generator=draw).argsort(1).to(device)
    order = torch.where(chosen(_SHUFFLED).flatten(1), order, torch.arange(3, device=device))
    shuffled = frames.gather(2, order[:, None, :, None, None].expand_as(frames))
    changed = shuffled.clamp_min(1e-4) ** gamma * gain + offset
    level = (own * strength * _NOISE * torch.rand(b, 1, 1, 1, 1, generator=draw)).to(device) * chosen(_NOISY)
    seed = int(torch.randint(2**62, (), generator=draw))
    noise = torch.randn(changed.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    changed = changed + level * noise
    grey = changed.mean(2, keepdim=True).expand_as(changed)
    return torch.where(chosen(_GREY), grey, changed).clamp(0.0, 1.0)
