"""Creation of the objective of a stage."""

import torch
from torch import nn

from rdvfi.interpolator import Interpolator
from rdvfi.training.lora import add_lora
from rdvfi.training.losses.loss_registry import WeightedLosses
from rdvfi.training.model_parts import get_part, train_only
from rdvfi.training.objectives.coarse import CoarseFlowObjective
from rdvfi.training.objectives.decoding import AutoencoderObjective, DecodingObjective
from rdvfi.training.objectives.objective import Objective
from rdvfi.training.objectives.one_step import DiffusionObjective
from rdvfi.training.stage import Stage, StageKind


def build_objective(stage: Stage, model: Interpolator) -> Objective:
    """The objective of a stage; all parts of the model that it does not train are frozen."""
    train_only(model, stage.train)
    if stage.lora.rank:
        if stage.train != ["denoiser"]:
            raise ValueError(f"LoRA is for stages that train the denoiser alone; got {stage.train}")
        add_lora(get_part(model, "denoiser"), stage.lora.targets, stage.lora.rank, stage.lora.alpha)
    if stage.checkpointing:
        _enable_activation_checkpointing(get_part(model, "denoiser"))
    for module in model.modules():
        # Only 2-D convolutions have this format, and FSDP2 requires contiguous weights.
        if isinstance(module, nn.Conv2d) and not stage.shard:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    losses = WeightedLosses(stage.losses, stage.settings)
    if stage.kind is StageKind.autoencoder:
        return AutoencoderObjective(model, losses)
    if stage.kind is StageKind.coarse:
        return CoarseFlowObjective(model, losses, fine_from=stage.fine_from)
    if stage.kind is StageKind.decoding:
        return DecodingObjective(model, losses, predicted=stage.predicted)
    return DiffusionObjective(
        model, losses, low=stage.noise.low, rise=stage.noise.rise, reconstruct_from=stage.reconstruct_from
    )


def _enable_activation_checkpointing(network: nn.Module) -> None:
    """Recompute activations in the backward pass, by the method of diffusers' models."""
    enable = getattr(network, "enable_gradient_checkpointing", None)
    if enable is None:
        raise ValueError(f"a {type(network).__name__} cannot recompute its activations; set checkpointing=false")
    enable()
