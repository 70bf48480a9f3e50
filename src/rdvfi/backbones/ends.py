"""No diffusion at all: the latents of the two ends, and nothing between.

The baseline that shows what the keyframes are worth. Both ends are encoded as by `compact`; the
trajectory then has two knots, and whatever lies between is the straight line.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.backbones.compact.autoencoder import STRIDE, Autoencoder
from rdvfi.interfaces import FlowEstimator, KeyframeGenerator, Keyframes, MotionPrior, Reads
from rdvfi.ops import fill_occluded
from rdvfi.registry import backbones
from rdvfi.types import SmallImage


class EndsOnly(KeyframeGenerator):
    """The two end latents as the only keyframes.

    Args:
        autoencoder: Latents of single frames.
        coarse: End-to-end flow on pixels.
    """

    time_symmetric = True
    gives_prior = True
    keyframe_count = 2

    def __init__(self, autoencoder: Autoencoder, coarse: FlowEstimator) -> None:
        super().__init__()
        if coarse.reads is not Reads.PIXELS:
            raise TypeError("the coarse flow of 'ends' must read pixels")
        self.autoencoder, self.coarse = autoencoder, coarse
        self.latent_channels, self.stride, self.size_multiple = autoencoder.channels, STRIDE, 16

    def forward(self, img0: SmallImage, img1: SmallImage, noise: Float[Tensor, "b n c hz wz"]) -> Keyframes:
        """See `rdvfi.interfaces.KeyframeGenerator.forward`; no noise is used."""
        latents = torch.stack((self.encode(img0), self.encode(img1)), dim=1)
        onward, back = self.coarse.both_ways(img0, img1)
        times = torch.arange(2, dtype=torch.float32, device=img0.device)
        flows = torch.stack(fill_occluded(onward.float(), back.float()), dim=1)
        return Keyframes(latents, times, prior=MotionPrior(flows))

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """No noise: zero keyframes between the ends."""
        return b, 0, self.latent_channels, h // STRIDE, w // STRIDE

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """See `rdvfi.interfaces.KeyframeGenerator.encode`."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """See `rdvfi.interfaces.KeyframeGenerator.decode`."""
        return self.autoencoder.decode(latents)


@backbones.register("ends")
def ends(*, coarse: FlowEstimator, latent_channels: int = 16, encoder_width: int = 32) -> KeyframeGenerator:
    """The two end latents alone, as a baseline.

    Args:
        coarse: End-to-end flow on pixels.
        latent_channels: Channels of a latent.
        encoder_width: Channels of the autoencoder's first stage.
    """
    return EndsOnly(Autoencoder(latent_channels, encoder_width), coarse)
