"""Sharded training (FSDP2): every process holds a part of weights, gradients and optimiser state.

For backbones whose training state does not fit one device: 1.5 billion parameters with AdamW and
averages take 29 GiB in float32. Each block is gathered when it runs and dropped afterwards. Values
and updates are those of training in one process, to rounding.
"""

from collections.abc import Iterable

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rdvfi.training.objectives.objective import Objective


def shard(objective: Objective, blocks: Iterable[nn.Module]) -> Objective:
    """Share an objective's weights out among all processes, in place.

    Args:
        objective: On its device. Only its ``forward`` may be called from now on.
        blocks: Modules that are gathered one at a time; the rest is gathered together.

    Raises:
        RuntimeError: If there is one process only.
    """
    if not dist.is_initialized():
        raise RuntimeError("sharding needs several processes: start with torchrun or accelerate launch")
    device = next(objective.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


def gather(objective: nn.Module) -> None:
    """Make sharded parameters whole again, in place; every process takes part."""
    for module in objective.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                whole = nn.Parameter(parameter.full_tensor().detach(), parameter.requires_grad)
                setattr(module, name, whole)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a network, which diffusers declares indivisible.

    Networks that say nothing are gathered whole.
    """
    names = set(getattr(network, "_no_split_modules", None) or ())
    return [module for module in network.modules() if type(module).__name__ in names]
