"""Diffusion processes: how clean latents and noise are mixed, and how latents are drawn from noise.

A clean latent z and standard normal noise eps are mixed at a noise level sigma in [0, 1], and a
network may predict a velocity v of the same two:

    x_sigma = a z + s eps,      v = c eps - d z,      with a c + s d = 1.

Then ``z = c x_sigma - s v`` and ``eps = d x_sigma + a v`` (`LinearProcess`). The processes differ in
the four coefficients:

* `VariancePreserving`: ``a = c = cos(pi sigma / 2)``, ``s = d = sin(pi sigma / 2)``, so that
  a^2 + s^2 = 1 and v is the v-prediction of Salimans and Ho ("Progressive distillation", 2022,
  https://arxiv.org/abs/2202.00512);
* `FlowMatching`: ``a = 1 - sigma``, ``s = sigma``, ``c = d = 1``: data and noise on a straight line, and
  the velocity eps - z (Lipman et al., "Flow matching for generative modeling", 2023,
  https://arxiv.org/abs/2210.02747);
* `EDM`: Karras et al. (2022) as Stable Video Diffusion uses it; see the class.

At pure noise, sigma = 1, one evaluation gives the sample. That single step is the whole sampler of RDVFI (ICLR 2026).
With several steps a process walks down its `levels`: the clean latents of one evaluation and the noise that they imply
are mixed anew at the next level (DDIM; Song et al., 2021, https://arxiv.org/abs/2010.02502), which is Euler's method
on the ordinary differential equation of the process.
"""

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import Denoised, NoiseProcess, Predict

Latents = Float[Tensor, "b n c hz wz"]
Levels = Float[Tensor, " b"]


class LinearProcess(NoiseProcess):
    """A process given by its four coefficients; see the module's text."""

    @abstractmethod
    def mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """``(a, s)``: the shares of data and of noise at each level."""

    @abstractmethod
    def velocity_mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """``(c, d)``: the shares of noise and of data in the velocity."""

    def levels(self, num_inference_steps: int) -> tuple[float, ...]:
        """Noise levels at which a network is evaluated, falling from pure noise; 0 follows them."""
        return tuple(1.0 - i / num_inference_steps for i in range(num_inference_steps))

    def add_noise(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``a z + s eps``."""
        a, s = self._shares(self.mixing(sigma), clean)
        return a * clean + s * noise

    def velocity(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``c eps - d z``."""
        c, d = self._shares(self.velocity_mixing(sigma), clean)
        return c * noise - d * clean

    def clean_from_velocity(self, noisy: Latents, velocity: Latents, sigma: Levels) -> Latents:
        """``c x - s v``."""
        c, _ = self._shares(self.velocity_mixing(sigma), noisy)
        _, s = self._shares(self.mixing(sigma), noisy)
        return c * noisy - s * velocity

    def velocity_from_clean(self, noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
        """``(c x - z) / s``."""
        c, _ = self._shares(self.velocity_mixing(sigma), noisy)
        _, s = self._shares(self.mixing(sigma), noisy)
        return (c * noisy - clean) / s

    def noise_from_clean(self, noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
        """``eps = (x - a z) / s``: the noise that clean latents imply; sigma > 0."""
        a, s = self._shares(self.mixing(sigma), noisy)
        return (noisy - a * clean) / s

    def sample(self, predict: Predict, noise: Latents, num_inference_steps: int = 1) -> Denoised:
        """Clean latents from pure noise; the state between the steps is float32."""
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1; got {num_inference_steps}")
        levels, noisy, denoised = self.levels(num_inference_steps), noise, None
        for step, (level, following) in enumerate(itertools.zip_longest(levels, levels[1:])):
            sigma = torch.full((len(noise),), level, device=noise.device)
            denoised = predict(noisy.to(noise), sigma, step)
            if following is None:
                break
            clean = denoised.latents.float()
            implied = self.noise_from_clean(noisy.float(), clean, sigma)
            noisy = self.add_noise(clean, implied, torch.full_like(sigma, following))
        assert denoised is not None
        return denoised

    @staticmethod
    def _shares(shares: tuple[Tensor, Tensor], like: Latents) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1,) * (like.dim() - 1))
        return shares[0].view(shape).to(like), shares[1].view(shape).to(like)


@dataclass(frozen=True)
class VariancePreserving(LinearProcess):
    """Cosine mixing and v-prediction: ``x = cos z + sin eps``, ``v = cos eps - sin z``."""

    def mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """``(cos, sin)`` of ``pi sigma / 2``."""
        angle = sigma.float() * (math.pi / 2.0)
        return torch.cos(angle), torch.sin(angle)

    def velocity_mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """The same two."""
        return self.mixing(sigma)


@dataclass(frozen=True)
class EDM(VariancePreserving):
    """The convention of Karras et al. with the constants of Stable Video Diffusion.

    "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
    https://arxiv.org/abs/2206.00364. Noise of standard deviation S is *added*, x = z + S eps, and
    the network is preconditioned by

        c_in = 1 / sqrt(S^2 + 1),  c_skip = c_in^2,  c_out = -S c_in,  c_noise = ln(S) / 4.

    With a = c_in and s = S c_in, so that a^2 + s^2 = 1, what enters the network is c_in x = a z + s eps, and its
    answer F makes the sample c_skip x + c_out F = a (a z + s eps) - s F. That is `VariancePreserving` to the letter,
    at the level sigma with S = tan(pi sigma / 2). The network knows no other S than those from ``faintest`` to
    ``strongest``: other levels are moved there, and pure noise is S = 700, sigma = 0.99909.
    """

    strongest: float = 700.0
    faintest: float = 0.002

    def within(self, sigma: Levels) -> Levels:
        """Levels moved into the range that the network knows."""
        return sigma.clamp(_level_of(self.faintest), _level_of(self.strongest))

    def mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """`VariancePreserving.mixing`, with noise levels clamped to the known range."""
        return super().mixing(self.within(sigma))

    def added_noise(self, sigma: Levels) -> Levels:
        """The standard deviation S at levels in [0, 1], within the known range."""
        return torch.tan(sigma.double() * (math.pi / 2)).clamp(self.faintest, self.strongest).float()

    def levels(self, num_inference_steps: int) -> tuple[float, ...]:
        """Karras et al., equation 5 with rho = 7."""
        if num_inference_steps == 1:
            return (_level_of(self.strongest),)
        high, low = self.strongest ** (1 / 7), self.faintest ** (1 / 7)
        shares = (i / (num_inference_steps - 1) for i in range(num_inference_steps))
        return tuple(_level_of((high + share * (low - high)) ** 7) for share in shares)


def _level_of(strength: float) -> float:
    return math.atan(strength) * 2.0 / math.pi


class Sampler(Enum):
    """diffusers' schedulers for flow matching."""

    EULER = "euler"
    UNIPC = "unipc"


@dataclass(frozen=True)
class FlowMatching(LinearProcess):
    """Data and noise on a straight line, ``x = (1 - sigma) z + sigma eps``, ``v = eps - z``.

    Attributes:
        sampler: The scheduler, where there is more than one step.
        shift: How much longer several steps stay at high noise: 3 for Wan at 480p, 5 for its training.
    """

    sampler: Sampler = Sampler.EULER
    shift: float = 5.0

    def mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """``(1 - sigma, sigma)``."""
        return 1.0 - sigma.float(), sigma.float()

    def velocity_mixing(self, sigma: Levels) -> tuple[Tensor, Tensor]:
        """One of each."""
        one = torch.ones_like(sigma, dtype=torch.float32)
        return one, one

    def levels(self, num_inference_steps: int) -> tuple[float, ...]:
        """The times of diffusers' scheduler as it tells them to a network, of 1000 (UniPC rounds)."""
        if num_inference_steps == 1:
            return (1.0,)
        return tuple(float(time) / 1000.0 for time in self.scheduler(num_inference_steps).timesteps)

    def scheduler(self, num_inference_steps: int) -> Any:
        """A new scheduler of diffusers, set to a number of steps; it counts them."""
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        if self.sampler is Sampler.EULER:
            scheduler = FlowMatchEulerDiscreteScheduler(shift=self.shift)
        else:
            scheduler = UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=self.shift
            )
        scheduler.set_timesteps(num_inference_steps)
        return scheduler

    def sample(self, predict: Predict, noise: Latents, num_inference_steps: int = 1) -> Denoised:
        """As `LinearProcess.sample`; UniPC's steps are those of diffusers' scheduler."""
        if num_inference_steps <= 1 or self.sampler is Sampler.EULER:
            return super().sample(predict, noise, num_inference_steps)
        scheduler, noisy, denoised = self.scheduler(num_inference_steps), noise.float(), None
        for step, (level, time) in enumerate(zip(self.levels(num_inference_steps), scheduler.timesteps, strict=True)):
            sigma = torch.full((len(noise),), level, device=noise.device)
            denoised = predict(noisy.to(noise), sigma, step)
            velocity = self.velocity_from_clean(noisy, denoised.latents.float(), sigma)
            noisy = scheduler.step(velocity, time, noisy, return_dict=False)[0]
        assert denoised is not None
        return replace(denoised, latents=noisy.to(noise))
