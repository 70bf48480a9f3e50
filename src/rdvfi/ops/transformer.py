"""Norms of transformers, fused with the operations around them.

Sums, norms and rotations are float32; results have the type of the features. Intermediate types are those of
diffusers' layers, so that results agree with theirs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.ops.inference import operator


@operator("transformer")
def gated_norm(
    x: Tensor,
    added: Tensor | None,
    gate: Tensor | None,
    constant: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """``total = x + gate * added + constant``, and ``norm(total) * scale + shift`` (layer norm without weights).

    Args:
        x: Tokens, (b, n, d).
        added: Output of a layer for them.
        gate: Weight of ``added``, d values, float32.
        constant: d values that are added.
        scale: d values, float32.
        shift: d values, float32.
        eps: Epsilon of the norm.
    """
    total = x.clone()
    if added is not None and gate is not None:
        total = (x.float() + added * gate.flatten()).type_as(x)
    if constant is not None:
        total = total + constant.flatten()
    normed = F.layer_norm(total.float(), total.shape[-1:], None, None, eps)
    return total, (normed * scale.flatten() + shift.flatten()).type_as(x)


@operator("transformer")
def rotary_heads(
    queries: Tensor, keys: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Queries and keys of all heads, normalised across heads and rotated by their position, (b, n, d) each.

    Neighbouring channels of a head are rotated as pairs (Su et al., RoFormer, 2021).

    Args:
        queries: Queries of all heads side by side, (b, n, d); dense in d.
        keys: The same.
        query_weight: Weight of the norm, (d,).
        key_weight: The same.
        cos: Cosines for every token and channel of a head, each twice, (n, d / heads).
        sin: The same.
        eps: Epsilon of the norm.
    """
    return _rotate(queries, query_weight, cos, sin, eps), _rotate(keys, key_weight, cos, sin, eps)


def _rotate(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    normed = F.rms_norm(x, x.shape[-1:], weight, eps)
    one, two = normed.unflatten(2, (-1, cos.shape[-1] // 2, 2)).unbind(-1)
    c, s = cos[:, None, 0::2], sin[:, None, 1::2]
    return torch.stack((one * c - two * s, one * s + two * c), dim=-1).type_as(x).flatten(2)


@operator("transformer")
def rms_silu(x: Tensor, gamma: Tensor, silu: bool) -> Tensor:
    """Features of length ``sqrt(c) gamma`` in every pixel, (b, c, h, w), and SiLU of them if asked for.

    The memory format of the result is `torch.channels_last`.
    """
    normed = F.normalize(x.float(), dim=1).to(x) * x.shape[1] ** 0.5 * gamma.view(-1, 1, 1)
    return (F.silu(normed) if silu else normed).contiguous(memory_format=torch.channels_last)


@operator("transformer")
def gated_unit(x: Tensor) -> Tensor:
    """The first half of the features times GELU of the second, (..., 2 d) to (..., d) (Shazeer, 2020)."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)
