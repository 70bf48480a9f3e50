"""Optimiser, learning-rate schedule and weight averaging (EMA), by timm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from rdvfi.compat import import_torchvision
from rdvfi.training.engine.settings import EngineConfig


def create_optimiser(
    config: EngineConfig, parameters: nn.ParameterList
) -> tuple[torch.optim.Optimizer, Callable[[float], None]]:
    """An optimiser, and a function that sets the learning rate of a (fractional) step."""
    import_torchvision()
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]
    from timm.scheduler import create_scheduler_v2  # pyright: ignore[reportPrivateImportUsage]

    optimiser = create_optimizer_v2(
        list(parameters), opt=config.optimiser, lr=config.rate, weight_decay=config.weight_decay
    )
    warmup = min(config.warmup, config.steps - 1)
    scheduler, _ = create_scheduler_v2(
        optimiser,
        sched=config.schedule,
        num_epochs=max(2, config.steps),  # timm warns about schedules of one step
        warmup_epochs=warmup,
        warmup_lr=config.rate / (warmup + 1),
    )
    assert scheduler is not None
    return optimiser, scheduler.step  # pyright: ignore[reportReturnType]


def create_averages(parameters: nn.ParameterList, decay: float) -> Any:
    """timm's moving average of the trained parameters, in float32, since bfloat16 cannot hold its small updates.

    The decay is smaller in early steps, so that the initial weights are forgotten.
    """
    import_torchvision()
    from timm.utils import ModelEmaV3  # pyright: ignore[reportPrivateImportUsage]

    copies = nn.ParameterList(nn.Parameter(p.detach().float().clone(), requires_grad=False) for p in parameters)
    sharded = any(isinstance(parameter, DTensor) for parameter in parameters)
    return ModelEmaV3(copies, decay=decay, use_warmup=True, foreach=not sharded)
