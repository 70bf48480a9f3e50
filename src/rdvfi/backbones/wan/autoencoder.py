"""Frames to latents and back with Wan's autoencoder.

It is causal in time: a clip of ``4 k + 1`` frames gives ``k + 1`` latents, and of any other number
the last frames are dropped without a word. So single frames always go on the *batch* axis here, and
`encode_clip` refuses other numbers. Latents are the posterior's mode, normalised by the statistics
that come with the autoencoder. Images are in [0, 1] here, in [-1, 1] inside.

`flatten_autoencoder`: for a single frame every causal convolution sees zeros in the past, and the
convolutions in time never run. It is then a two-dimensional network, whose weights are the last
time slice of the three-dimensional ones: the same result for a third of the work.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops.transformer import rms_silu
from rdvfi.types import SmallImage

STRIDE = 8
GREY = 0.5


def encode_frames(vae: Any, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
    """Latents of single frames."""
    return _encode(vae, images[:, :, None])[:, :, 0]


def encode_clip(vae: Any, clip: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f hz wz"]:
    """Latents of a clip of 4 k + 1 frames.

    Raises:
        ValueError: For any other number of frames, of which Wan would drop the last.
    """
    if clip.shape[2] % 4 != 1:
        raise ValueError(f"Wan encodes clips of 4 k + 1 frames; got {clip.shape[2]}")
    return _encode(vae, clip)


def _encode(vae: Any, clip: Tensor) -> Tensor:
    mean, std = _statistics(vae, clip)
    return (vae.encode(2.0 * clip - 1.0, return_dict=False)[0].mode() - mean) / std


def decode_frames(vae: Any, latents: Float[Tensor, "b c hz wz"]) -> SmallImage:
    """Images of single-frame latents."""
    return decode_clip(vae, latents[:, :, None])[:, :, 0]


def decode_clip(vae: Any, latents: Float[Tensor, "b c f hz wz"]) -> Float[Tensor, "b 3 t h w"]:
    """The 4 (f - 1) + 1 frames of a clip's latents."""
    mean, std = _statistics(vae, latents)
    decoded = vae.decode(latents * std + mean, return_dict=False)[0]
    return (0.5 * decoded + 0.5).clamp(0.0, 1.0)


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (like.new_tensor(vae.config[key]) for key in ("latents_mean", "latents_std"))
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


class FlatAutoencoder:
    """The autoencoder for single frames as a two-dimensional network; see the module's text.

    It holds copies, prepared once; it is no module, so it is neither saved nor trained.
    """

    def __init__(self, vae: Any) -> None:
        if vae.config["is_residual"] or vae.config["patch_size"] is not None:
            raise ValueError("only the autoencoder of Wan2.1 can be collapsed to two dimensions")
        self.mean, self.std = (x[:, :, 0].float() for x in _statistics(vae, _first(vae)))
        parts = (vae.encoder, vae.quant_conv, vae.post_quant_conv, vae.decoder)
        flat = [_collapse_convolutions(part) for part in parts]
        self._encoder, self._quant, self._unquant, self._decoder = flat

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """As `encode_frames`."""
        moments = self._quant(self._encoder(2.0 * images[:, :, None] - 1.0))[:, :, 0]
        mode = moments.chunk(2, dim=1)[0]
        return (mode - self.mean.to(mode)) / self.std.to(mode)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> SmallImage:
        """As `decode_frames`."""
        raw = latents * self.std.to(latents) + self.mean.to(latents)
        decoded = self._decoder(self._unquant(raw[:, :, None]))[:, :, 0]
        return (0.5 * decoded + 0.5).clamp(0.0, 1.0)


def _first(module: nn.Module) -> Tensor:
    return next(module.parameters()).detach()


class _FlatConv(nn.Module):
    """A causal convolution that sees one frame, and nothing before it."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv3d, padding: tuple[int, int]) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride[1:], padding
        bias = None if conv.bias is None else conv.bias.detach().clone()
        weight = conv.weight.detach()[:, :, -1].contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "b c 1 h w"], cache_x: None = None) -> Tensor:
        flat = F.conv2d(x[:, :, 0], self.weight, self.bias, self.stride, self.padding)
        return flat[:, :, None]


class _FlatNorm(nn.Module):
    """A norm over the channels of one frame, and the activation behind it."""

    gamma: Tensor

    def __init__(self, norm: Any, *, silu: bool) -> None:
        super().__init__()
        self.silu = silu
        self.register_buffer("gamma", norm.gamma.detach().flatten().clone())

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return rms_silu(x, self.gamma, self.silu)
        return rms_silu(x[:, :, 0], self.gamma, self.silu)[:, :, None]


@torch.no_grad()
def _collapse_convolutions(part: nn.Module) -> nn.Module:
    """A frozen copy with every causal convolution collapsed."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm

    part = copy.deepcopy(part)
    if isinstance(part, WanCausalConv3d):
        return _flat(part)
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if name == "time_conv":
                setattr(parent, name, nn.Identity())  # never runs on a single frame
            elif isinstance(child, WanCausalConv3d):
                setattr(parent, name, _flat(child))
            elif isinstance(child, WanRMS_norm) and not isinstance(child.bias, Tensor):
                setattr(parent, name, _FlatNorm(child, silu=hasattr(parent, "nonlinearity")))
    for parent in list(part.modules()):
        if any(isinstance(child, _FlatNorm) and child.silu for child in parent.children()):
            parent.nonlinearity = nn.Identity()
    return part.eval().requires_grad_(False)


def _flat(conv: Any) -> nn.Module:
    w, _, h, _, _, _ = conv._padding  # of torch.nn.functional.pad, both sides of each axis
    return _FlatConv(conv, (h, w))
