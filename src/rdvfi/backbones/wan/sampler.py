"""From noise to latents with a flow-matching network.

Wan mixes data and noise on a straight line, ``x_s = (1 - s) z + s eps``, and answers with the
velocity ``u = eps - z`` (Lipman et al., Flow Matching for Generative Modeling, 2023). So
``z = x_s - s u`` at any noise level, and at pure noise, s = 1, one evaluation gives the sample:
``z = eps - u``. That is RDVFI's single step. With more steps, diffusers' own schedulers walk from
noise to data; with one they do the same.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "b c f h w"]
Velocity = Callable[[Tensor, float, int], Tensor]
"""The network: noisy latents, diffusion time (0 to 1000) and number of the step, to velocity."""

PURE = 1000.0
"""Diffusion time of pure noise."""


class Sampler(Enum):
    """diffusers' schedulers that Wan is used with."""

    EULER = "FlowMatchEulerDiscreteScheduler"
    UNIPC = "UniPCMultistepScheduler"


def clean_from_flow(
    noisy: Float[Tensor, "b c f h w"], u: Float[Tensor, "b c f h w"], sigma: Float[Tensor, " b"]
) -> Latents:
    """``z = x_s - s u``."""
    return noisy - sigma.to(noisy).view(-1, 1, 1, 1, 1) * u


def add_flow_noise(
    clean: Float[Tensor, "b c f h w"], noise: Float[Tensor, "b c f h w"], sigma: Float[Tensor, " b"]
) -> Latents:
    """``x_s = (1 - s) z + s eps``: clean latents at noise levels ``sigma`` in [0, 1]."""
    s = sigma.to(clean).view(-1, 1, 1, 1, 1)
    return (1.0 - s) * clean + s * noise


def make_scheduler(sampler: Sampler, steps: int, shift: float) -> Any:
    """The scheduler, set to a number of steps.

    Args:
        sampler: Which one.
        steps: Evaluations of the network.
        shift: How much longer it stays at high noise: 3 for Wan at 480p, 5 for its training.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    if sampler is Sampler.EULER:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    else:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


def timesteps(sampler: Sampler, steps: int, shift: float) -> tuple[float, ...]:
    """The diffusion times at which the network is evaluated."""
    if steps == 1:
        return (PURE,)
    return tuple(float(t) for t in make_scheduler(sampler, steps, shift).timesteps)


def sample(
    noise: Float[Tensor, "b c f h w"],
    velocity: Velocity,
    *,
    sampler: Sampler = Sampler.EULER,
    steps: int = 1,
    shift: float = 5.0,
) -> Latents:
    """Latents from pure noise.

    Args:
        noise: Standard normal.
        velocity: The network.
        sampler: The scheduler, where there is more than one step.
        steps: Evaluations of the network.
        shift: See `make_scheduler`; without effect on a single step.
    """
    if steps == 1:
        return noise - velocity(noise, PURE, 0)
    scheduler, x = make_scheduler(sampler, steps, shift), noise
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(velocity(x, float(t), i), t, x, return_dict=False)[0].to(noise)
    return x
