"""LoRA: trainable low-rank updates of frozen linear layers.

A frozen layer ``W`` becomes ``W + (alpha / rank) B A`` with ``A`` (rank x in) random and ``B``
(out x rank) zero, so training starts from the original layer (Hu et al., ICLR 2022,
https://arxiv.org/abs/2106.09685). `merge_lora_layers` adds the updates to the weights permanently.
`lora_state` uses the names of peft and diffusers, which `rdvfi.backbones.merge_lora` reads.

peft is not used, since it depends on transformers and tokenizers, which nothing else here needs.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank update, scaled by ``alpha / rank``."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.alpha, self.scale = alpha, alpha / rank
        options = {"device": base.weight.device, "dtype": torch.float32}
        self.down = nn.Parameter(torch.empty(rank, base.in_features, **options))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **options))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Output of the layer with its update."""
        update = nn.functional.linear(nn.functional.linear(x, self.down.to(x)), self.up.to(x))
        return self.base(x) + self.scale * update

    def weight_update(self) -> Tensor:
        """The update of the weight matrix."""
        return self.scale * (self.up @ self.down)


def add_lora(network: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> list[str]:
    """Freeze a network and add low-rank updates to some of its linear layers, in place; returns their names.

    ``targets`` are ends of these names, in complete components, such as ``to_q`` or ``ffn.net.2``. Updates are scaled
    by ``alpha / rank``.

    Raises:
        ValueError: If the rank is below 1, or no linear layer has such a name.
    """
    if rank < 1:
        raise ValueError(f"lora.rank must be at least 1; got {rank}")
    network.requires_grad_(False)
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    if not names:
        raise ValueError(f"no linear layer of this {type(network).__name__} ends in {', '.join(targets)}")
    for name in names:
        base = network.get_submodule(name)
        assert isinstance(base, nn.Linear)
        network.set_submodule(name, LoraLinear(base, rank, alpha))
    return names


def lora_state(network: nn.Module) -> dict[str, Tensor]:
    """The updates alone: two matrices and a scale per layer."""
    state: dict[str, Tensor] = {}
    for name, layer in _lora_layers(network):
        state[f"{name}.lora_A.weight"] = layer.down.detach()
        state[f"{name}.lora_B.weight"] = layer.up.detach()
        state[f"{name}.alpha"] = torch.tensor(layer.alpha)
    return state


@torch.no_grad()
def merge_lora_layers(network: nn.Module) -> None:
    """Add all updates to the weights and restore the plain layers, in place."""
    for name, layer in _lora_layers(network):
        layer.base.weight += layer.weight_update().to(layer.base.weight)
        network.set_submodule(name, layer.base)


def _lora_layers(network: nn.Module) -> list[tuple[str, LoraLinear]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LoraLinear)]
