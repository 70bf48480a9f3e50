"""The networks of Stable Video Diffusion: configurations, and input channels for the second end frame.

Both are diffusers' own classes, imported when they are first needed: a denoising U-Net over space
and time, and an autoencoder of single frames whose decoder also looks along time (Blattmann et al.,
"Stable Video Diffusion", 2023, https://arxiv.org/abs/2311.15127).

The original U-Net reads noise and the latent of one frame, 4 + 4 channels. `widen_unet` adds four for the second
frame, whose weights start at zero: the network starts as it was, and training decides what the second frame is worth.
"""

from typing import Any

import torch
from torch import nn

from rdvfi.backbones.pretrained_parts import load_part, prepare_diffusers

LATENT_CHANNELS = 4
INPUTS = 3 * LATENT_CHANNELS
"""Noise, first frame, last frame."""

Network = Any
"""A diffusers class, which importing rdvfi must not load."""

_SPATIAL = "DownBlockSpatioTemporal", "UpBlockSpatioTemporal"
_CROSS = "CrossAttnDownBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"

UNETS: dict[str, dict[str, Any]] = {
    "full": {
        "sample_size": 96,
        "num_frames": 25,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (_CROSS[0],) * 3 + (_SPATIAL[0],),
        "up_block_types": (_SPATIAL[1],) + (_CROSS[1],) * 3,
        "layers_per_block": 2,
        "num_attention_heads": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 768,
    },
    "toy": {
        "sample_size": 16,
        "num_frames": 9,
        "block_out_channels": (32, 32),
        "down_block_types": (_CROSS[0], _SPATIAL[0]),
        "up_block_types": (_SPATIAL[1], _CROSS[1]),
        "layers_per_block": 1,
        "num_attention_heads": 2,
        "cross_attention_dim": 8,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
    },
}
"""``full`` is stable-video-diffusion-img2vid-xt; ``toy`` has every kind of layer of it."""

AUTOENCODERS: dict[str, dict[str, Any]] = {
    "full": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "toy": {"block_out_channels": (32,) * 4, "layers_per_block": 1},
}


_ADVICE = {"sample_size", "num_frames"}
"""Entries that no layer depends on; they differ between the published variants."""


def new_unet(size: str, *, inputs: int = INPUTS) -> Network:
    """A U-Net with fresh weights; the channels of the second frame start at zero."""
    unet = _class("UNetSpatioTemporalConditionModel")(
        in_channels=2 * LATENT_CHANNELS, out_channels=LATENT_CHANNELS, **_size_config(UNETS, size)
    )
    return widen_unet(unet) if inputs == INPUTS else unet


def new_autoencoder(size: str) -> Network:
    """An autoencoder with fresh weights."""
    return _class("AutoencoderKLTemporalDecoder")(
        latent_channels=LATENT_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        sample_size=768,
        force_upcast=True,
        **_size_config(AUTOENCODERS, size),
    )


def load_networks(source: str, size: str, *, revision: str | None) -> tuple[Network, Network]:
    """U-Net, widened if need be, and autoencoder of a folder or hub id in diffusers' format.

    Raises:
        FileNotFoundError: If there is no such folder, file or hub model.
        ConnectionError: If the hub is needed and cannot be reached.
        ValueError: If a network is not whole, of another kind or size, or reads other inputs.
    """
    loaded = []
    for kind, part, table in (
        ("UNetSpatioTemporalConditionModel", "unet", UNETS),
        ("AutoencoderKLTemporalDecoder", "vae", AUTOENCODERS),
    ):
        expected = _size_config(table, size)
        network = load_part(_class(kind), source, part, revision=revision)
        _check_size(network, expected, f"{part} of {source!r} is not of size {size!r}")
        loaded.append(network)
    return widen_unet(loaded[0]), loaded[1]


def _check_size(network: Network, expected: dict[str, Any], wrong: str) -> None:
    """Check that a loaded network has the architecture of the named size."""
    for key in expected.keys() - _ADVICE:
        got = network.config[key]
        got = tuple(got) if isinstance(got, list) else got
        if got != expected[key]:
            raise ValueError(f"{wrong}: {key} is {got}, expected {expected[key]}")


def widen_unet(unet: Network) -> Network:
    """The same U-Net with four more input channels, whose weights are zero; once wide, as it is.

    Raises:
        ValueError: If it reads neither one frame nor two.
    """
    conv = unet.conv_in
    if conv.in_channels == INPUTS:
        return unet
    if conv.in_channels != 2 * LATENT_CHANNELS:
        raise ValueError(
            f"this U-Net reads {conv.in_channels} channels; expected {2 * LATENT_CHANNELS} (noise "
            f"and one frame, as Stable Video Diffusion) or {INPUTS} (noise and both frames)"
        )
    wide = nn.Conv2d(INPUTS, conv.out_channels, 3, padding=1, device=conv.weight.device, dtype=conv.weight.dtype)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : conv.in_channels] = conv.weight
        wide.bias.copy_(conv.bias)  # pyright: ignore[reportOptionalMemberAccess]
    unet.conv_in = wide.requires_grad_(conv.weight.requires_grad)
    unet.register_to_config(in_channels=INPUTS)  # so that it is saved and loaded as it is now
    return unet


def _size_config(table: dict[str, dict[str, Any]], size: str) -> dict[str, Any]:
    if size not in table:
        raise ValueError(f"size must be one of {', '.join(table)}; got {size!r}")
    return table[size]


def _class(name: str) -> Network:
    prepare_diffusers()
    import diffusers

    return getattr(diffusers, name)
