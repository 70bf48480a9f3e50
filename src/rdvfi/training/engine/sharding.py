"""Sharded training (FSDP2): every process holds a part of weights, gradients and optimiser state.

For backbones whose training state does not fit on one device: 1.5 billion parameters with AdamW and
averages take 29 GiB in float32. Each block is gathered when it runs and freed afterwards. Results equal those of
training in one process up to rounding.

Checkpoints contain full tensors, so a run can resume with any number of processes.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rdvfi.training.objectives.objective import Objective


def shard_objective(objective: Objective, blocks: Iterable[nn.Module]) -> Objective:
    """Shard the weights of an objective over all processes, in place; then only its ``forward`` may be called.

    ``blocks`` are gathered one at a time, other weights together.

    Raises:
        RuntimeError: If there is only one process.
    """
    if not dist.is_initialized():
        raise RuntimeError("sharding needs several processes: start with torchrun or accelerate launch")
    device = next(objective.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


def gather_parameters(objective: nn.Module) -> None:
    """Replace sharded parameters by full ones, in place; all processes must call it."""
    for module in objective.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(module, name, nn.Parameter(parameter.full_tensor().detach(), parameter.requires_grad))


def indivisible_blocks(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a diffusers network (its ``_no_split_modules``); none for other networks."""
    names = set(getattr(network, "_no_split_modules", None) or ())
    return [module for module in network.modules() if type(module).__name__ in names]


def running_buffers(objective: nn.Module) -> dict[str, Tensor]:
    """Buffers of trained modules, such as running means, by name."""
    buffers = {}
    for prefix, module in objective.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            for name, buffer in module.named_buffers(recurse=False):
                if name not in module._non_persistent_buffers_set:
                    buffers[f"{prefix}.{name}" if prefix else name] = buffer
    return buffers


def full_tensor(tensor: Tensor) -> Tensor:
    """A copy on the CPU, gathered from all processes if it is sharded."""
    gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered.detach().cpu().clone()


def place_like(value: Tensor, like: Tensor) -> Tensor:
    """``value`` on the device, in the memory format and with the sharding of ``like``.

    The memory format matters: sums in another order are rounded differently.
    """
    if value.shape != like.shape:
        return value.clone()  # a step counter of the optimiser, on the CPU
    if isinstance(like, DTensor):
        value = value.to(like.device)
        return distribute_tensor(value, like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
