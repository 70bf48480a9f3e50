"""Stable Video Diffusion's autoencoder for single frames: images in [0, 1], latents of unit variance.

Its encoder is two-dimensional already. Its decoder looks along time, so neighbouring keyframes are
decoded together where they are given together.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones.svd.networks import Network
from rdvfi.types import SmallImage


class FrameAutoencoder(nn.Module):
    """Latents of single frames, times the published factor that gives them unit variance.

    Args:
        vae: An ``AutoencoderKLTemporalDecoder``.
    """

    def __init__(self, vae: Network) -> None:
        super().__init__()
        self.vae = vae
        self.factor = float(vae.config.scaling_factor)
        self.channels = int(vae.config.latent_channels)
        self.stride = 2 ** (len(vae.config.block_out_channels) - 1)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """The most likely latent of each image; nothing is drawn."""
        centred = (2.0 * images - 1.0).to(self._dtype)
        mode = self.vae.encode(centred, return_dict=False)[0].mode()
        return (self.factor * mode).to(images)

    def decode(self, latents: Float[Tensor, "b k c hz wz"]) -> Float[Tensor, "b k 3 h w"]:
        """Images of frames that follow each other in time."""
        b, k = latents.shape[:2]
        raw = (latents / self.factor).to(self._dtype).flatten(0, 1)
        images = self.vae.decode(raw, num_frames=k, return_dict=False)[0]
        return (images / 2.0 + 0.5).clamp(0.0, 1.0).to(latents).unflatten(0, (b, k))

    @property
    def _dtype(self) -> torch.dtype:
        return self.vae.quant_conv.weight.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrameAutoencoder":
        """Every move or cast comes here; activations of this network overflow float16."""

        def convert(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            half = moved.dtype is torch.float16 and self.vae.config.force_upcast
            return tensor.to(moved.device, torch.float32) if half else moved

        return super()._apply(convert, recurse)
