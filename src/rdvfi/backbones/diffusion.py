"""One-step diffusion: the algebra between data, noise and velocity, as pure functions.

A clean latent z and standard normal noise eps are mixed at noise level sigma in [0, 1] by

    z_sigma = a z + s eps,      a = cos(pi sigma / 2),  s = sin(pi sigma / 2),

so a^2 + s^2 = 1, and the network predicts ``v = a eps - s z`` (Salimans & Ho, 2022). Then ``z = a
z_sigma - s v`` and ``eps = s z_sigma + a v``. At pure noise, sigma = 1, one evaluation gives the
sample: ``z = -v``. That single step is the whole sampler of RDVFI (ICLR 2026).
"""

import math

import torch
from torch import Tensor


def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``(a, s)``: the shares of data and of noise at each noise level."""
    angle = sigma * (math.pi / 2.0)
    return torch.cos(angle), torch.sin(angle)


def _like(sigma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    a, s = coefficients(sigma.float())
    shape = (-1, *(1,) * (x.dim() - 1))
    return a.view(shape).to(x), s.view(shape).to(x)


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``z_sigma``: clean latents (b, ...) at noise levels (b,)."""
    a, s = _like(sigma, clean)
    return a * clean + s * noise


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """The target ``v = a eps - s z``."""
    a, s = _like(sigma, clean)
    return a * noise - s * clean


def clean_from_velocity(noisy: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """``z = a z_sigma - s v``."""
    a, s = _like(sigma, noisy)
    return a * noisy - s * v


def velocity_from_clean(noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """``v = (a z_sigma - z) / s`` for a network that predicts z; sigma > 0."""
    a, s = _like(sigma, noisy)
    return (a * noisy - clean) / s
