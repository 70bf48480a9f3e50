"""RDVFI-S's backbone: a compact one-step latent diffusion model, trained from scratch.

`CompactKeyframes` encodes both frames, finds a coarse flow between them, and uses the `Denoiser`
to predict the N keyframes at ``i / (N + 1)`` from pure noise in one step. The coarse flow is a separate component;
classical estimators run on the CPU, as one operator of a compiled graph.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import RDVFI_S
from rdvfi.backbones.compact.autoencoder import STRIDE, Autoencoder
from rdvfi.backbones.compact.denoiser import CompactCondition, Denoiser, DenoiserOutput
from rdvfi.backbones.diffusion import VariancePreserving
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import CoarseFlow, Count, Denoised, FlowEstimator, KeyframeGenerator, MotionPrior, Reads
from rdvfi.ops import similarity_path_flows, straight_flows
from rdvfi.registry import backbones
from rdvfi.types import SmallImage


class CompactKeyframes(KeyframeGenerator):
    """Compact latent diffusion.

    Args:
        autoencoder: Latents of single frames.
        denoiser: Makes clean keyframes from noisy ones.
        coarse: End-to-end flow on pixels, which defines the straight motion.
        lines: Whether the denoiser starts from straight motion and predicts residual motion. If not, it reads both end
            latents without warping, at every keyframe; the prior still has the coarse flow.
        fill: Whether the coarse flow of occluded points is replaced by that of their surroundings; not needed for
            a coarse flow that was trained on occluded points.
        num_keyframes: The number N of keyframes between the ends.
    """

    gives_prior = True
    noise_process = VariancePreserving()

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
        coarse: FlowEstimator,
        *,
        lines: bool = True,
        fill: bool = True,
        num_keyframes: int = 7,
    ) -> None:
        super().__init__()
        self.knot_times = tuple(i / (num_keyframes + 1) for i in range(num_keyframes + 2))
        if coarse.reads is not Reads.PIXELS:
            raise TypeError("the compact backbone's coarse flow must read pixels")
        self.autoencoder, self.denoiser, self.coarse = autoencoder, denoiser, coarse
        self.lines, self.fill = lines, fill
        self.latent_channels, self.stride, self.size_multiple = autoencoder.channels, STRIDE, 16

    def condition(
        self,
        img0: SmallImage,
        img1: SmallImage,
        *,
        latent0: Float[Tensor, "b c hz wz"] | None = None,
        latent1: Float[Tensor, "b c hz wz"] | None = None,
        prior: MotionPrior | None = None,
    ) -> CompactCondition:
        """Both end latents, and straight motion between them along the coarse flow."""
        ends = super().condition(img0, img1, latent0=latent0, latent1=latent1, prior=prior)
        assert ends.prior is not None
        times = self.times(ends.latent0.device)[1:-1]
        size = (ends.latent0.shape[-2], ends.latent0.shape[-1])
        onward, back = resize_flow(ends.prior.end_flows.flatten(0, 1), size).unflatten(0, (-1, 2)).unbind(1)
        if not self.lines:
            onward, back = torch.zeros_like(onward), torch.zeros_like(back)
        to_first, to_last = straight_flows(onward, back, times)
        paths = similarity_path_flows(onward, back, times)
        return CompactCondition(
            ends.latent0, ends.latent1, ends.prior, to_first=to_first, to_last=to_last, paths=paths, times=times
        )

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: CompactCondition
    ) -> Float[Tensor, "b n c hz wz"]:
        return self.predict(noisy, sigma, condition).latents

    def predict(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: CompactCondition
    ) -> Denoised:
        """Clean keyframes, and how far they were moved off the straight lines to make them."""
        return self._to_denoised(condition, self.denoiser(condition, noisy, sigma))

    def initial_guess(self, condition: CompactCondition) -> Denoised:
        """The guess that the denoiser starts from: end latents warped along straight lines, blended."""
        return Denoised(self.denoiser.straight(condition).latents)

    def _to_denoised(self, condition: CompactCondition, output: DenoiserOutput) -> Denoised:
        if not self.lines:
            return Denoised(output.latents)
        departures = (output.to_first - condition.to_first, output.to_last - condition.to_last)
        return Denoised(output.latents, torch.stack(departures, dim=2))

    def coarse_flows(self, img0: SmallImage, img1: SmallImage) -> Float[Tensor, "b 2 2 h w"]:
        if self.fill:
            return super().coarse_flows(img0, img1)
        return torch.stack([flow.float() for flow in self.coarse.both_ways(img0, img1)], dim=1)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        return self.autoencoder.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        return self.autoencoder.decode(latents)


@backbones.register("compact", about=RDVFI_S, renamed={"looks": "iterations"})
def compact(
    *,
    coarse: CoarseFlow,
    latent_channels: int = 16,
    encoder_width: int = 32,
    width: int = 48,
    iterations: Count = 2,
    lines: bool = True,
    fill: bool = True,
    num_keyframes: Count = 7,
) -> KeyframeGenerator:
    """RDVFI-S's latent diffusion model.

    Args:
        coarse: End-to-end flow on pixels.
        latent_channels: Channels of a latent.
        encoder_width: Channels of the autoencoder's first stage.
        width: Channels of the denoiser at the latents' scale.
        iterations: Refinement iterations of the denoiser, each from the motion of the one before.
        lines: Condition it on the end latents warped along the straight lines of the coarse flow;
            otherwise it gets them as they are, and its keyframes carry no residual motion.
        fill: Replace the coarse flow of occluded points by that of their surroundings.
        num_keyframes: Keyframes between the ends. A trained model runs with another number too, since the denoiser
            mixes keyframes little; the time of the denoiser is proportional to it.
    """
    autoencoder, denoiser = Autoencoder(latent_channels, encoder_width), Denoiser(latent_channels, width, iterations)
    return CompactKeyframes(autoencoder, denoiser, coarse, lines=lines, fill=fill, num_keyframes=num_keyframes)
