"""Conversion of the state of a run to and from checkpoints, sharded or not."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


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
