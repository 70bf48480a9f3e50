"""Ablations: the same model with one learned part replaced.

* *straight keyframes*: the generator's keyframes give way to what it starts from, the end latents
  warped along the straight line between the frames. What is lost is what the diffusion step adds.
* *plain composition*: the flows between neighbouring keyframes are chained and left uncorrected.
  What is lost is what iterative fusion adds.

Weights stay the same in both. A generator offers ``initial_guess(condition)``, and a
trajectory model the attribute ``compose_only``; a part that does not is not replaced.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.methods import ModelMethod
from rdvfi.evaluation.results import AblationLoss, Score
from rdvfi.interfaces import Condition, Denoised, KeyframeGenerator
from rdvfi.interpolator import Interpolator
from rdvfi.types import SmallImage

STRAIGHT = "straight keyframes"
COMPOSED = "plain composition"


@runtime_checkable
class _StartsStraight(Protocol):
    def initial_guess(self, condition: Any) -> Denoised: ...


@runtime_checkable
class _Composes(Protocol):
    compose_only: bool


class StandIn(KeyframeGenerator):
    """In the place of a generator, of which it keeps all but what it predicts."""

    def __init__(self, generator: KeyframeGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.latent_channels, self.stride = generator.latent_channels, generator.stride
        self.size_multiple, self.knot_times = generator.size_multiple, generator.knot_times
        self.noise_process, self.num_inference_steps = generator.noise_process, generator.num_inference_steps
        self.time_symmetric, self.gives_prior = generator.time_symmetric, generator.gives_prior

    def condition(self, img0: SmallImage, img1: SmallImage, **options: Any) -> Condition:
        return self.generator.condition(img0, img1, **options)

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b n c hz wz"]:
        return self.predict(noisy, sigma, condition).latents

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        return self.generator.noise_shape(b, h, w)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        return self.generator.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        return self.generator.decode(latents)


class StraightKeyframes(StandIn):
    """A generator that stops before its diffusion step.

    Raises:
        ValueError: If ``generator`` does not start from a straight line.
    """

    def __init__(self, generator: KeyframeGenerator) -> None:
        super().__init__(generator)
        self.noise_process = None
        if not isinstance(generator, _StartsStraight):
            raise ValueError(
                f"{type(generator).__name__} has no initial_guess, so its keyframes cannot "
                "be replaced by their straight-line warps"
            )
        self._guess = generator.initial_guess

    def predict(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Denoised:
        """The end latents warped along straight lines; the noise is not used."""
        return self._guess(condition)


def in_place(model: Interpolator, generator: KeyframeGenerator) -> Interpolator:
    """The model with another generator. It shares the other parts with ``model``."""
    return Interpolator(generator, model.trajectory, model.renderer, motion_area=model.motion_area).eval()


def straightened(model: Interpolator) -> Interpolator:
    """The model with straight-line keyframes. It shares its weights with ``model``."""
    return in_place(model, StraightKeyframes(model.generator))


def composed(model: Interpolator) -> Interpolator:
    """The model with flows composed and not corrected.

    Raises:
        ValueError: If its trajectory model cannot do without the correction.
    """
    trajectory = copy.deepcopy(model.trajectory)
    if not isinstance(trajectory, _Composes):
        raise ValueError(
            f"{type(model.trajectory).__name__} has no compose_only, so its iterative fusion "
            "cannot be replaced by plain composition"
        )
    trajectory.compose_only = True
    return Interpolator(model.generator, trajectory, model.renderer, motion_area=model.motion_area).eval()


REPLACEMENTS: dict[str, Callable[[Interpolator], Interpolator]] = {STRAIGHT: straightened, COMPOSED: composed}
"""What makes a model with one part replaced, by what replaces it."""


def ablations(method: Method) -> list[Method]:
    """The method's model once with each part replaced that it has, named after what replaces it.

    Raises:
        ValueError: If none of its parts can be replaced.
    """
    assert method.model is not None
    variants, reasons = [], []
    for name, replaced in REPLACEMENTS.items():
        try:
            variants.append(ModelMethod(replaced(method.model), name=f"{method.name}: {name}"))
        except ValueError as error:
            reasons.append(str(error))
    if not variants:
        raise ValueError(f"nothing to ablate in {method.name}: {'; '.join(reasons)}")
    return variants


def losses(names: list[str], scores: tuple[Score, ...]) -> tuple[AblationLoss, ...]:
    """What each named model loses by each replacement, where both were measured."""
    by_name = {score.method: score for score in scores if score.failed is None}
    return tuple(
        AblationLoss(name, replaced, by_name[name].psnr - without.psnr, by_name[name].ssim - without.ssim)
        for name in names
        if name in by_name
        for replaced in REPLACEMENTS
        if (without := by_name.get(f"{name}: {replaced}")) is not None
    )
