"""Photometric augmentation of clips and pairs: random changes of illumination and colour.

Gain, offset and gamma change mostly for all frames of a sample alike, and slightly per frame (exposure) and
per channel (white balance), as in the training of PWC-Net and RAFT. Channels are permuted, some samples become
grey, and some get sensor noise. Augmentation libraries change all frames of a sample alike or each one
independently; a pair needs both at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.sources import Batch, BatchSource

_RANDOM_STREAM = 9
"""Separates these random numbers from those that a source derives from the same seed."""
_SAMPLE_DEVIATION, _FRAME_DEVIATION, _CHANNEL_DEVIATION = 0.15, 0.04, 0.03
"""Standard deviations of the logarithm of gain and gamma: per sample, per frame, per channel."""
_OFFSET_DEVIATION, _FRAME_OFFSET_DEVIATION = 0.03, 0.015
_MAX_NOISE = 0.02
"""Largest standard deviation of the sensor noise."""
_PERMUTED_FRACTION, _NOISY_FRACTION, _GREY_FRACTION = 0.4, 0.3, 0.15
"""Fractions of the samples."""


@dataclass(frozen=True, eq=False)
class PhotometricAugmentation:
    """A source whose frames change in illumination and colour, each sample differently.

    Batch ``i`` depends on ``(size, seed, i)`` alone, as `rdvfi.data.sources` requires.

    Args:
        source: Gives ``frames`` (b, t, 3, h, w); other keys of its batches are not changed.
        strength: 0 changes nothing, 1 is the usual strength.
        per_clip: Change all frames of a sample alike, without noise: for clips, whose frames are
            compared with each other.
    """

    source: BatchSource
    strength: float = 1.0
    per_clip: bool = False

    def __post_init__(self) -> None:
        if self.strength < 0.0:
            raise ValueError(f"strength must not be negative; got {self.strength}")

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.source.batches(size, seed, start), start):
            state = np.random.SeedSequence([seed, index, _RANDOM_STREAM]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            yield {**batch, "frames": change_colours(batch["frames"], self.strength, generator, per_clip=self.per_clip)}


def change_colours(
    frames: Float[Tensor, "b t 3 h w"], strength: float, generator: torch.Generator, *, per_clip: bool = False
) -> Float[Tensor, "b t 3 h w"]:
    """The frames with randomly changed colours, in [0, 1]; see `PhotometricAugmentation`.

    The generator is on the CPU, so that colours do not depend on the device of the frames. Sensor noise is generated
    on that device from a seed of its own.
    """
    (b, t), device, per_frame = frames.shape[:2], frames.device, 0.0 if per_clip else 1.0

    def normal(deviation: float, *shape: int) -> Tensor:
        return (strength * deviation * torch.randn(b, *shape, 1, 1, generator=generator)).to(device)

    def select(fraction: float) -> Tensor:
        return (torch.rand(b, 1, 1, 1, 1, generator=generator) < min(1.0, strength) * fraction).to(device)

    # The order of these calls determines the random numbers of a sample.
    gain = normal(_SAMPLE_DEVIATION, 1, 1) + normal(per_frame * _FRAME_DEVIATION, t, 1)
    gain = (gain + normal(_CHANNEL_DEVIATION, 1, 3)).exp()
    gamma = (normal(_SAMPLE_DEVIATION, 1, 1) + normal(per_frame * _FRAME_DEVIATION, t, 1)).exp()
    offset = normal(_OFFSET_DEVIATION, 1, 3) + normal(per_frame * _FRAME_OFFSET_DEVIATION, t, 1)
    order = torch.rand(b, 3, generator=generator).argsort(1).to(device)
    order = torch.where(select(_PERMUTED_FRACTION).flatten(1), order, torch.arange(3, device=device))
    permuted = frames.gather(2, order[:, None, :, None, None].expand_as(frames))
    changed = permuted.clamp_min(1e-4) ** gamma * gain + offset
    noise_level = (per_frame * strength * _MAX_NOISE * torch.rand(b, 1, 1, 1, 1, generator=generator)).to(device)
    noise_level = noise_level * select(_NOISY_FRACTION)
    seed = int(torch.randint(2**62, (), generator=generator))
    noise = torch.randn(changed.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    changed = changed + noise_level * noise
    grey = changed.mean(2, keepdim=True).expand_as(changed)
    return torch.where(select(_GREY_FRACTION), grey, changed).clamp(0.0, 1.0)
