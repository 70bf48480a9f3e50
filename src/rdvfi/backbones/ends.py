"""A baseline without diffusion: the latents of both end frames are the only keyframes.

The baseline that shows what the keyframes are worth. Both ends are encoded as by `compact`; the
trajectory then has two knots, and whatever lies between is the straight line.
"""

from jaxtyping import Float
from torch import Tensor

from rdvfi.backbones.compact.autoencoder import STRIDE, Autoencoder
from rdvfi.interfaces import CoarseFlow, Condition, FlowEstimator, KeyframeGenerator, Reads
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
    knot_times = (0.0, 1.0)

    def __init__(self, autoencoder: Autoencoder, coarse: FlowEstimator) -> None:
        super().__init__()
        if coarse.reads is not Reads.PIXELS:
            raise TypeError("the coarse flow of 'ends' must read pixels")
        self.autoencoder, self.coarse = autoencoder, coarse
        self.latent_channels, self.stride, self.size_multiple = autoencoder.channels, STRIDE, 16

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b n c hz wz"]:
        """The keyframes between the ends, of which there are none."""
        return noisy

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        return self.autoencoder.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        return self.autoencoder.decode(latents)


@backbones.register("ends")
def ends(*, coarse: CoarseFlow, latent_channels: int = 16, encoder_width: int = 32) -> KeyframeGenerator:
    """The two end latents alone, as a baseline.

    Args:
        coarse: End-to-end flow on pixels.
        latent_channels: Channels of a latent.
        encoder_width: Channels of the autoencoder's first stage.
    """
    return EndsOnly(Autoencoder(latent_channels, encoder_width), coarse)
