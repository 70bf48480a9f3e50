"""LoRA: trainable low-rank updates of frozen linear layers.

A frozen layer ``W`` becomes ``W + (alpha / rank) B A`` with ``A`` (rank x in) random and ``B``
(out x rank) zero, so training starts from the layer as it was (Hu et al., ICLR 2022,
https://arxiv.org/abs/2106.09685). `merge` puts the additions into the weights for good.
`lora_state` has the names that peft and diffusers write, which `rdvfi.backbones.merge_lora` reads.

peft does the same, and diffusers does it through peft; but peft brings transformers and tokenizers,
which nothing else here needs.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """A frozen linear layer with a low-rank addition.

    Args:
        base: The layer.
        rank: Inner size of the addition.
        alpha: It is scaled by ``alpha / rank``.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.alpha, self.scale = alpha, alpha / rank
        place = {"device": base.weight.device, "dtype": torch.float32}
        self.down = nn.Parameter(torch.empty(rank, base.in_features, **place))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **place))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's answer and the addition's."""
        added = nn.functional.linear(nn.functional.linear(x, self.down.to(x)), self.up.to(x))
        return self.base(x) + self.scale * added

    def difference(self) -> Tensor:
        """The update of the weight by `merge`."""
        return self.scale * (self.up @ self.down)


def add_lora(network: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> list[str]:
    """Freeze a network and give some of its linear layers additions, in place.

    Args:
        network: The network.
        targets: Ends of the names of those layers, whole parts of a name: ``to_q``, ``ffn.net.2``.
        rank: Inner size of the additions.
        alpha: They are scaled by ``alpha / rank``.

    Returns:
        The names of the layers.

    Raises:
        ValueError: If the rank is below 1, or no linear layer has such a name.
    """
    if rank < 1:
        raise ValueError(f"lora.rank must be at least 1; got {rank}")
    network.requires_grad_(False)
    chosen = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    if not chosen:
        raise ValueError(f"no linear layer of this {type(network).__name__} ends in {', '.join(targets)}")
    for name in chosen:
        base = network.get_submodule(name)
        assert isinstance(base, nn.Linear)
        network.set_submodule(name, LowRank(base, rank, alpha))
    return chosen


def lora_state(network: nn.Module) -> dict[str, Tensor]:
    """The additions alone: two matrices and a scale per layer."""
    state: dict[str, Tensor] = {}
    for name, layer in _layers(network):
        state[f"{name}.lora_A.weight"] = layer.down.detach()
        state[f"{name}.lora_B.weight"] = layer.up.detach()
        state[f"{name}.alpha"] = torch.tensor(layer.alpha)
    return state


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Put all additions into the weights, in place; the plain layers are back."""
    for name, layer in _layers(network):
        layer.base.weight += layer.difference().to(layer.base.weight)
        network.set_submodule(name, layer.base)


def _layers(network: nn.Module) -> list[tuple[str, LowRank]]:
    return [(name, m) for name, m in network.named_modules() if isinstance(m, LowRank)]
