"""Generative baselines: Wan, and Generative Inbetweening on Stable Video Diffusion.

The paper compares itself with both. They are built from diffusers' classes and read weights from the local
cache or a folder only. They generate frames at evenly spaced times, so the requested frames are selected from a
longer sequence.

`WanDirect` is Wan's image-to-video pipeline with a first and a last frame (the paper uses Wan2.1-Fun-1.3B-InP), in 50
steps or in one. The prompt is empty, so both branches of classifier-free guidance are equal and it is disabled.

`GenerativeInbetweening` (Wang et al., ICLR 2025, https://arxiv.org/abs/2408.15239) denoises one sequence x with two
networks. At noise level sigma_i, with c_0 and c_1 the two frames as conditions and ``flip`` the reversal of time,

    v  = 1/2 (v_forward(x, c_0) + flip(v_backward(flip(x), c_1))),

and x takes an Euler step to sigma_(i+1). In the first half of the steps, noise is added again up to sigma_i and the
step is repeated, five times. ``v_backward`` is the network that the authors fine-tuned for reversed motion, with its
temporal self-attention maps rotated by 180 degrees. Without its weights the forward network is used for both, which
is time-reversal fusion (Feng et al., ECCV 2024).
"""

from abc import abstractmethod
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rdvfi.backbones.pretrained_parts import prepare_diffusers
from rdvfi.compat import import_optional
from rdvfi.evaluation.method import Method
from rdvfi.geometry import replicate_pad
from rdvfi.media.pixels import to_pixels
from rdvfi.types import Image, Times, Video

WAN_MODEL = "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"
"""Wan with a first and a last frame, in diffusers' format. Wan2.1-Fun-1.3B-InP is not published in this format."""
SVD_MODEL = "stabilityai/stable-video-diffusion-img2vid-xt"
_SVD_TRAINING_FRAMES = 25


class GeneratedFrames(Method):
    """Pads the frames, generates a sequence at evenly spaced times, and selects the requested frames."""

    needs_warm_up = False
    size_multiple: int
    """Height and width are padded to multiples of this, in pixels."""

    def __init__(self, name: str, *, seed: int = 0) -> None:
        self.name, self.seed = name, seed

    @abstractmethod
    def generate(self, img0: Image, img1: Image, frames: int, generator: torch.Generator) -> Video:
        """Generate a sequence of ``frames`` frames, both ends included, as (1, frames, 3, H, W) in [0, 1]."""

    @abstractmethod
    def sequence_length(self, gap: int) -> int:
        """Length of the sequence, both ends included: a multiple of ``gap``, plus one."""

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at evenly spaced ``times``; raises ValueError if the times are not evenly spaced."""
        gap = len(times) + 1
        if not torch.allclose(times.cpu().float(), torch.arange(1, gap) / gap, atol=1e-4):
            raise ValueError(f"{self.name} makes evenly spaced frames; got times {times.tolist()}")
        h, w = img0.shape[-2:]
        padded = (h + -h % self.size_multiple, w + -w % self.size_multiple)
        length = self.sequence_length(gap)
        generator = torch.Generator("cpu").manual_seed(self.seed)
        sequence = self.generate(replicate_pad(img0, padded), replicate_pad(img1, padded), length, generator)
        indices = torch.arange(1, gap) * ((length - 1) // gap)
        return sequence[:, indices, :, :h, :w].to(img0).clamp(0.0, 1.0)


class WanDirect(GeneratedFrames):
    """Wan's image-to-video pipeline between two frames."""

    size_multiple = 16

    def __init__(self, pipeline: Any, *, steps: int = 50, name: str = "wan-50") -> None:
        super().__init__(name)
        self.pipeline, self.steps = pipeline, steps
        pipeline.set_progress_bar_config(disable=True)
        network = pipeline.transformer.config
        if network.image_dim is not None and network.pos_embed_seq_len is None:
            # Networks such as Wan2.1-Fun's take the image features of the first frame only.
            encode_image = pipeline.encode_image
            pipeline.encode_image = lambda images, device: encode_image(images[:1], device)

    def sequence_length(self, gap: int) -> int:
        """4k + 1 frames, since Wan's autoencoder compresses four frames into one latent."""
        return gap * 4 // gcd(gap, 4) + 1

    def generate(self, img0: Image, img1: Image, frames: int, generator: torch.Generator) -> Video:
        h, w = img0.shape[-2:]
        output = self.pipeline(
            image=_as_pil(img0),
            last_image=_as_pil(img1),
            height=h,
            width=w,
            num_frames=frames,
            num_inference_steps=self.steps,
            guidance_scale=1.0,
            generator=generator,
            output_type="pt",
            **self._prompt(),
        )
        return output.frames

    def _prompt(self) -> dict[str, Any]:
        """The empty prompt; embeddings of zeros if the pipeline has no text encoder."""
        if self.pipeline.text_encoder is not None:
            return {"prompt": ""}
        network = self.pipeline.transformer
        width = network.config.text_dim
        return {"prompt_embeds": torch.zeros(1, 8, width, dtype=network.dtype, device=network.device)}


class GenerativeInbetweening(GeneratedFrames):
    """Forward and time-reversed denoising of SVD, fused at every step.

    Args:
        pipeline: diffusers' ``StableVideoDiffusionPipeline``.
        backward: The network fine-tuned for reversed motion; None uses the forward one.
        steps: Number of noise levels.
        injections: How often a step of the first half is repeated with noise added again.
        name: Name of the method.
    """

    size_multiple = 64
    guidance_scale = 2.0
    """The authors' per-frame guidance rises from 1 to 3 and is averaged with its reversal."""
    noise_augmentation = 0.02

    def __init__(
        self, pipeline: Any, backward: Any = None, *, steps: int = 50, injections: int = 5, name: str = "gi"
    ) -> None:
        super().__init__(name)
        self.pipeline, self.steps, self.injections = pipeline, steps, injections
        self.backward = pipeline.unet if backward is None else backward
        if backward is not None:
            rotate_temporal_attention(backward)

    def sequence_length(self, gap: int) -> int:
        """About the 25 frames that SVD was trained on."""
        return gap * max(1, -(-(_SVD_TRAINING_FRAMES - 1) // gap)) + 1

    def generate(self, img0: Image, img1: Image, frames: int, generator: torch.Generator) -> Video:
        """Denoise one sequence under both conditions, and decode it."""
        pipe = self.pipeline
        h, w = img0.shape[-2:]
        dtype, device = pipe.unet.dtype, pipe.unet.device
        conditions = [self._condition(image, frames, generator) for image in (img0, img1)]
        pipe.scheduler.set_timesteps(self.steps, device=device)
        size = (1, frames, pipe.vae.config.latent_channels, h // pipe.vae_scale_factor, w // pipe.vae_scale_factor)
        sigmas = [float(sigma) for sigma in pipe.scheduler.sigmas]
        noisy = torch.randn(size, generator=generator).to(device) * float(pipe.scheduler.init_noise_sigma)
        for i, timestep in enumerate(pipe.scheduler.timesteps):
            repeats = 1 + (self.injections if i < self.steps // 2 else 0)
            for repeat in range(repeats):
                if repeat:
                    added_sigma = (sigmas[i] ** 2 - sigmas[i + 1] ** 2) ** 0.5
                    noisy = noisy + added_sigma * torch.randn(size, generator=generator).to(device)
                velocity = self._fuse_velocities(noisy, sigmas[i], timestep, conditions)
                noisy = euler_step(noisy, velocity, sigmas[i], sigmas[i + 1])
        pipe.vae.to(dtype=torch.float32)
        decoded = pipe.decode_latents(noisy.float(), frames, decode_chunk_size=8)
        pipe.vae.to(dtype=dtype)
        return (0.5 + 0.5 * decoded).permute(0, 2, 1, 3, 4)

    def _condition(self, image: Image, frames: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Conditioning on one end frame: the unconditional and the conditional half of classifier-free guidance."""
        pipe, device = self.pipeline, self.pipeline.unet.device
        embedding = pipe._encode_image([_as_pil(image)], device, 1, True)
        scaled = 2.0 * image.float().cpu() - 1.0
        scaled = scaled + self.noise_augmentation * torch.randn(scaled.shape, generator=generator)
        latents = pipe._encode_vae_image(scaled, device, 1, True).to(embedding.dtype)
        ids = pipe._get_add_time_ids(6, 127, self.noise_augmentation, embedding.dtype, 1, 1, True).to(device)
        return {"embedding": embedding, "latents": latents[:, None].expand(-1, frames, -1, -1, -1), "ids": ids}

    def _fuse_velocities(
        self, noisy: Tensor, sigma: float, timestep: Tensor, conditions: list[dict[str, Tensor]]
    ) -> Tensor:
        forward = self._velocity(self.pipeline.unet, noisy, sigma, timestep, conditions[0])
        backward = self._velocity(self.backward, noisy.flip(1), sigma, timestep, conditions[1])
        return 0.5 * (forward + backward.flip(1))

    def _velocity(
        self, unet: Any, noisy: Tensor, sigma: float, timestep: Tensor, condition: dict[str, Tensor]
    ) -> Tensor:
        scaled = (noisy / (sigma**2 + 1.0) ** 0.5).to(unet.dtype)
        output = unet(
            torch.cat((torch.cat((scaled, scaled)), condition["latents"]), dim=2),
            timestep,
            encoder_hidden_states=condition["embedding"],
            added_time_ids=condition["ids"],
            return_dict=False,
        )
        unconditional, conditional = output[0].float().chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)


def euler_step(noisy: Tensor, velocity: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """One Euler step of the probability-flow ODE (Karras et al., 2022) with v-prediction, to ``next_sigma``."""
    clean = noisy / (sigma**2 + 1.0) - velocity * (sigma / (sigma**2 + 1.0) ** 0.5)
    return noisy + (noisy - clean) / sigma * (next_sigma - sigma)


class RotatedAttention:
    """Self-attention whose map is rotated by 180 degrees, which reverses it in time."""

    def __call__(self, attn: Any, hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """Like diffusers' ``AttnProcessor``, without mask and normalisation, which SVD's blocks do not use."""
        query, key, value = (f(hidden_states) for f in (attn.to_q, attn.to_k, attn.to_v))
        query, key, value = (attn.head_to_batch_dim(x) for x in (query, key, value))
        weights = attn.get_attention_scores(query, key, None).flip(-2, -1)
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(weights @ value)))


def rotate_temporal_attention(unet: Any) -> int:
    """Rotate the maps of all temporal self-attention layers of an SVD network; return their number."""
    count = 0
    for name, module in unet.named_modules():
        if "temporal_transformer_blocks" in name and name.endswith("attn1"):
            module.set_processor(RotatedAttention())
            count += 1
    return count


def _as_pil(image: Image) -> Any:
    from PIL.Image import fromarray

    return fromarray(to_pixels(image[0].cpu(), deep=False))


def load_wan(source: str, *, steps: int, device: torch.device, dtype: torch.dtype) -> WanDirect:
    """Load Wan from a folder or the cache, as ``wan-<steps>``; raises FileNotFoundError without weights."""
    pipeline = _load_pipeline("WanImageToVideoPipeline", source).to(device, dtype)
    return WanDirect(pipeline, steps=steps, name=f"wan-{steps}")


def load_inbetweening(source: str, *, device: torch.device, dtype: torch.dtype) -> GenerativeInbetweening:
    """Load SVD from the cache, and the backward network from ``source``/unet unless ``source`` is empty."""
    pipeline = _load_pipeline("StableVideoDiffusionPipeline", SVD_MODEL).to(device, dtype)
    backward = None
    if source:
        if not (Path(source) / "unet").is_dir():
            raise FileNotFoundError(f"gi reads the backward network from a folder with unet/; {source} has none")
        backward = type(pipeline.unet).from_pretrained(
            source, subfolder="unet", local_files_only=True, use_safetensors=True
        )
        backward.to(device, dtype)
    return GenerativeInbetweening(pipeline, backward, name="gi")


def _load_pipeline(kind: str, source: str) -> Any:
    prepare_diffusers()
    import diffusers

    import_optional("transformers", "video generators need", "'rdvfi[generators]'")
    try:
        return getattr(diffusers, kind).from_pretrained(source, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"the weights {source} are neither a folder nor in the cache of huggingface_hub (hf download {source})"
        ) from error
