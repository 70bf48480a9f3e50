"""RDVFI-D's backbone: Wan2.1-Fun-1.3B-InP, a video diffusion transformer, in one step.

`WanKeyframes` puts the latents of both frames at the two ends of nine latent frames, grey between them (InP
conditioning, `rdvfi.backbones.wan.frame_layout`), and lets the transformer make the rest from pure noise in one
evaluation (`rdvfi.backbones.diffusion.FlowMatching`). Prompts are not used: the context of 512 text rows and 257 image
rows consists of zeros. It is passed to the network, since omitting it would be a different input. A cached embedding
can be used instead.

Transformer and autoencoder are classes of diffusers, unchanged except for the rotary embedding,
which accepts arbitrary times here (`rdvfi.backbones.wan.rope`).

The authors of the method published no weights. Wan's own weights need many steps; one step gives
useful keyframes only after the second stage of training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones.diffusion import FlowMatching
from rdvfi.backbones.pretrained_parts import apply_keeping_float32
from rdvfi.backbones.wan.autoencoder import (
    GREY,
    STRIDE,
    FlatAutoencoder,
    decode_clip,
    decode_frames,
    encode_clip,
    encode_frames,
)
from rdvfi.backbones.wan.folded import PreparedTransformer
from rdvfi.backbones.wan.frame_layout import Frames
from rdvfi.backbones.wan.rope import FreeTimeRope
from rdvfi.interfaces import Condition, Denoised, KeyframeGenerator, MotionPrior
from rdvfi.types import SmallImage

TEXT_ROWS = 512
"""Rows of text context; the model tells text from image by this number."""
IMAGE_ROWS = 257
"""Rows of image context."""

MOTION_SIZE = (256, 448)
"""The size that 16:9 video is shrunk to."""


PURE_TIME = 1000.0
"""The transformer's time input at noise level 1."""

EIGHTHS = Frames()
FLOW_MATCHING = FlowMatching()


@dataclass(frozen=True, eq=False, kw_only=True)
class InpaintingCondition(Condition):
    """Inputs of the transformer beside the noisy latents.

    ``channels`` are four of mask and the latents of the known frames, those of grey elsewhere.
    """

    channels: Float[Tensor, "b m k hz wz"]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The constants that `WanKeyframes.optimize` precomputes."""

    transformer: PreparedTransformer
    autoencoder: FlatAutoencoder
    greys: dict[tuple[int, int], Tensor]


class WanKeyframes(KeyframeGenerator):
    """Keyframes by Wan2.1-Fun-InP.

    Args:
        transformer: A `diffusers.WanTransformer3DModel` with 36 input channels. It is taken over:
            its rotary embedding is replaced by one with the layout's times.
        vae: A `diffusers.AutoencoderKLWan`.
        frames: Which instants the latent frames are.
        noise_process: Flow matching, with the scheduler of several steps.
        num_inference_steps: Evaluations of the transformer; what RDVFI trains is one.
        prompt_embeds: Rows of text context, 512 at most, filled up with zeros; None is all zeros.
        image_embeds: 257 rows of image context; None is all zeros.

    Raises:
        ValueError: If the transformer is not one for InP, or a context does not fit it.
    """

    noise_process: FlowMatching
    prompt_embeds: Tensor
    image_embeds: Tensor
    _mask: Tensor

    def __init__(
        self,
        transformer: nn.Module,
        vae: nn.Module,
        *,
        frames: Frames = EIGHTHS,
        noise_process: FlowMatching = FLOW_MATCHING,
        num_inference_steps: int = 1,
        prompt_embeds: Float[Tensor, "s c"] | None = None,
        image_embeds: Float[Tensor, "r d"] | None = None,
    ) -> None:
        super().__init__()
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1; got {num_inference_steps}")
        config, channels = _config(transformer), _config(vae)["z_dim"]
        if config["in_channels"] != 2 * channels + 4 or config["image_dim"] is None:
            raise ValueError(
                f"WanKeyframes needs an InP transformer ({2 * channels + 4} input channels, image "
                f"context); got {config['in_channels']} channels, image context of width "
                f"{config['image_dim']}"
            )
        # First, so that the type of the model's first parameter is that of its networks: the
        # transformer begins with parameters that stay in float32.
        self.vae: Any = vae
        self.transformer: Any = transformer
        transformer.rope = FreeTimeRope(transformer.rope, frames.positions)  # pyright: ignore
        self.frames, self.num_inference_steps = frames, num_inference_steps
        self.noise_process = noise_process  # pyright: ignore[reportIncompatibleVariableOverride]
        self.knot_times, self.encodes_keyframes = tuple(frames.times), not frames.causal
        self.latent_channels, self.stride, self.size_multiple = channels, STRIDE, 2 * STRIDE
        text = _rows("prompt_embeds", prompt_embeds, TEXT_ROWS, config["text_dim"], fill=True)
        image = _rows("image_embeds", image_embeds, IMAGE_ROWS, config["image_dim"], fill=False)
        self.register_buffer("prompt_embeds", text)
        self.register_buffer("image_embeds", image)
        self.register_buffer("_mask", frames.mask(), persistent=False)
        self._prepared: _Prepared | None = None
        self.register_load_state_dict_post_hook(_weights_loaded)

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        return self.transformer

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """Noise for every latent frame: the model was trained with noise on the known ones too."""
        return b, self.frames.count, self.latent_channels, h // STRIDE, w // STRIDE

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        ready = self._ready()
        return encode_frames(self.vae, images) if ready is None else ready.autoencoder.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """Images of single-frame latents: of the ends always, of all in ``PER_FRAME``."""
        ready = self._ready()
        if ready is None:
            return decode_frames(self.vae, latents)
        return ready.autoencoder.decode(latents)

    def decode_between(self, latents: Float[Tensor, "b k c hz wz"]) -> Float[Tensor, "b n 3 h w"]:
        """Pictures of the keyframes between the ends; the clip is decoded as one."""
        if not self.frames.causal:
            return super().decode_between(latents)
        # Latent j ends at frame 4 j; the last latent is not needed for the frames before it.
        return decode_clip(self.vae, latents[:, :-1].transpose(1, 2))[:, :, 4::4].transpose(1, 2)

    def condition(
        self,
        img0: SmallImage,
        img1: SmallImage,
        *,
        latent0: Float[Tensor, "b c hz wz"] | None = None,
        latent1: Float[Tensor, "b c hz wz"] | None = None,
        prior: MotionPrior | None = None,
    ) -> InpaintingCondition:
        """Both end latents, and the frames that are known in the form that the network reads."""
        ends = super().condition(img0, img1, latent0=latent0, latent1=latent1)
        b, _, h, w = img0.shape
        if self.frames.causal:
            grey = torch.full_like(img0, GREY)[:, :, None]
            unknown = grey.expand(-1, -1, self.frames.clip - 2, -1, -1)
            known = encode_clip(self.vae, torch.cat((img0[:, :, None], unknown, img1[:, :, None]), dim=2))
        else:
            inner = self._grey(img0)[:, :, None].expand(b, -1, self.frames.count - 2, -1, -1)
            known = torch.cat((ends.latent0[:, :, None], inner, ends.latent1[:, :, None]), dim=2)
        mask = self._mask.to(known)[None, :, :, None, None]
        mask = mask.expand(b, -1, -1, h // STRIDE, w // STRIDE)
        return InpaintingCondition(ends.latent0, ends.latent1, channels=torch.cat((mask, known), dim=1))

    def denoise(
        self, noisy: Float[Tensor, "b k c hz wz"], sigma: Float[Tensor, " b"], condition: InpaintingCondition
    ) -> Float[Tensor, "b k c hz wz"]:
        b = len(noisy)
        velocity = self.transformer(
            torch.cat((noisy.transpose(1, 2), condition.channels), dim=1),
            PURE_TIME * sigma.float(),
            self.prompt_embeds.to(noisy).expand(b, -1, -1),
            self.image_embeds.to(noisy).expand(b, -1, -1),
            return_dict=False,
        )[0]
        return self.noise_process.clean_from_velocity(noisy, velocity.transpose(1, 2), sigma)

    def sample(self, condition: InpaintingCondition, noise: Float[Tensor, "b k c hz wz"]) -> Denoised:
        ready = self._ready()
        if ready is None:
            return super().sample(condition, noise)

        def predict(noisy: Tensor, sigma: Tensor, step: int) -> Denoised:
            inputs = torch.cat((noisy.transpose(1, 2), condition.channels), dim=1)
            velocity = ready.transformer(inputs, step).transpose(1, 2)
            return Denoised(self.noise_process.clean_from_velocity(noisy, velocity, sigma))

        return self.noise_process.sample(predict, noise, self.num_inference_steps)

    @torch.no_grad()
    def optimize(self, size: tuple[int, int] = MOTION_SIZE) -> "WanKeyframes":
        """Precompute everything that is constant in inference; results stay the same.

        Cross-attention folds to constants, so do modulation and rotary tables, and the autoencoder collapses to two
        dimensions for single frames. It is done again after the model is moved or loaded, and undone by ``train()``.

        Args:
            size: Height and width of the frames whose tables are made now; those of other sizes
                are made when they come.

        Raises:
            RuntimeError: If the model is being trained.
        """
        if self._trains():
            raise RuntimeError("optimize() is for inference; call model.eval().requires_grad_(False) before")
        times = [PURE_TIME * level for level in self.noise_process.levels(self.num_inference_steps)]
        self._prepared = _Prepared(
            PreparedTransformer(
                self.transformer, tuple(times), self.prompt_embeds.to(self._dtype), self.image_embeds.to(self._dtype)
            ),
            FlatAutoencoder(self.vae),
            {},
        )
        self._prepare_size(*size)
        return self

    def train(self, mode: bool = True) -> "WanKeyframes":
        """As of every module; training mode discards the constants of `optimize`."""
        if mode:
            self._prepared = None
        return super().train(mode)

    @property
    def _dtype(self) -> torch.dtype:
        return self.transformer.proj_out.weight.dtype

    def _trains(self) -> bool:
        return self.training or any(p.requires_grad for p in self.parameters())

    def _ready(self) -> _Prepared | None:
        """The prepared constants, unless training has begun since."""
        thawed = self.transformer.proj_out.weight.requires_grad
        return None if thawed else self._prepared

    def _prepare_size(self, h: int, w: int) -> None:
        assert self._prepared is not None
        image = torch.full((1, 3, h, w), GREY, dtype=self._dtype, device=self._mask.device)
        self._prepared.greys[h, w] = self._prepared.autoencoder.encode(image)
        self._prepared.transformer.prepare_size(self.frames.count, h // STRIDE, w // STRIDE)

    def _grey(self, images: SmallImage) -> Float[Tensor, "1 c hz wz"]:
        """The latent of a grey frame; it is not constant in space, since borders are padded."""
        ready = self._ready()
        size = (images.shape[-2], images.shape[-1])
        if ready is not None and size not in ready.greys and not torch.compiler.is_compiling():
            with torch.no_grad():
                self._prepare_size(*size)
        if ready is None or size not in ready.greys:
            return self.encode(torch.full_like(images[:1], GREY))
        return ready.greys[size]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WanKeyframes":
        """Called by moves and casts; parameters that the transformer needs in float32 stay in float32."""
        super()._apply(apply_keeping_float32(fn, self.transformer), recurse)
        self._renew()
        return self

    def _renew(self) -> None:
        """Prepare the constants again, after weights have changed."""
        if self._prepared is None:
            return
        sizes, self._prepared = list(self._prepared.greys), None
        if not self._trains():
            self.optimize(sizes[0])


def _weights_loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, WanKeyframes)
    module._renew()


def _config(part: Any) -> Any:
    return part.config


def _rows(name: str, given: Tensor | None, rows: int, width: int, *, fill: bool) -> Float[Tensor, "s c"]:
    """A context of exactly this many rows."""
    if given is None:
        return torch.zeros(rows, width)
    fits = given.dim() == 2 and given.shape[1] == width
    if not fits or len(given) > rows or (len(given) < rows and not fill):
        count = f"at most {rows}" if fill else str(rows)
        raise ValueError(f"{name} must be {count} rows of {width}; got {tuple(given.shape)}")
    return torch.cat((given.float(), torch.zeros(rows - len(given), width)))
