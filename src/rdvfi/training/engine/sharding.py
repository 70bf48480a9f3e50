"""Sharded training (FSDP2): every process holds a part of weights, gradients and optimiser state.

For backbones whose training state does not fit one device: 1.5 billion parameters with AdamW and
averages take 29 GiB in float32. Each block is gathered when it runs and dropped afterwards. Values
and updates are those of training in one process, to rounding.

The state of a run is kept whole, so that it goes on with any number of processes.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

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


def running_buffers(objective: nn.Module) -> dict[str, Tensor]:
    """Buffers that change while their module is trained, such as running means."""
    found = {}
    for prefix, module in objective.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            for name, buffer in module.named_buffers(recurse=False):
                if name not in module._non_persistent_buffers_set:
                    found[f"{prefix}.{name}" if prefix else name] = buffer
    return found


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU, gathered from all processes if it is sharded."""
    gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered.detach().cpu().clone()


def placed(value: Tensor, like: Tensor) -> Tensor:
    """``value`` on the device, in the layout and with the sharding of ``like``.

    The memory's layout matters: the same sum in another layout may be rounded otherwise.
    """
    if value.shape != like.shape:
        return value.clone()  # a counter of the optimiser, which lives on the CPU
    if isinstance(like, DTensor):
        value = value.to(like.device)
        return distribute_tensor(value, like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
