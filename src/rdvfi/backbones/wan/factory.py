"""The registered backbone ``wan``.

Weights come from a folder or a hub id in diffusers' format with the parts ``transformer`` and ``vae``
(`rdvfi.backbones.pretrained_parts`); ``rdvfi convert`` makes such a folder from the original file. Without a source
the architecture gets fresh weights: to be overwritten by those of a saved model, or trained, or measured.
"""

from typing import Any

from torch import Tensor, nn

from rdvfi.about import About
from rdvfi.backbones.diffusion import FlowMatching, Sampler
from rdvfi.backbones.merge_lora import merge_lora, read_tensor
from rdvfi.backbones.pretrained_parts import load_part, prepare_diffusers
from rdvfi.backbones.wan.architecture import check_size, fresh_autoencoder, fresh_transformer
from rdvfi.backbones.wan.frame_layout import Frames, Layout
from rdvfi.backbones.wan.generator import WanKeyframes
from rdvfi.backbones.wan.names import to_diffusers
from rdvfi.interfaces import KeyframeGenerator
from rdvfi.registry import backbones

ABOUT = About(
    licence="Apache-2.0",
    weights="alibaba-pai/Wan2.1-Fun-1.3B-InP, to be trained for one step with rdvfi",
    weights_licence="Apache-2.0",
    citation="Team Wan, Wan: Open and Advanced Large-Scale Video Generative Models, 2025",
    url="https://huggingface.co/alibaba-pai/Wan2.1-Fun-1.3B-InP",
)


@backbones.register("wan", about=ABOUT)
def wan(
    *,
    source: str | None = None,
    revision: str | None = None,
    size: str = "1.3b",
    layout: Layout = Layout.PER_FRAME,
    knots: tuple[float, ...] | None = None,
    num_inference_steps: int = 1,
    sampler: Sampler = Sampler.EULER,
    shift: float = 5.0,
    lora: str | None = None,
    lora_scale: float = 1.0,
    prompt_embeds: str | None = None,
    image_embeds: str | None = None,
) -> KeyframeGenerator:
    """Wan2.1-Fun-1.3B-InP, the backbone of RDVFI-D.

    Args:
        source: Folder or hub id with ``transformer`` and ``vae``; None gives fresh weights.
        revision: Full commit hash, for a hub id.
        size: '1.3b', or 'toy' for tests; a source must be of this size.
        layout: Single frames at ``knots``, or one clip of 25 or 33 frames.
        knots: Times of the keyframes, ends included; None is i / 8.
        num_inference_steps: Evaluations of the network.
        sampler: diffusers' scheduler, where there are several.
        shift: How much longer it stays at high noise.
        lora: A LoRA's safetensors file, merged into the transformer.
        lora_scale: Factor on its updates.
        prompt_embeds: Safetensors file with rows of text context; None is zeros.
        image_embeds: Safetensors file with 257 rows of image context; None is zeros.
    """
    transformer, vae = _parts(source, revision, size)
    if lora is not None:
        merge_lora(transformer, lora, scale=lora_scale, rename=to_diffusers)
    made = WanKeyframes(
        transformer,
        vae,
        frames=Frames(layout, knots),
        noise_process=FlowMatching(sampler, shift),
        num_inference_steps=num_inference_steps,
        prompt_embeds=_embeds(prompt_embeds),
        image_embeds=_embeds(image_embeds),
    )
    vae.pretrained = source is not None  # pyright: ignore[reportArgumentType]  (no stage trains it)
    # In its own layout and with its own number of steps it is used as it was trained.
    made.pretrained = source is not None and made.frames.causal and num_inference_steps > 1
    return made


def _parts(source: str | None, revision: str | None, size: str) -> tuple[nn.Module, nn.Module]:
    if source is None:
        if revision is not None:
            raise ValueError(f"revision {revision!r} without a source")
        return fresh_transformer(size), fresh_autoencoder(size)
    prepare_diffusers()
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    transformer: Any = load_part(WanTransformer3DModel, source, "transformer", revision=revision)
    check_size(transformer, size, f"{source}/transformer")
    return transformer, load_part(AutoencoderKLWan, source, "vae", revision=revision)


def _embeds(path: str | None) -> Tensor | None:
    """The one tensor of a file, as rows; a leading batch of one is dropped."""
    if path is None:
        return None
    rows = read_tensor(path)
    return rows[0] if rows.dim() == 3 and len(rows) == 1 else rows
