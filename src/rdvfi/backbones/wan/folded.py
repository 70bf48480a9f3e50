"""Wan's transformer for inference, with all constants precomputed.

With a fixed context and fixed noise levels these are constants, exactly:

* the modulation of every block and of the head, per step (they depend on the noise level alone);
* the cross-attention to text and image: a vector per layer if all their rows are equal (zeros), and
  attention to the few distinct rows otherwise (`rdvfi.backbones.constant_context`);
* the rotary table, per size.

What is left per block is self-attention and the feed-forward network. The forward pass is written out here over
diffusers' own layers, whose weights it shares; it gives what theirs gives up to the order of additions. Queries, keys
and values are one product; the residual connection, the norm and the modulation between two layers are one operator,
and so are the norms and turns of queries and keys (`rdvfi.ops.transformer`): nine kernels a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones.constant_context import Folded, distinct_rows
from rdvfi.ops.transformer import gated_norm, rotary_heads

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Modulation:
    """Shift, scale and gate around self-attention, then around the feed-forward network."""

    shift: Tensor
    scale: Tensor
    gate: Tensor
    ffn_shift: Tensor
    ffn_scale: Tensor
    ffn_gate: Tensor


@dataclass(frozen=True, eq=False)
class Cross:
    """One layer's cross-attention to a constant context."""

    text: Folded
    image: Folded | None
    constant: Tensor | None
    """Its whole result, if that does not depend on the query."""


class PreparedTransformer:
    """A `diffusers.WanTransformer3DModel` with its constants computed; see the module's text.

    It is no module: it is neither saved nor trained, and must be made anew when weights change.

    Args:
        transformer: Whose weights are used.
        timesteps: Diffusion times of the steps, 0 to 1000.
        text: Rows of the text context.
        image: Rows of the image context.
    """

    @torch.no_grad()
    def __init__(
        self, transformer: Any, timesteps: Sequence[float], text: Float[Tensor, "s c"], image: Float[Tensor, "r d"]
    ) -> None:
        self._transformer = transformer
        embedder, device = transformer.condition_embedder, text.device
        rows, counts = distinct_rows(text)
        seen, times_seen = distinct_rows(image)
        at = torch.tensor(list(timesteps), dtype=torch.float32, device=device)
        temb, levels, text, picture = embedder(at, rows[None], seen[None])
        levels = levels.unflatten(1, (6, -1))
        self._cross = [
            fold_cross(block.attn2, (text[0], counts), (picture[0], times_seen)) for block in transformer.blocks
        ]
        self._joined = [_join_projections(block.attn1) for block in transformer.blocks]
        self._modulation = [[_modulation(block, level[None]) for block in transformer.blocks] for level in levels]
        head = (transformer.scale_shift_table[None] + temb[:, None, None]).unbind(2)
        self._head = list(zip(head[0], head[1], strict=True))
        self._rotary: dict[tuple[int, int, int], Rotary] = {}

    def prepare_size(self, f: int, h: int, w: int) -> None:
        """Compute the rotary table of this latent size."""
        self._rotary[f, h, w] = self._transformer.rope.table(f, h, w)

    def __call__(self, x: Float[Tensor, "b c f h w"], step: int) -> Float[Tensor, "b o f h w"]:
        """The network's answer at one of the steps it was prepared for."""
        t = self._transformer
        f, h, w = x.shape[2:]
        known = self._rotary.get((f, h, w))
        rotary = t.rope.table(f, h, w) if known is None else known
        cos, sin = (table[0, :, 0] for table in rotary)
        tokens = t.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
        added, gate = None, None
        for index, (block, m, cross) in enumerate(zip(t.blocks, self._modulation[step], self._cross, strict=True)):
            tokens, normed = gated_norm(tokens, added, gate, None, m.scale, m.shift, block.norm1.eps)
            attended = self._self_attention(index, normed, cos, sin)
            if cross.constant is None:
                tokens = gated_norm(tokens, attended, m.gate, None, m.scale, m.shift, block.norm1.eps)[0]
                tokens, attended = tokens + _cross_attention(block, tokens, cross), None
            constant = cross.constant
            tokens, normed = gated_norm(tokens, attended, m.gate, constant, m.ffn_scale, m.ffn_shift, block.norm3.eps)
            added, gate = block.ffn(normed), m.ffn_gate
        shift, scale = self._head[step]
        _, normed = gated_norm(tokens, added, gate, None, 1.0 + scale, shift, t.norm_out.eps)
        return _unpatch(t.proj_out(normed), f, h, w, t.config["patch_size"])

    def _self_attention(self, index: int, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        layer = self._transformer.blocks[index].attn1
        joined = self._joined[index]
        if joined is None:
            q, k, v = layer.to_q(x), layer.to_k(x), layer.to_v(x)
        else:
            q, k, v = F.linear(x, *joined).chunk(3, dim=-1)
        eps = layer.norm_q.eps
        q, k = rotary_heads(q, k, layer.norm_q.weight, layer.norm_k.weight, cos, sin, eps)
        q, k, v = (part.unflatten(2, (layer.heads, -1)).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return layer.to_out[0](attended.transpose(1, 2).flatten(2))


def _join_projections(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of queries, keys and values as one product; None if they are no plain layers.

    The layers' own parameters become parts of the joined ones, so nothing is held twice.
    """
    parts = (layer.to_q, layer.to_k, layer.to_v)
    if any(type(part) is not nn.Linear or part.bias is None for part in parts):
        return None
    weight, bias = (torch.cat([getattr(part, name).detach() for part in parts]) for name in ("weight", "bias"))
    for part, rows, values in zip(parts, weight.chunk(3), bias.chunk(3), strict=True):
        part.weight.data, part.bias.data = rows, values
    return weight, bias


def fold_cross(layer: Any, text: tuple[Tensor, Tensor], image: tuple[Tensor, Tensor] | None) -> Cross:
    """The cross-attention of a block to embedded rows, given with how often each occurs."""
    rows, counts = text
    keys, values = layer.norm_k(layer.to_k(rows)), layer.to_v(rows)
    folded, picture = Folded(keys, values, counts, layer.heads), None
    if image is not None and layer.add_k_proj is not None:
        rows, counts = image
        keys, values = layer.norm_added_k(layer.add_k_proj(rows)), layer.add_v_proj(rows)
        picture = Folded(keys, values, counts, layer.heads)
    constant = folded.constant
    if constant is not None and picture is not None:
        constant = None if picture.constant is None else constant + picture.constant
    return Cross(folded, picture, None if constant is None else layer.to_out[0](constant))


def _modulation(block: Any, level: Float[Tensor, "1 6 d"]) -> Modulation:
    parts = (block.scale_shift_table + level.float()).chunk(6, dim=1)
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = parts
    return Modulation(shift, 1.0 + scale, gate, ffn_shift, 1.0 + ffn_scale, ffn_gate)


def _cross_attention(block: Any, x: Tensor, cross: Cross) -> Tensor:
    layer = block.attn2
    queries = layer.norm_q(layer.to_q(block.norm2(x.float()).type_as(x)))
    attended = cross.text.attend(queries)
    if cross.image is not None:
        attended = attended + cross.image.attend(queries)
    return layer.to_out[0](attended)


def _unpatch(tokens: Tensor, f: int, h: int, w: int, patch: Sequence[int]) -> Tensor:
    """Tokens of patches back to latents (b, c, f, h, w)."""
    pt, ph, pw = patch
    grid = tokens.reshape(len(tokens), f // pt, h // ph, w // pw, pt, ph, pw, -1)
    return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
