"""Ablations: a model with one learned part replaced. The weights of the other parts stay the same.

* *straight keyframes*: the generator's keyframes are replaced by the end latents, warped along straight motion.
  The loss in quality is what the diffusion step contributes.
* *plain composition*: the flows between neighbouring keyframes are chained without correction. The loss is what
  iterative fusion contributes.

Straight keyframes need a generator with ``initial_guess(condition)``; plain composition needs a trajectory
model with the attribute ``compose_only``.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.method import Method
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.results import AblationLoss, Score
from rdvfi.interfaces import Condition, Denoised, KeyframeGenerator
from rdvfi.interpolator import Interpolator
from rdvfi.types import SmallImage

STRAIGHT_KEYFRAMES = "straight keyframes"
PLAIN_COMPOSITION = "plain composition"


@runtime_checkable
class _HasInitialGuess(Protocol):
    def initial_guess(self, condition: Any) -> Denoised: ...


@runtime_checkable
class _HasComposeOnly(Protocol):
    compose_only: bool


class GeneratorWrapper(KeyframeGenerator):
    """Wraps a generator and delegates everything but ``predict``, which subclasses define."""

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


class StraightKeyframes(GeneratorWrapper):
    """Returns the initial guess of a generator, without the diffusion step; ValueError if it has none."""

    def __init__(self, generator: KeyframeGenerator) -> None:
        super().__init__(generator)
        self.noise_process = None
        if not isinstance(generator, _HasInitialGuess):
            raise ValueError(
                f"{type(generator).__name__} has no initial_guess, so its keyframes cannot "
                "be replaced by their straight-line warps"
            )
        self._initial_guess = generator.initial_guess

    def predict(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Denoised:
        """The end latents warped along straight motion; ``noisy`` and ``sigma`` are not used."""
        return self._initial_guess(condition)


def replace_generator(model: Interpolator, generator: KeyframeGenerator) -> Interpolator:
    """The model with another generator. It shares the other parts with ``model``."""
    return Interpolator(generator, model.trajectory, model.renderer, motion_area=model.motion_area).eval()


def use_straight_keyframes(model: Interpolator) -> Interpolator:
    """The model with straight keyframes. It shares its weights with ``model``."""
    return replace_generator(model, StraightKeyframes(model.generator))


def use_plain_composition(model: Interpolator) -> Interpolator:
    """The model with flows chained without correction; raises ValueError if it has no ``compose_only``."""
    trajectory = copy.deepcopy(model.trajectory)
    if not isinstance(trajectory, _HasComposeOnly):
        raise ValueError(
            f"{type(model.trajectory).__name__} has no compose_only, so its iterative fusion "
            "cannot be replaced by plain composition"
        )
    trajectory.compose_only = True
    return Interpolator(model.generator, trajectory, model.renderer, motion_area=model.motion_area).eval()


ABLATIONS: dict[str, Callable[[Interpolator], Interpolator]] = {
    STRAIGHT_KEYFRAMES: use_straight_keyframes,
    PLAIN_COMPOSITION: use_plain_composition,
}
"""Functions that replace one part of a model, by the name of the replacement."""


def create_ablations(method: Method) -> list[Method]:
    """One method for each applicable ablation, named after the replacement; raises ValueError if there is none."""
    assert method.model is not None
    variants, reasons = [], []
    for name, replace_part in ABLATIONS.items():
        try:
            variants.append(ModelMethod(replace_part(method.model), name=f"{method.name}: {name}"))
        except ValueError as error:
            reasons.append(str(error))
    if not variants:
        raise ValueError(f"nothing to ablate in {method.name}: {'; '.join(reasons)}")
    return variants


def ablation_losses(names: list[str], scores: tuple[Score, ...]) -> tuple[AblationLoss, ...]:
    """The loss of each named model by each ablation, where both were measured."""
    by_name = {score.method: score for score in scores if score.failed is None}
    return tuple(
        AblationLoss(name, replaced, by_name[name].psnr - ablated.psnr, by_name[name].ssim - ablated.ssim)
        for name in names
        if name in by_name
        for replaced in ABLATIONS
        if (ablated := by_name.get(f"{name}: {replaced}")) is not None
    )
