"""Selection of the objective of a stage."""

import torch
from torch import nn

from rdvfi.interpolator import Interpolator
from rdvfi.training.lora import add_lora
from rdvfi.training.losses.loss_registry import Terms
from rdvfi.training.model_parts import only, part_of
from rdvfi.training.objectives.coarse import CoarseFlow
from rdvfi.training.objectives.decoding import Autoencoding, Decoding
from rdvfi.training.objectives.objective import Objective
from rdvfi.training.objectives.one_step import Diffusing
from rdvfi.training.stage import Kind, Stage


def make_objective(stage: Stage, model: Interpolator) -> Objective:
    """The objective of a stage, with all but its parts frozen."""
    only(model, stage.train)
    if stage.lora.rank:
        if stage.train != ["denoiser"]:
            raise ValueError(f"LoRA is for stages that train the denoiser alone; got {stage.train}")
        network = part_of(model, "denoiser")
        add_lora(network, stage.lora.targets, stage.lora.rank, stage.lora.alpha)
    if stage.checkpointing:
        _recompute(part_of(model, "denoiser"))
    for module in model.modules():
        # Video models have kernels of five axes beside; FSDP2 takes contiguous weights only.
        if isinstance(module, nn.Conv2d) and not stage.shard:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    terms = Terms(stage.losses, stage.settings)
    if stage.kind is Kind.autoencoder:
        return Autoencoding(model, terms)
    if stage.kind is Kind.coarse:
        return CoarseFlow(model, terms, fine_from=stage.fine_from)
    if stage.kind is Kind.decoding:
        return Decoding(model, terms, predicted=stage.predicted)
    return Diffusing(model, terms, low=stage.noise.low, rise=stage.noise.rise, reconstruct_from=stage.reconstruct_from)


def _recompute(network: nn.Module) -> None:
    """Recompute activations in the backward pass, as diffusers' networks can."""
    enable = getattr(network, "enable_gradient_checkpointing", None)
    if enable is None:
        raise ValueError(f"a {type(network).__name__} cannot recompute its activations; set checkpointing=false")
    enable()
