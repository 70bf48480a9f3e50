"""RDVFI-U's backbone: Stable Video Diffusion's U-Net, adapted to two end frames and one step.

Nine frames are generated at once, at ``i / 8``. For each of them the network reads noise and the
latents of *both* end frames (see `rdvfi.backbones.svd.networks`) at its highest noise level, and predicts the
velocity, from which the clean latents follow (`rdvfi.backbones.diffusion.EDM`).
The predictions of the two ends are replaced by the latents of the frames.

The image embedding is zero, or a given one, so that its encoder of 630 million parameters is not needed.
Frame rate, motion bucket and augmentation level are those of the published pipeline. Unlike
there, no noise is added to the end frames, because keyframes keep their ends unchanged.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import About
from rdvfi.backbones.diffusion import EDM
from rdvfi.backbones.merge_lora import read_tensor
from rdvfi.backbones.svd.autoencoder import FrameAutoencoder
from rdvfi.backbones.svd.folded import FixedUNet
from rdvfi.backbones.svd.networks import INPUTS, Network, load_networks, new_autoencoder, new_unet
from rdvfi.interfaces import Condition, Denoised, KeyframeGenerator
from rdvfi.registry import backbones
from rdvfi.types import SmallImage

FRAMES = 9
"""Frames that are made at once, ends included."""

Latent = Float[Tensor, "b c hz wz"]
Latents = Float[Tensor, "b k c hz wz"]


class SVDKeyframes(KeyframeGenerator):
    """Keyframes by Stable Video Diffusion.

    Args:
        unet: An ``UNetSpatioTemporalConditionModel`` of 12 input channels.
        vae: An ``AutoencoderKLTemporalDecoder``.
        num_inference_steps: Evaluations of the U-Net; what RDVFI trains is one.
        fps: Frame rate, a condition of the network.
        motion_bucket: Amount of motion, likewise.
        augmentation: Noise level of the end frames, likewise.

    Raises:
        ValueError: If the U-Net does not read two frames, or a number makes no sense.
    """

    noise_process: EDM = EDM()  # pyright: ignore[reportIncompatibleVariableOverride]
    image_embedding: Tensor

    def __init__(
        self,
        unet: Network,
        vae: Network,
        *,
        num_inference_steps: int = 1,
        fps: int = 7,
        motion_bucket: int = 127,
        augmentation: float = 0.02,
    ) -> None:
        super().__init__()
        if unet.conv_in.in_channels != INPUTS:
            raise ValueError(
                f"the U-Net must read {INPUTS} channels; got {unet.conv_in.in_channels}: pass it "
                "through `rdvfi.backbones.svd.networks.widen_unet`"
            )
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1; got {num_inference_steps}")
        self.unet = unet
        self.autoencoder = FrameAutoencoder(vae)
        self.num_inference_steps = num_inference_steps
        self.added_ids = (fps - 1.0, float(motion_bucket), augmentation)
        self.latent_channels, self.stride = self.autoencoder.channels, self.autoencoder.stride
        # The U-Net halves the latents' grid at every level but the last.
        self.size_multiple = self.stride * 2 ** (len(unet.config.block_out_channels) - 1)
        self.register_buffer("image_embedding", torch.zeros(1, 1, unet.config.cross_attention_dim))
        self._fixed: list[FixedUNet] = []  # not a part of the model: it has no weights of its own
        self.register_load_state_dict_post_hook(_weights_loaded)

    @property
    def denoiser(self) -> Network:
        """The U-Net."""
        return self.unet

    def sample(self, condition: Condition, noise: Latents) -> Denoised:
        if not self._fixed or (torch.is_grad_enabled() and self._trains()):
            return super().sample(condition, noise)
        fixed = self._fixed[0]

        def predict(noisy: Latents, sigma: Float[Tensor, " b"], step: int) -> Denoised:
            answer = fixed(_inputs(noisy, self._conditions(condition)))
            return Denoised(self.noise_process.clean_from_velocity(noisy, answer, sigma))

        return self.noise_process.sample(predict, noise)

    def denoise(self, noisy: Latents, sigma: Float[Tensor, " b"], condition: Condition) -> Latents:
        answer = self._velocity(condition, noisy, noise_condition(self.noise_process, sigma))
        return self.noise_process.clean_from_velocity(noisy, answer, sigma)

    def optimize(self) -> "SVDKeyframes":
        """Precompute everything that is constant in inference (`rdvfi.backbones.svd.folded`); exact.

        It is done again after the model is moved or loaded, and undone by ``train()``. With several
        steps the noise level changes, and there is nothing to do.

        Raises:
            RuntimeError: If the model is being trained.
        """
        if self.training or self._trains():
            raise RuntimeError("optimize() is for inference; call model.eval().requires_grad_(False) before")
        self._fixed.clear()
        if self.num_inference_steps == 1:
            device, process = self.image_embedding.device, self.noise_process
            pure = torch.full((1,), process.levels(1)[0], device=device)
            fixed = FixedUNet(
                self.unet,
                timestep=noise_condition(process, pure),
                embedding=self.image_embedding,
                ids=torch.tensor([self.added_ids], device=device),
                frames=FRAMES,
            )
            self._fixed.append(fixed)
        return self

    def set_image_embedding(self, embedding: Float[Tensor, "1 s d"]) -> None:
        """Give the network one image embedding, for all frames, instead of zeros.

        Raises:
            ValueError: If it is not one row of the network's width.
        """
        if embedding.shape != self.image_embedding.shape:
            raise ValueError(
                f"the image embedding must be {tuple(self.image_embedding.shape)}; got {tuple(embedding.shape)}"
            )
        self.image_embedding.copy_(embedding)
        self._renew()

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """Shape of the noise; the network predicts the ends too, so they have noise."""
        return b, FRAMES, self.latent_channels, h // self.stride, w // self.stride

    def encode(self, images: SmallImage) -> Latent:
        return self.autoencoder.encode(images)

    def decode(self, latents: Latent) -> SmallImage:
        """Pictures of latents, each frame by itself."""
        return self.autoencoder.decode(latents[:, None])[:, 0]

    def decode_between(self, latents: Latents) -> Float[Tensor, "b n 3 h w"]:
        """Pictures of the keyframes between the ends, decoded together: the decoder has temporal layers."""
        return self.autoencoder.decode(latents)[:, 1:-1]

    def train(self, mode: bool = True) -> "SVDKeyframes":
        """As of every module; training mode discards the constants of `optimize`."""
        if mode:
            self._fixed.clear()
        return super().train(mode)

    def _velocity(self, condition: Condition, entered: Latents, c_noise: Float[Tensor, " n"]) -> Latents:
        b = entered.shape[0]
        # Filled in, not copied to the device, which no graph can hold.
        ids = torch.stack([entered.new_full((b,), value, dtype=torch.float32) for value in self.added_ids], dim=1)
        embedding = self.image_embedding.to(entered).expand(b, -1, -1)
        sample = _inputs(entered, self._conditions(condition))
        return self.unet(sample, c_noise.expand(b), embedding, ids, return_dict=False)[0]

    def _conditions(self, condition: Condition) -> Float[Tensor, "b c2 hz wz"]:
        """Both ends as the network was trained to read them, without the factor of the latents."""
        return torch.cat((condition.latent0, condition.latent1), dim=1) / self.autoencoder.factor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SVDKeyframes":
        super()._apply(fn, recurse)
        self._renew()
        return self

    def _trains(self) -> bool:
        return any(parameter.requires_grad for parameter in self.unet.parameters())

    def _renew(self) -> None:
        """Prepare the constants again after weights have changed, unless they are trained."""
        if self._fixed:
            self._fixed.clear()
            if not self._trains():
                self.optimize()


def _weights_loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, SVDKeyframes)
    module._renew()


def noise_condition(process: EDM, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The network's input for the noise level S: ``c_noise = ln(S) / 4`` of Karras et al."""
    return process.added_noise(sigma).log() / 4.0


def _inputs(noisy: Latents, conditions: Float[Tensor, "b c2 hz wz"]) -> Float[Tensor, "b k c3 hz wz"]:
    """The channels that enter: noise, first frame, last frame; the frames alike at every time."""
    b, k = noisy.shape[:2]
    spread = conditions[:, None].expand(b, k, *conditions.shape[1:])
    return torch.cat((noisy, spread), dim=2)


_ABOUT = About(
    weights="stabilityai/stable-video-diffusion-img2vid-xt on the Hugging Face hub, then `rdvfi "
    "train`: without it the second frame is not read",
    weights_licence="Stability AI Community License",
    citation="Blattmann et al., Stable Video Diffusion, 2023",
    url="https://arxiv.org/abs/2311.15127",
)


@backbones.register("svd", about=_ABOUT)
def svd(
    *,
    source: str | None = None,
    revision: str | None = None,
    size: str = "full",
    num_inference_steps: int = 1,
    fps: int = 7,
    motion_bucket: int = 127,
    augmentation: float = 0.02,
    image_embeds: str | None = None,
) -> KeyframeGenerator:
    """Stable Video Diffusion's U-Net in one step (the paper's RDVFI-U).

    Args:
        source: Folder or hub id of Stable Video Diffusion in diffusers' format; without one, all weights are fresh.
        revision: Commit of a hub id, in full.
        size: Which architecture: "full", 1.5 billion parameters, or "toy".
        num_inference_steps: Evaluations of the U-Net.
        fps: Frame rate, a condition of the network.
        motion_bucket: Amount of motion, likewise, 127 in its published pipeline.
        augmentation: Noise level of the end frames, likewise; none is added.
        image_embeds: Safetensors file with one row of image context; None is zeros.
    """
    if source is None and revision is not None:
        raise ValueError(f"revision {revision!r} without a source")
    if source is not None:
        unet, vae = load_networks(source, size, revision=revision)
    else:
        unet, vae = new_unet(size), new_autoencoder(size)
    made = SVDKeyframes(
        unet,
        vae,
        num_inference_steps=num_inference_steps,
        fps=fps,
        motion_bucket=motion_bucket,
        augmentation=augmentation,
    )
    vae.pretrained = source is not None  # pyright: ignore[reportArgumentType]  (no stage trains it)
    if image_embeds is not None:
        made.set_image_embedding(read_tensor(image_embeds)[None].flatten(0, -2)[None])
    return made
