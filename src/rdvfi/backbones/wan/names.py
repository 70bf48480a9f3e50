"""Names of Wan's modules: those of the original repository, which LoRA files use, and those of diffusers."""

import torch

from rdvfi.backbones.pretrained_parts import prepare_diffusers


def to_diffusers(name: str) -> str:
    """diffusers' name of a module of the original; other names stay as they are, more or less.

    ``blocks.3.cross_attn.k_img`` is ``blocks.3.attn2.add_k_proj``. The table is diffusers' own; it
    replaces parts of names, so what comes out has to be looked up among the network's modules.
    """
    prepare_diffusers()
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    (renamed,) = convert_wan_transformer_to_diffusers({f"{name}.weight": torch.empty(0)})
    return renamed.removesuffix(".weight")
