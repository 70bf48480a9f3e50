"""A trainable backbone: diffusion in Haar latents, starting from straight-line keyframes.

It implements what training requires of a diffusion backbone: a noise process, `denoise`, and
the network that `denoise` evaluates, in the attribute ``denoiser``. ``rdvfi train`` trains it by the recipe
``recipe.yaml`` of this package.

The network predicts the difference of clean latents to the straight-line keyframes of `HaarLines`. Its last layer
is initialised to zero, so an untrained model returns these keyframes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi import FlowEstimator, KeyframeGenerator, backbones
from rdvfi.backbones.diffusion import VariancePreserving
from rdvfi.interfaces import CoarseFlow
from rdvfi_example_plugin.haar import HaarCondition, HaarLines


class HaarDenoiser(nn.Module):
    """Predicts the residual of clean latents from noisy ones, initial latents, time and noise level.

    Args:
        channels: Channels of a latent.
        width: Hidden channels.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels + 2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self,
        noisy: Float[Tensor, "b n c h w"],
        initial: Float[Tensor, "b n c h w"],
        times: Float[Tensor, " n"],
        sigma: Float[Tensor, " b"],
    ) -> Float[Tensor, "b n c h w"]:
        """The difference of the clean latents to the initial ones."""
        b, n, _, h, w = noisy.shape
        time = times.to(noisy)[None, :, None, None, None].expand(b, n, 1, h, w)
        level = sigma.to(noisy)[:, None, None, None, None].expand(b, n, 1, h, w)
        inputs = torch.cat((noisy, initial, time, level), dim=2)
        return self.layers(inputs.flatten(0, 1)).unflatten(0, (b, n))


class HaarDiffusion(HaarLines):
    """Keyframes between two frames by diffusion in Haar latents.

    Args:
        coarse: End-to-end flow on pixels.
        between: Number of keyframes between the ends.
        width: Hidden channels of the network.
    """

    noise_process = VariancePreserving()
    time_symmetric = False

    def __init__(self, coarse: FlowEstimator, between: int, width: int) -> None:
        super().__init__(coarse, between)
        self.denoiser = HaarDenoiser(self.latent_channels, width)

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: HaarCondition
    ) -> Float[Tensor, "b n c hz wz"]:
        """The straight-line keyframes plus the residual of the network."""
        initial = super().denoise(noisy, sigma, condition)
        return initial + self.denoiser(noisy, initial, self.times(noisy.device)[1:-1], sigma)


@backbones.register("haar-diffusion")
def haar_diffusion(*, coarse: CoarseFlow, between: int = 7, width: int = 64) -> KeyframeGenerator:
    """Diffusion in Haar latents; `rdvfi train` trains its denoiser.

    Args:
        coarse: End-to-end flow on pixels.
        between: Number of keyframes between the ends.
        width: Hidden channels of the network.
    """
    return HaarDiffusion(coarse, between, width)
