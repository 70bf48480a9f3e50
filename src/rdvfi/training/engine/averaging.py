"""Averaged weights: an exponential moving average in float32.

Only what is trained is averaged, always in float32: in bfloat16 a decay of 0.9999 never moves.
(timm's `ModelEmaV3` copies the whole module, frozen backbone included.) Early steps are averaged
over less, so that the start is forgotten: the decay of step n is at most ``(n + 1) / (n + 10)``.
"""

import torch
from torch import Tensor, nn


class Averages:
    """Moving averages of named parameters.

    Args:
        parameters: What is averaged; also the starting values.
        decay: Of one step, in the long run.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.values: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the parameters after step number ``step`` in."""
        decay = min(self._decay, (step + 1) / (step + 10))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter.detach().float(), 1.0 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Put the averages in the parameters' place."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.values[name])
