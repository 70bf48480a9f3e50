"""Losses of one-step diffusion, and its noise levels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses
from rdvfi.training.objectives.training_step import TrainingStep


def rising_noise_level(moment: TrainingStep, count: int, *, low: float = 0.3, rise: float = 0.6) -> Float[Tensor, " b"]:
    """Noise levels from U(l, 1), ``l`` rising linearly from ``low`` to 1 over a share of training.

    The paper raises the lower bound until only pure noise is left, which is all that one-step
    generation uses. It starts above zero because the velocity of nearly clean latents says nothing.
    """
    share = min(1.0, moment.progress / rise) if rise > 0 else 1.0
    bottom = low + (1.0 - low) * share
    return bottom + (1.0 - bottom) * moment.uniform(count)


@losses.register("theta")
class Theta(Loss):
    """The diffusion loss: mean squared error of the network's prediction."""

    needs = Needs.VELOCITY

    def forward(self, evidence: Evidence) -> Tensor:
        """Of the network's own target: v, or the velocity of flow matching."""
        assert evidence.velocity is not None
        return F.mse_loss(*evidence.velocity)


@losses.register("imle")
class NearestDraw(Loss):
    """Implicit maximum likelihood: of several draws only the nearest learns.

    A squared error makes the mean of all that is possible, and so the same result from every noise.
    Here each truth pulls only the draw that is nearest to it, and draws may stay apart. Li and
    Malik, "Implicit maximum likelihood estimation", 2018, https://arxiv.org/abs/1809.09087.
    """

    needs = Needs.SAMPLER

    def __init__(self, *, draws: int = 4) -> None:
        super().__init__()
        if draws < 1:
            raise ValueError(f"imle needs at least one draw; got {draws}")
        self.draws = draws

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean squared error of the nearest draw; the others are made without gradients."""
        assert evidence.sampler is not None
        sample, clean = evidence.sampler.sample, evidence.sampler.clean
        noises = [evidence.sampler.moment.normal(*clean.shape) for _ in range(self.draws)]
        with torch.no_grad():
            errors = [(sample(noise) - clean).square().flatten(1).mean(1) for noise in noises]
            nearest = torch.stack(errors).argmin(0)
        chosen = torch.stack(noises)[nearest, torch.arange(len(nearest), device=nearest.device)]
        return F.mse_loss(sample(chosen), clean)
