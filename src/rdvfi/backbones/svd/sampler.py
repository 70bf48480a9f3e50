"""Stable Video Diffusion's noise levels, and its sampler of several steps.

It was trained in the convention of Karras et al. ("Elucidating the design space of diffusion-based
generative models", NeurIPS 2022, https://arxiv.org/abs/2206.00364): noise of standard deviation S
is *added*, x = z + S eps, and the network is preconditioned by

    c_in = 1 / sqrt(S^2 + 1),  c_skip = c_in^2,  c_out = -S c_in,  c_noise = ln(S) / 4.

With a = c_in and s = S c_in, so that a^2 + s^2 = 1, what enters the network is c_in x = a z + s eps
and its answer makes the sample c_skip x + c_out F = a (a z + s eps) - s F. That is the
v-prediction of `rdvfi.backbones.diffusion` to the letter, at the level sigma with S = tan(pi sigma
/ 2). Pure noise is S = 700 here, sigma = 0.99909, where the network reads eps itself.
"""

import math
import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

STRONGEST = 700.0
"""Standard deviation of the added noise from which sampling starts."""
FAINTEST = 0.002
PURE = math.atan(STRONGEST) * 2.0 / math.pi
"""The noise level of a single step."""

Latents = Float[Tensor, "b k c hz wz"]

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "sigma_min": FAINTEST,
    "sigma_max": STRONGEST,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The published scheduler: EulerDiscreteScheduler of diffusers."""


def added_noise(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Standard deviation S of the added noise at levels in [0, 1], within what was trained."""
    return torch.tan(sigma.double() * (math.pi / 2)).clamp(FAINTEST, STRONGEST).float()


def within_range(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Levels moved into the range that was trained; 1 becomes `PURE`."""
    return sigma.clamp(math.atan(FAINTEST) * 2 / math.pi, PURE)


def noise_condition(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """What the network is told of the noise: ``ln(S) / 4``."""
    return added_noise(sigma).log() / 4.0


def euler(velocity: Callable[[Latents, Float[Tensor, " 1"]], Latents], noise: Latents, steps: int) -> Latents:
    """Clean latents in several steps of diffusers' own Euler scheduler.

    Args:
        velocity: The network's answer to ``c_in x``, told ``ln(S) / 4``.
        noise: Standard normal.
        steps: How many evaluations.
    """
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(**SCHEDULE)  # it counts its steps, so it is new each time
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation")  # theirs, of numpy 2
        scheduler.set_timesteps(steps, device=noise.device)
    # At these amplitudes half precision has no digits left, so the state is float32.
    state = noise.float() * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        entered = scheduler.scale_model_input(state, timestep).to(noise)
        answer = velocity(entered, timestep.float().view(1)).float()
        state = scheduler.step(answer, timestep, state, return_dict=False)[0]
    return state.to(noise)
