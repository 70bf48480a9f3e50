"""Noise levels and losses of one-step diffusion."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses
from rdvfi.training.objectives.training_step import TrainingStep


def sample_noise_levels(step: TrainingStep, count: int, *, low: float = 0.3, rise: float = 0.6) -> Float[Tensor, " b"]:
    """Random noise levels from U(l, 1), where l rises linearly from ``low`` to 1 over a fraction ``rise`` of training.

    As in the paper, the lower bound rises until only pure noise is left, which is all that one-step
    generation uses. It starts above zero because the velocity of nearly clean latents carries no information.
    """
    fraction = min(1.0, step.progress / rise) if rise > 0 else 1.0
    lowest = low + (1.0 - low) * fraction
    return lowest + (1.0 - lowest) * step.uniform(count)


@losses.register("theta")
class DiffusionLoss(Loss):
    """The diffusion loss L_theta: mean squared error of the network's prediction."""

    needs = Needs.VELOCITY

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean squared error in the network's parameterisation: v, or the velocity of flow matching."""
        assert evidence.velocity is not None
        return F.mse_loss(*evidence.velocity)


@losses.register("imle")
class NearestSampleLoss(Loss):
    """Implicit maximum likelihood estimation (IMLE): only the sample nearest to the truth is supervised.

    A squared error is minimised by the mean of all possible results, the same for every noise. With IMLE
    every truth attracts only the nearest of several samples, so samples can stay diverse. Li and
    Malik, "Implicit maximum likelihood estimation", 2018, https://arxiv.org/abs/1809.09087.

    Args:
        draws: Number of samples.
    """

    needs = Needs.SAMPLER

    def __init__(self, *, draws: int = 4) -> None:
        super().__init__()
        if draws < 1:
            raise ValueError(f"imle needs at least one draw; got {draws}")
        self.draws = draws

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean squared error of the nearest sample; the nearest is selected without gradients."""
        assert evidence.sampler is not None
        sample, clean = evidence.sampler.sample, evidence.sampler.clean
        noises = [evidence.sampler.step.normal(*clean.shape) for _ in range(self.draws)]
        with torch.no_grad():
            errors = [(sample(noise) - clean).square().flatten(1).mean(1) for noise in noises]
            nearest = torch.stack(errors).argmin(0)
        nearest_noise = torch.stack(noises)[nearest, torch.arange(len(nearest), device=nearest.device)]
        return F.mse_loss(sample(nearest_noise), clean)
