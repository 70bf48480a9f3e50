"""What training asks of a keyframe generator, whichever it is.

Inference needs one step from pure noise; training needs any noise level, on latents that are known.
`trainee_of` gives a generator this face. A generator of one's own brings it along by a method
``trainee() -> Trainee``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.backbones import diffusion
from rdvfi.backbones.compact.generator import CompactKeyframes, knot_times
from rdvfi.interfaces import KeyframeGenerator, Keyframes

Latent = Float[Tensor, "b c hz wz"]
Latents = Float[Tensor, "b k c hz wz"]
EndFlows = Float[Tensor, "b 2 2 h w"]
Levels = Float[Tensor, " b"]


class NoiseProcess(ABC):
    """How data and noise are mixed at a level in [0, 1], and what the network predicts of it."""

    @abstractmethod
    def mix(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """Noisy latents."""

    @abstractmethod
    def target(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """What the network should answer."""

    @abstractmethod
    def answer(self, noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
        """What the network must have answered to have come to ``clean``; sigma > 0."""


class VariancePreserving(NoiseProcess):
    """Cosine mixing and v-prediction: `rdvfi.backbones.diffusion`."""

    def mix(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``a z + s eps``."""
        return diffusion.add_noise(clean, noise, sigma)

    def target(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``v = a eps - s z``."""
        return diffusion.velocity(clean, noise, sigma)

    def answer(self, noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
        """``(a z_sigma - z) / s``."""
        return diffusion.velocity_from_clean(noisy, clean, sigma)


class FlowMatching(NoiseProcess):
    """Linear mixing and its velocity: rectified flow, Wan's."""

    def mix(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``(1 - sigma) z + sigma eps``."""
        level = _like(sigma, clean)
        return (1.0 - level) * clean + level * noise

    def target(self, clean: Latents, noise: Latents, sigma: Levels) -> Latents:
        """``eps - z``."""
        return noise - clean

    def answer(self, noisy: Latents, clean: Latents, sigma: Levels) -> Latents:
        """``(z_sigma - z) / sigma``."""
        return (noisy - clean) / _like(sigma, clean)


def _like(sigma: Levels, latents: Latents) -> Tensor:
    return sigma.to(latents)[:, None, None, None, None]


@dataclass(frozen=True, eq=False)
class Given:
    """What keyframes are made from: both end frames, their latents, and the coarse motion."""

    img0: Float[Tensor, "b 3 h w"]
    img1: Float[Tensor, "b 3 h w"]
    first: Latent
    last: Latent
    end_flows: EndFlows | None


@dataclass(frozen=True, eq=False)
class Prediction:
    """Clean latents of what a generator makes, and the keyframes that they come to."""

    clean: Latents
    keyframes: Keyframes


class Trainee(ABC):
    """A generator under training.

    Attributes:
        network: What stage 2 trains.
        process: Its noise.
        times: Times of all knots, ends included.
    """

    network: nn.Module
    process: NoiseProcess
    times: Float[Tensor, " k"]

    @abstractmethod
    def made(self, latents: Latents) -> Float[Tensor, "b n c hz wz"]:
        """Those of all knots' latents that the network makes."""

    @abstractmethod
    def end_flows(self, first: Tensor, last: Tensor) -> EndFlows | None:
        """The coarse motion that it starts from, if it uses one."""

    @abstractmethod
    def predict(self, given: Given, noisy: Latents, sigma: Levels) -> Prediction:
        """Clean latents from noisy ones between two ends."""


@runtime_checkable
class Trainable(Protocol):
    """A generator that brings its own trainee."""

    def trainee(self) -> Trainee: ...


def trainee_of(generator: KeyframeGenerator) -> Trainee:
    """The face that training sees.

    Raises:
        TypeError: If the generator has nothing that diffuses.
    """
    if isinstance(generator, Trainable):
        return generator.trainee()
    if isinstance(generator, CompactKeyframes):
        return CompactTrainee(generator)
    kind = type(generator).__name__
    if kind in _ADAPTERS:
        return _ADAPTERS[kind](generator)
    raise TypeError(
        f"{kind} cannot be trained: it has no method `trainee`, which says how it makes keyframes "
        "at any noise level (see rdvfi.training.trainee)"
    )


class CompactTrainee(Trainee):
    """RDVFI-S: the knots between the ends, from straight lines along a coarse flow."""

    def __init__(self, generator: CompactKeyframes) -> None:
        self._generator, self.network = generator, generator.denoiser
        self.process, self.times = VariancePreserving(), knot_times(torch.device("cpu"))

    def made(self, latents: Latents) -> Float[Tensor, "b n c hz wz"]:
        """All but the ends."""
        return latents[:, 1:-1]

    def end_flows(self, first: Tensor, last: Tensor) -> EndFlows | None:
        """The coarse estimator's."""
        return self._generator.coarse_flows(first, last)

    def predict(self, given: Given, noisy: Latents, sigma: Levels) -> Prediction:
        """See `Trainee.predict`."""
        flows = given.end_flows
        if flows is None:
            raise ValueError("the compact backbone starts from coarse flows; got none")
        ends = self._generator.ends(given.first, given.last, flows[:, 0], flows[:, 1])
        bent = self._generator.denoise(ends, noisy, sigma)
        return Prediction(bent.latents, self._generator.keyframes(ends, bent, flows))


class VideoTrainee(Trainee):
    """RDVFI-D and -U: a video model that makes all frames, whose ends are then replaced.

    Args:
        generator: The keyframe generator.
        network: Its diffusion network.
        process: Its noise.
        denoise: Clean latents of all frames from noisy ones.
    """

    def __init__(
        self,
        generator: Any,
        network: nn.Module,
        process: NoiseProcess,
        denoise: Callable[[Given, Latents, Levels], Latents],
    ) -> None:
        self.network, self.process = network, process
        times = getattr(generator, "times", None)
        self.times = knot_times(torch.device("cpu")) if times is None else times.cpu()
        self._denoise = denoise

    def made(self, latents: Latents) -> Float[Tensor, "b n c hz wz"]:
        """All, the ends too."""
        return latents

    def end_flows(self, first: Tensor, last: Tensor) -> EndFlows | None:
        """None: it finds the motion by itself."""
        return None

    def predict(self, given: Given, noisy: Latents, sigma: Levels) -> Prediction:
        """See `Trainee.predict`."""
        clean = self._denoise(given, noisy, sigma)
        inner = clean[:, 1:-1]
        latents = torch.cat((given.first[:, None], inner, given.last[:, None]), dim=1)
        return Prediction(clean, Keyframes(latents, self.times.to(latents.device)))


def _svd(generator: Any) -> Trainee:
    def denoise(given: Given, noisy: Latents, sigma: Levels) -> Latents:
        return generator.denoise(given.first, given.last, noisy, sigma)

    return VideoTrainee(generator, generator.unet, VariancePreserving(), denoise)


def _wan(generator: Any) -> Trainee:
    if generator.frames.causal:
        raise TypeError("training needs single-frame latents; this Wan model has causal ones")

    def denoise(given: Given, noisy: Latents, sigma: Levels) -> Latents:
        with torch.no_grad():
            known = generator.condition(given.img0, given.img1, given.first, given.last)
        return generator.denoise(noisy.transpose(1, 2), sigma, known).transpose(1, 2)

    return VideoTrainee(generator, generator.transformer, FlowMatching(), denoise)


# By name: importing their modules would import diffusers.
_ADAPTERS: dict[str, Callable[[Any], Trainee]] = {"SVDKeyframes": _svd, "WanKeyframes": _wan}
