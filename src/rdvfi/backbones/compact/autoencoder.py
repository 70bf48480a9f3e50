"""The small autoencoder of RDVFI-S: single frames to latents of stride 8, and back.

It is trained to reconstruct, alone and first, and frozen from then on. Latents are normalised to
zero mean and unit variance per channel by statistics that are measured after training and stored
with the weights (`calibrate`), so that a standard normal is the matching noise. The decoder is for
looking at keyframes and for flow estimators that read pixels; interpolation never runs it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.layers import Chain, ResidualBlock, conv
from rdvfi.types import SmallImage

STRIDE = 8


class Autoencoder(nn.Module):
    """Convolutional autoencoder of stride 8.

    Args:
        channels: Channels of a latent.
        width: Channels of the first stage; the second has twice as many.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 16, width: int = 32) -> None:
        super().__init__()
        self.channels = channels
        self.encoder = Chain(
            nn.PixelUnshuffle(4),
            conv(48, width),
            ResidualBlock(width),
            conv(width, 2 * width, stride=2),
            ResidualBlock(2 * width),
            ResidualBlock(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, channels, 1),
        )
        self.decoder = nn.Sequential(
            conv(channels, 2 * width),
            ResidualBlock(2 * width),
            ResidualBlock(2 * width),
            nn.Conv2d(2 * width, 4 * width, 1),
            nn.PixelShuffle(2),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.SiLU(),
            conv(width, 48),
            nn.PixelShuffle(4),
        )
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """Normalised latents of images in [0, 1] whose sides are multiples of 8."""
        raw = self.encoder((images - 0.5).contiguous(memory_format=torch.channels_last))
        return (raw - self.mean[:, None, None]) / self.std[:, None, None]

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """Images of normalised latents, [0, 1]."""
        return self.reconstruct(latents).clamp(0.0, 1.0)

    def reconstruct(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """Like `decode` without clamping, for training."""
        return self.decoder(latents * self.std[:, None, None] + self.mean[:, None, None]) + 0.5

    @torch.no_grad()
    def calibrate(self, images: SmallImage) -> None:
        """Measure the latents' statistics on images and store them."""
        raw = self.encoder(images - 0.5)
        self.mean.copy_(raw.mean((0, 2, 3)))
        self.std.copy_(raw.std((0, 2, 3)).clamp(min=1e-3))
