"""Named architectures of Wan2.1-Fun-InP, as arguments of diffusers' classes.

``1.3b`` is alibaba-pai/Wan2.1-Fun-1.3B-InP; its own repository has no configuration in diffusers' format, so it stands
here. ``toy`` is the same two classes at the smallest useful size, for tests and for trying a pipeline out.
"""

from typing import Any

from torch import nn

from rdvfi.backbones.pretrained_parts import prepare_diffusers

_INP: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "in_channels": 36,
    "out_channels": 16,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "pos_embed_seq_len": None,
}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "1.3b": {
        **_INP,
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 8960,
        "num_layers": 30,
        "image_dim": 1280,
        "added_kv_proj_dim": 1536,
        "rope_max_seq_len": 1024,
    },
    "toy": {
        **_INP,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "image_dim": 4,
        "added_kv_proj_dim": 24,
        "rope_max_seq_len": 64,
    },
}
"""Configurations of `diffusers.WanTransformer3DModel`."""

AUTOENCODERS: dict[str, dict[str, Any]] = {
    "1.3b": {},  # the class's own defaults are the autoencoder of all Wan2.1
    "toy": {"base_dim": 2, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
}
"""Configurations of `diffusers.AutoencoderKLWan`."""


def transformer_config(size: str) -> dict[str, Any]:
    """The configuration of a named size; raises ValueError if there is no such size."""
    if size not in TRANSFORMERS:
        raise ValueError(f"size must be one of {', '.join(TRANSFORMERS)}; got {size!r}")
    return dict(TRANSFORMERS[size])


def fresh_transformer(size: str) -> nn.Module:
    """A transformer with fresh weights, on the default device."""
    config = transformer_config(size)
    prepare_diffusers()
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    return WanTransformer3DModel(**config).eval()


def fresh_autoencoder(size: str) -> nn.Module:
    """An autoencoder with fresh weights."""
    transformer_config(size)
    prepare_diffusers()
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return AutoencoderKLWan(**AUTOENCODERS[size]).eval()


def check_size(transformer: nn.Module, size: str, where: str) -> None:
    """A loaded transformer has the configuration of its size, so a saved model can name it.

    Raises:
        ValueError: If it has not; the first difference is named.
    """
    config: Any = transformer.config
    for key, expected in transformer_config(size).items():
        got = tuple(config[key]) if isinstance(config[key], list) else config[key]
        if got != expected:
            raise ValueError(f"{where} is not of size {size!r}: {key} is {got}, expected {expected}")
