"""Stable Video Diffusion's U-Net for one-step inference, with all constants precomputed.

The noise level, the image embedding, the frame rate and the number of frames are constants there.
So are therefore, exactly,

* every cross-attention: over a single token the softmax is 1, whatever the query, and what is added
  is the vector ``to_out(to_v(token))``; its normalisation and its queries drop out;
* the embedding of noise level and frame rate, and its projection in every residual block, which
  joins the bias of the convolution before it;
* the embedding of the frames' positions in every transformer, and the shares in which space and
  time are mixed.

Beside that, queries, keys and values of a self-attention are one product, and a gated layer is one pass after its
product. The result shares all its other weights with the network it was made from, which stays as it was.
It is a snapshot: made once for inference, never trained, and made anew when weights change.
"""

import copy
from itertools import chain

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones.svd.networks import Network
from rdvfi.ops.transformer import gated_unit


class FixedUNet(nn.Module):
    """A U-Net under constant conditions.

    Args:
        unet: Where the weights are.
        timestep: Its noise level, ``c_noise``, (1,).
        embedding: The image embedding, one token, (1, 1, d).
        ids: Frame rate, motion and augmentation, (1, 3).
        frames: Number of frames.
    """

    def __init__(
        self,
        unet: Network,
        *,
        timestep: Float[Tensor, " 1"],
        embedding: Float[Tensor, "1 1 d"],
        ids: Float[Tensor, "1 3"],
        frames: int,
    ) -> None:
        super().__init__()
        with torch.no_grad():
            time = _time_embedding(unet, timestep, ids)
            self.unet = _structure(unet)
            for module in list(self.unet.modules()):
                _fix(module, time, embedding.to(time), frames)

    def forward(self, sample: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f d h w"]:
        """The network's answer; the same as the original's under these conditions."""
        unet, (b, f) = self.unet, sample.shape[:2]
        x = unet.conv_in(sample.flatten(0, 1))
        # Blocks pass these on to parts that are constants now; only their shapes are still read.
        arguments = {"temb": None, "image_only_indicator": x.new_zeros(b, f)}
        with_context = {**arguments, "encoder_hidden_states": x.new_zeros(b * f, 1, 1)}
        kept = (x,)
        for block in unet.down_blocks:
            x, passed = block(x, **(with_context if _attends(block) else arguments))
            kept += passed
        x = unet.mid_block(x, **with_context)
        for block in unet.up_blocks:
            count = len(block.resnets)
            kept, beside = kept[:-count], kept[-count:]
            more = with_context if _attends(block) else arguments
            x = block(x, res_hidden_states_tuple=beside, **more)
        x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        return x.unflatten(0, (b, f))


class Constant(nn.Module):
    """Stands for a layer whose answer is known: a tensor that broadcasts."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """The known answer."""
        return self.value


class Positions(Constant):
    """Stands for the embedding of frame positions, one row a frame, repeated for every sample."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        return self.value.repeat(hidden_states.shape[0] // self.value.shape[0], 1)


class JoinedAttention(nn.Module):
    """Stands for a self-attention: queries, keys and values are one product.

    Args:
        attention: Its layers; their weights become parts of the joined one, so nothing is held twice.
    """

    weight: Tensor

    def __init__(self, attention: Network) -> None:
        super().__init__()
        parts = (attention.to_q, attention.to_k, attention.to_v)
        self.register_buffer("weight", torch.cat([part.weight.detach() for part in parts]), persistent=False)
        for part, rows in zip(parts, self.weight.chunk(3), strict=True):
            part.weight.data = rows
        self.heads, self.out = attention.heads, attention.to_out[0]

    def forward(self, hidden_states: Tensor, encoder_hidden_states: None = None, attention_mask: None = None) -> Tensor:
        """As `diffusers` has it."""
        parts = F.linear(hidden_states, self.weight).chunk(3, dim=-1)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class GatedUnit(nn.Module):
    """Stands for a layer gated by its own GELU: both in one pass after the product."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden_states: Tensor) -> Tensor:
        """As `diffusers` has it."""
        return gated_unit(self.projection(hidden_states))


class Blend(nn.Module):
    """Stands for the mixer of space and time: a fixed share of each."""

    share: Tensor

    def __init__(self, share: Tensor) -> None:
        super().__init__()
        self.register_buffer("share", share, persistent=False)

    def forward(self, x_spatial: Tensor, x_temporal: Tensor, image_only_indicator: Tensor | None = None) -> Tensor:
        """``share`` of the first and the rest of the second."""
        return torch.lerp(x_temporal, x_spatial, self.share)


def _structure(unet: Network) -> Network:
    """A copy whose modules are new and whose parameters and buffers are the very same tensors."""
    return copy.deepcopy(unet, {id(t): t for t in chain(unet.parameters(), unet.buffers())})


def _time_embedding(unet: Network, timestep: Float[Tensor, " 1"], ids: Float[Tensor, "1 3"]) -> Float[Tensor, "1 e"]:
    """The embedding that every residual block receives, as the U-Net computes it."""
    dtype = unet.conv_in.weight.dtype
    added = unet.add_time_proj(ids.flatten()).view(1, -1).to(dtype)
    return unet.time_embedding(unet.time_proj(timestep).to(dtype)) + unet.add_embedding(added)


def _fix(module: Network, time: Float[Tensor, "1 e"], embedding: Float[Tensor, "1 1 d"], frames: int) -> None:
    """Replace the constant parts of one module; the names are those of diffusers' layers."""
    kind = type(module).__name__
    if kind in ("BasicTransformerBlock", "TemporalBasicTransformerBlock"):
        attention = module.attn2
        token = attention.to_out[0](attention.to_v(embedding))
        module.norm2, module.attn2 = nn.Identity(), Constant(token)
        if _is_plain(module.attn1):
            module.attn1 = JoinedAttention(module.attn1)
    elif kind == "FeedForward" and type(module.net[0]).__name__ == "GEGLU":
        module.net[0] = GatedUnit(module.net[0].proj)
    elif kind in ("ResnetBlock2D", "TemporalResnetBlock"):
        shift = module.time_emb_proj(module.nonlinearity(time))[0]
        module.conv1.bias = nn.Parameter(module.conv1.bias + shift, requires_grad=False)
        module.time_emb_proj = None
    elif kind == "TransformerSpatioTemporalModel":
        at = module.time_proj(torch.arange(frames, device=time.device)).to(time)
        module.time_pos_embed = Positions(module.time_pos_embed(at))
        module.time_proj = nn.Identity()
        module.time_mixer = _blend(module.time_mixer, time.dtype)
    elif kind == "SpatioTemporalResBlock":
        module.time_mixer = _blend(module.time_mixer, time.dtype)


def _is_plain(attention: Network) -> bool:
    """Whether a self-attention is three products without biases, softmax, and a product."""
    parts = (attention.to_q, attention.to_k, attention.to_v)
    plain = all(type(part) is nn.Linear and part.bias is None for part in parts)
    extra = (attention.norm_q, attention.norm_k, attention.group_norm, attention.spatial_norm)
    return plain and not any(extra) and not attention.residual_connection and attention.rescale_output_factor == 1.0


def _blend(mixer: Network, dtype: torch.dtype) -> Blend:
    share = torch.sigmoid(mixer.mix_factor).to(dtype).view(())
    return Blend(1.0 - share if mixer.switch_spatial_to_temporal_mix else share)


def _attends(block: Network) -> bool:
    return getattr(block, "has_cross_attention", False)
