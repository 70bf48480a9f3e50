"""RDVFI-S's backbone: a compact one-step latent diffusion model, trained from scratch.

`CompactKeyframes` encodes both frames, finds a coarse flow between them, and lets the `Denoiser`
make the keyframes at ``i / 8`` from pure noise in one step. The coarse flow is a component of its
own; what is classical of it runs on the CPU, as one operator of a compiled graph.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import RDVFI_S
from rdvfi.backbones.compact.autoencoder import STRIDE, Autoencoder
from rdvfi.backbones.compact.denoiser import Bent, Denoiser, Ends
from rdvfi.backbones.diffusion import clean_from_velocity, velocity_from_clean
from rdvfi.geometry import resize_flow
from rdvfi.interfaces import FlowEstimator, KeyframeGenerator, Keyframes, MotionPrior, Reads
from rdvfi.ops import fill_occluded, similarity_path_flows, straight_flows
from rdvfi.registry import backbones
from rdvfi.types import Flow, SmallImage

INTERIOR = 7
"""Keyframes between the ends."""


class CompactKeyframes(KeyframeGenerator):
    """Compact latent diffusion.

    Args:
        autoencoder: Latents of single frames.
        denoiser: Makes clean keyframes from noisy ones.
        coarse: End-to-end flow on pixels, on which the straight lines are based.
        lines: Whether the denoiser starts from these lines and hands its residual motion on. If not,
            it sees both end latents as they are, at every keyframe; whoever reads the keyframes
            still has the coarse flow.
        fill: Whether the coarse flow of occluded points is replaced by that of their surroundings;
            a coarse flow that has learned where they go is better left as it is.
    """

    gives_prior = True
    keyframe_count = INTERIOR + 2

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
        coarse: FlowEstimator,
        *,
        lines: bool = True,
        fill: bool = True,
    ) -> None:
        super().__init__()
        if coarse.reads is not Reads.PIXELS:
            raise TypeError("the compact backbone's coarse flow must read pixels")
        self.autoencoder, self.denoiser, self.coarse = autoencoder, denoiser, coarse
        self.lines, self.fill = lines, fill
        self.latent_channels, self.stride, self.size_multiple = autoencoder.channels, STRIDE, 16

    def forward(self, img0: SmallImage, img1: SmallImage, noise: Float[Tensor, "b n c hz wz"]) -> Keyframes:
        """See `rdvfi.interfaces.KeyframeGenerator.forward`."""
        return self.continued(self.encode(img0), img0, img1, noise)

    def continued(
        self,
        first: Float[Tensor, "b c hz wz"],
        img0: SmallImage,
        img1: SmallImage,
        noise: Float[Tensor, "b n c hz wz"],
    ) -> Keyframes:
        """See `rdvfi.interfaces.KeyframeGenerator.continued`."""
        flows = self.coarse_flows(img0, img1)
        ends = self.ends(first, self.encode(img1), flows[:, 0], flows[:, 1])
        pure = torch.ones(noise.shape[0], device=noise.device)
        bent = self.denoise(ends, noise, pure)
        v = velocity_from_clean(noise, bent.latents, pure)
        return self.keyframes(ends, replace(bent, latents=clean_from_velocity(noise, v, pure)), flows)

    def denoise(self, ends: Ends, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"]) -> Bent:
        """Clean keyframes with the flows along which they were made."""
        return self.denoiser(ends, noisy, sigma)

    def coarse_flows(self, img0: SmallImage, img1: SmallImage) -> Float[Tensor, "b 2 2 h w"]:
        """End-to-end flows, forward and backward, in motion-size pixels."""
        onward, back = (flow.float() for flow in self.coarse.both_ways(img0, img1))
        return torch.stack(fill_occluded(onward, back) if self.fill else (onward, back), dim=1)

    def ends(
        self,
        first: Float[Tensor, "b c hz wz"],
        last: Float[Tensor, "b c hz wz"],
        forward: Flow,
        backward: Flow,
    ) -> Ends:
        """Both end latents and the lines between them, on the latent grid, to start from."""
        times = knot_times(first.device)[1:-1]
        size = (first.shape[-2], first.shape[-1])
        onward, back = resize_flow(forward, size), resize_flow(backward, size)
        if not self.lines:
            onward, back = torch.zeros_like(onward), torch.zeros_like(back)
        to_first, to_last = straight_flows(onward, back, times)
        turning = similarity_path_flows(onward, back, times)
        return Ends(first, last, to_first, to_last, turning, times)

    def keyframes(self, ends: Ends, bent: Bent, flows: Float[Tensor, "b 2 2 h w"]) -> Keyframes:
        """Keyframes with the real ends around those that were made."""
        latents = torch.cat((ends.first[:, None], bent.latents, ends.last[:, None]), dim=1)
        if not self.lines:
            return Keyframes(latents, knot_times(latents.device), prior=MotionPrior(flows))
        departures = (bent.to_first - ends.to_first, bent.to_last - ends.to_last)
        residual = F.pad(torch.stack(departures, dim=2), (0, 0, 0, 0, 0, 0, 0, 0, 1, 1))
        return Keyframes(latents, knot_times(latents.device), prior=MotionPrior(flows, residual))

    def straight_keyframes(self, img0: SmallImage, img1: SmallImage) -> Keyframes:
        """Keyframes as the denoiser starts from them, without diffusion: for ablation.

        The end latents warped along straight lines and blended; without ``lines`` blended only.
        """
        flows = self.coarse_flows(img0, img1)
        ends = self.ends(self.encode(img0), self.encode(img1), flows[:, 0], flows[:, 1])
        return replace(self.keyframes(ends, self.denoiser.straight(ends), flows), prior=MotionPrior(flows))

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """See `rdvfi.interfaces.KeyframeGenerator.noise_shape`."""
        return b, INTERIOR, self.latent_channels, h // STRIDE, w // STRIDE

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """See `rdvfi.interfaces.KeyframeGenerator.encode`."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """See `rdvfi.interfaces.KeyframeGenerator.decode`."""
        return self.autoencoder.decode(latents)


def knot_times(device: torch.device) -> Float[Tensor, " k"]:
    """Times of all keyframes, ends included."""
    return torch.arange(INTERIOR + 2, dtype=torch.float32, device=device) / (INTERIOR + 1)


@backbones.register("compact", about=RDVFI_S)
def compact(
    *,
    coarse: FlowEstimator,
    latent_channels: int = 16,
    encoder_width: int = 32,
    width: int = 48,
    looks: int = 2,
    lines: bool = True,
    fill: bool = True,
) -> KeyframeGenerator:
    """RDVFI-S's latent diffusion model.

    Args:
        coarse: End-to-end flow on pixels.
        latent_channels: Channels of a latent.
        encoder_width: Channels of the autoencoder's first stage.
        width: Channels of the denoiser at the latents' scale.
        looks: How often the denoiser bends its lines, each time from those that it bent before.
        lines: Condition it on the end latents warped along the straight lines of the coarse flow;
            otherwise it gets them as they are, and its keyframes carry no residual motion.
        fill: Replace the coarse flow of occluded points by that of their surroundings.
    """
    autoencoder = Autoencoder(latent_channels, encoder_width)
    return CompactKeyframes(autoencoder, Denoiser(latent_channels, width, looks), coarse, lines=lines, fill=fill)
