"""Losses of both stages, as plain functions.

Flows are compared with the exact flow of procedural scenes by a robust distance (the end-point
error to the power 0.8), in latent pixels; points that the end frame does not show count less,
because only smoothness can tell where they went. Pictures are compared by L1 and by their
gradients.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

HIDDEN_WEIGHT = 0.2
"""Weight of points that are hidden or outside in the frame that the flow points to."""


def flow_loss(
    flow: Float[Tensor, "*n 2 h w"],
    exact: Float[Tensor, "*n 2 h w"],
    visible: Float[Tensor, "*n h w"],
) -> Tensor:
    """Weighted mean of the robust end-point error; flows in latent pixels."""
    error = ((flow - exact).square().sum(-3) + 1e-3).pow(0.4)
    weight = HIDDEN_WEIGHT + (1.0 - HIDDEN_WEIGHT) * visible
    return (weight * error).sum() / weight.sum()


def picture_loss(output: Float[Tensor, "*n 3 h w"], truth: Float[Tensor, "*n 3 h w"]) -> Tensor:
    """L1 of colours and of their differences across one and two pixels."""
    loss = F.l1_loss(output, truth)
    for step in (1, 2):
        dx = (output[..., step:] - output[..., :-step]) - (truth[..., step:] - truth[..., :-step])
        dy = (output[..., step:, :] - output[..., :-step, :]) - (
            truth[..., step:, :] - truth[..., :-step, :]
        )
        loss = loss + 0.5 * (dx.abs().mean() + dy.abs().mean())
    return loss


def squared_error(output: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error: the latent loss, and the L2 part of the reconstruction loss."""
    return F.mse_loss(output, truth)


def rising_noise_level(
    step: int, steps: int, count: int, generator: torch.Generator | None = None
) -> Float[Tensor, " b"]:
    """Noise levels from U(low, 1), ``low`` rising linearly from 0.3 to 1 over 60 % of training.

    The paper raises the lower bound until only pure noise is left, which is all that one-step
    generation uses. It starts above zero because the velocity of nearly clean latents says nothing.
    """
    low = min(1.0, 0.3 + 0.7 * step / (0.6 * steps))
    return low + (1.0 - low) * torch.rand(count, generator=generator)
