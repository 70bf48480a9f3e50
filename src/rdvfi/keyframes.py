"""The interface of the first stage: keyframes, and the diffusion models that generate them.

A `KeyframeGenerator` is a latent diffusion model of a few instants between two frames. It encodes
the frames (`KeyframeGenerator.encode`), computes the input of its network from them (`condition`), and
predicts clean latents from noisy ones (`denoise`); its `NoiseProcess` defines the noise levels. Sampling
`Keyframes` from pure noise is the same for all generators and implemented here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.ops import fill_occluded
from rdvfi.types import SmallImage, short_repr


@dataclass(frozen=True, eq=False)
class MotionPrior:
    """Motion that a generator estimates in addition to its keyframes.

    Generators that estimate none, such as the video models Wan and SVD, give no prior.
    """

    end_flows: Float[Tensor, "b 2 2 hm wm"]
    """Coarse motion between the two frames: ``[:, 0]`` from first to last on the grid of the first,
    ``[:, 1]`` from last to first on the grid of the last, in pixels of that grid."""
    residual_motion: Float[Tensor, "b k 2 2 hz wz"] | None = None
    """Deviation from straight motion at constant velocity along ``end_flows``, at every knot: of the flow to the
    first frame (``[:, :, 0]``) and of the flow to the last (``[:, :, 1]``), on the TARGET grid of
    the latents and in its pixels; zero at both ends. None means zero."""

    __repr__ = short_repr

    def flipped(self) -> "MotionPrior":
        """The same motion played backwards."""
        residual = None if self.residual_motion is None else self.residual_motion.flip(1, 2)
        return MotionPrior(self.end_flows.flip(1), residual)


@dataclass(frozen=True, eq=False)
class Keyframes:
    """Sparse instants between two frames, **both ends included**."""

    latents: Float[Tensor, "b k c hz wz"]
    """Normalised to about unit variance."""
    times: Float[Tensor, " k"]
    images: Float[Tensor, "b k 3 h w"] | None = None
    """The decoded keyframes, and the *real* frames at motion size at both ends; present if the flow
    estimator reads pixels."""
    prior: MotionPrior | None = None
    """Motion that the generator has estimated, if it estimates any."""

    __repr__ = short_repr

    def flipped(self) -> "Keyframes":
        """The same keyframes played backwards."""
        return Keyframes(
            self.latents.flip(1),
            1.0 - self.times.flip(0),
            None if self.images is None else self.images.flip(1),
            None if self.prior is None else self.prior.flipped(),
        )


def check_declared(cls: type, replaced: Mapping[str, str]) -> None:
    """Check that a class declares no member of an older version of this package that was replaced.

    Raises:
        TypeError: If it does; the replacement is named.
    """
    for name in replaced.keys() & vars(cls).keys():
        raise TypeError(f"{cls.__name__}.{name} is of rdvfi 0.1.0; it was replaced by {replaced[name]}")


@dataclass(frozen=True, eq=False)
class Condition:
    """The input that keyframes are generated from. Backbones extend it by further inputs of their network."""

    latent0: Float[Tensor, "b c hz wz"]
    """``encode(img0)``."""
    latent1: Float[Tensor, "b c hz wz"]
    """``encode(img1)``."""
    prior: MotionPrior | None = None
    """The coarse motion, for generators that estimate one."""


@dataclass(frozen=True, eq=False)
class Denoised:
    """The prediction of a network: clean latents."""

    latents: Float[Tensor, "b n c hz wz"]
    residual_motion: Float[Tensor, "b m 2 2 hz wz"] | None = None
    """See `MotionPrior.residual_motion`; for the ``m = k - 2`` keyframes between the ends."""


Predict = Callable[[Tensor, Tensor, int], Denoised]
"""A function from noisy latents, their noise levels (b,) and the index of the step to clean latents."""


class NoiseProcess(ABC):
    """How clean latents and noise are mixed at a noise level sigma in [0, 1], and how they are recovered.

    Level 0 is clean and 1 is pure noise. `rdvfi.backbones.diffusion` has the implementations.
    """

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noisy latents: clean ones (b, ...) mixed with standard normal noise at levels (b,)."""

    @abstractmethod
    def velocity(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The velocity: the combination of both that a network is trained to predict, and that losses compare."""

    @abstractmethod
    def clean_from_velocity(self, noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
        """Clean latents from noisy ones and their velocity."""

    @abstractmethod
    def velocity_from_clean(self, noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
        """The velocity that leads from noisy latents to clean ones; sigma > 0."""

    @abstractmethod
    def sample(self, predict: Predict, noise: Tensor, num_inference_steps: int = 1) -> Denoised:
        """Clean latents from pure noise, in one evaluation of ``predict`` or in several."""


_REPLACED = {
    "gives_end_flows": "gives_prior, and Keyframes(end_flows=...) by Condition(prior=MotionPrior(...))",
    "forward": "condition and denoise, from which forward follows",
    "continued": "condition(img0, img1, latent0=...)",
    "keyframe_count": "knot_times",
    "trainee": "noise_process, denoise and the attribute denoiser",
}


class KeyframeGenerator(nn.Module, ABC):
    """The backbone: generates latent keyframes between two frames at motion size.

    A backbone defines how frames are encoded (`encode`), what its network reads of two frames
    (`condition`), and how clean latents are predicted from noisy ones (`denoise`). Inference and every stage
    of training use only these methods, so a backbone that implements them can be trained. The network that
    ``denoise`` evaluates, which the diffusion stage trains, is the attribute ``denoiser``.
    """

    latent_channels: int
    stride: int
    """Motion-size pixels per latent pixel."""
    size_multiple: int = 16
    """Both sides of its input frames are multiples of this."""
    knot_times: tuple[float, ...] = tuple(i / 8 for i in range(9))
    """Times of the keyframes, both ends included."""
    noise_process: NoiseProcess | None = None
    """How its latents are mixed with noise; None for a generator without diffusion."""
    num_inference_steps: int = 1
    """Evaluations of `denoise` per pair of frames."""
    time_symmetric: bool = False
    """Whether swapped frames and flipped noise give flipped keyframes."""
    gives_prior: bool = False
    """Whether its keyframes carry a `MotionPrior`."""
    coarse: Any
    """Estimator of that prior, unless it overrides `condition`: a `rdvfi.interfaces.FlowEstimator` on pixels."""
    encodes_keyframes: bool = True
    """Whether each keyframe is the `encode` of one frame, so that real frames are its training targets."""
    pretrained: bool = False
    """Whether its weights come trained for this use, so that no training is required."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_declared(cls, _REPLACED)

    @abstractmethod
    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """Latents of single frames in [0, 1], normalised to about unit variance."""

    def condition(
        self,
        img0: SmallImage,
        img1: SmallImage,
        *,
        latent0: Float[Tensor, "b c hz wz"] | None = None,
        latent1: Float[Tensor, "b c hz wz"] | None = None,
        prior: MotionPrior | None = None,
    ) -> Condition:
        """The input from which keyframes between two frames at motion size are generated. A pure function.

        Args:
            img0: First frames, [0, 1].
            img1: Last frames, [0, 1].
            latent0: ``encode(img0)``, where it has been computed already (in a stream, for the pair before).
            latent1: ``encode(img1)``, likewise.
            prior: The coarse motion, where it has been computed already; ignored by generators without one.
        """
        if latent0 is None and latent1 is None:
            latent0, latent1 = self.encode(torch.cat((img0, img1))).chunk(2)
        latent0 = self.encode(img0) if latent0 is None else latent0
        latent1 = self.encode(img1) if latent1 is None else latent1
        coarse = getattr(self, "coarse", None)
        if not self.gives_prior or coarse is None:
            return Condition(latent0, latent1)
        return Condition(latent0, latent1, MotionPrior(self.coarse_flows(img0, img1)) if prior is None else prior)

    def coarse_flows(self, img0: SmallImage, img1: SmallImage) -> Float[Tensor, "b 2 2 h w"]:
        """Forward and backward end-to-end flow by the attribute ``coarse``; that of occluded points is filled in."""
        onward, back = (flow.float() for flow in self.coarse.both_ways(img0, img1))
        return torch.stack(fill_occluded(onward, back), dim=1)

    @abstractmethod
    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Any
    ) -> Float[Tensor, "b n c hz wz"]:
        """Clean latents from noisy ones. A pure function.

        Args:
            noisy: Latents of the shape ``noise_shape(b, h, w)``, in the order of time: of the
                keyframes between the ends, or of all keyframes.
            sigma: Their noise levels, [0, 1].
            condition: The result of `condition`.
        """

    def predict(self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Any) -> Denoised:
        """The result of `denoise`, and the residual motion for networks that estimate it."""
        return Denoised(self.denoise(noisy, sigma, condition))

    @final
    def forward(
        self,
        img0: SmallImage,
        img1: SmallImage,
        noise: Float[Tensor, "b n c hz wz"],
        *,
        latent0: Float[Tensor, "b c hz wz"] | None = None,
    ) -> Keyframes:
        """Keyframes between two frames at motion size. A pure function; both ends are the latents of the frames.

        Args:
            img0: First frames, [0, 1].
            img1: Last frames, [0, 1].
            noise: Standard normal, of shape ``noise_shape(b, h, w)``.
            latent0: ``encode(img0)``, where it has been computed already.
        """
        condition = self.condition(img0, img1, latent0=latent0)
        return self.keyframes(condition, self.sample(condition, noise))

    def sample(self, condition: Any, noise: Float[Tensor, "b n c hz wz"]) -> Denoised:
        """Clean latents sampled from pure noise by the noise process."""
        if self.noise_process is None:
            return self.predict(noise, torch.ones(len(noise), device=noise.device), condition)
        return self.noise_process.sample(
            lambda noisy, sigma, step: self.predict(noisy, sigma, condition), noise, self.num_inference_steps
        )

    @final
    def keyframes(self, condition: Condition, denoised: Denoised) -> Keyframes:
        """Keyframes from the prediction, with the latents of the frames at both ends."""
        count, times = len(self.knot_times), self.times(denoised.latents.device)
        inner = denoised.latents
        if inner.shape[1] == count:
            inner = inner[:, 1:-1]
        latents = torch.cat((condition.latent0[:, None], inner, condition.latent1[:, None]), dim=1)
        prior, residual = condition.prior, denoised.residual_motion
        if prior is not None and residual is not None:
            prior = replace(prior, residual_motion=F.pad(residual, (0, 0, 0, 0, 0, 0, 0, 0, 1, 1)))
        return Keyframes(latents, times, prior=prior)

    def times(self, device: torch.device | str | None = None) -> Float[Tensor, " k"]:
        """``knot_times`` as a tensor."""
        last = len(self.knot_times) - 1
        if self.knot_times == tuple(i / last for i in range(last + 1)):
            return torch.arange(last + 1, dtype=torch.float32, device=device) / last  # without copying to the device
        return torch.stack([torch.full((), time, dtype=torch.float32, device=device) for time in self.knot_times])

    @property
    def keyframe_count(self) -> int:
        """Number of keyframes, both ends included."""
        return len(self.knot_times)

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """Shape of the noise for ``b`` pairs of ``h`` by ``w`` frames: (b, n, c, hz, wz).

        ``n`` counts the keyframes between the ends, or all of them where the ends are predicted
        too; their predictions are then replaced by the frames' own latents.
        """
        return b, self.keyframe_count - 2, self.latent_channels, h // self.stride, w // self.stride

    def target_latents(self, latents: Float[Tensor, "b k c hz wz"]) -> Float[Tensor, "b n c hz wz"]:
        """Of the latents of all keyframes, those that `denoise` predicts: the target of training."""
        n = self.noise_shape(1, self.size_multiple, self.size_multiple)[1]
        return latents if n == latents.shape[1] else latents[:, 1:-1]

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """Decode latents to images in [0, 1].

        Raises:
            TypeError: If this generator has no decoder.
        """
        raise TypeError(
            f"{type(self).__name__} has no decoder, so it cannot feed a flow estimator that "
            "reads pixels; choose one that reads latents"
        )

    def decode_between(self, latents: Float[Tensor, "b k c hz wz"]) -> Float[Tensor, "b n 3 h w"]:
        """Images of the ``n = k - 2`` keyframes between the ends, from the latents of all.

        Decoded frame by frame, unless the decoder is temporal.
        """
        inner = latents[:, 1:-1]
        return self.decode(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
