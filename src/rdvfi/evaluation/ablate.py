"""What the learned parts are worth: the same model, with one of them replaced.

* *straight keyframes*: the generator's keyframes give way to what it starts from, the end latents
  warped along the straight line between the frames. What is lost is what the diffusion step adds.
* *plain composition*: the flows between neighbouring keyframes are chained and left uncorrected.
  What is lost is what iterative fusion adds.

Weights stay the same in both. A generator offers ``straight_keyframes(img0, img1)``, and a
trajectory model the attribute ``compose_only``; models whose parts do not are refused.
"""

import copy
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.methods import ModelMethod
from rdvfi.evaluation.report import Loss, Score
from rdvfi.interfaces import KeyframeGenerator, Keyframes
from rdvfi.interpolator import Interpolator
from rdvfi.types import SmallImage

STRAIGHT = "straight keyframes"
COMPOSED = "plain composition"


@runtime_checkable
class _StartsStraight(Protocol):
    def straight_keyframes(self, img0: SmallImage, img1: SmallImage) -> Keyframes: ...


@runtime_checkable
class _Composes(Protocol):
    compose_only: bool


class StandIn(KeyframeGenerator):
    """In the place of a generator, of which it keeps all but how keyframes are made."""

    def __init__(self, generator: KeyframeGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.latent_channels = generator.latent_channels
        self.stride = generator.stride
        self.size_multiple = generator.size_multiple
        self.time_symmetric = generator.time_symmetric
        self.gives_prior = generator.gives_prior
        self.keyframe_count = generator.keyframe_count

    def noise_shape(self, b: int, h: int, w: int) -> tuple[int, int, int, int, int]:
        """The generator's own."""
        return self.generator.noise_shape(b, h, w)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """The generator's own."""
        return self.generator.encode(images)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """The generator's own."""
        return self.generator.decode(latents)


class StraightKeyframes(StandIn):
    """A generator that stops before its diffusion step.

    Raises:
        ValueError: If ``generator`` does not start from a straight line.
    """

    def __init__(self, generator: KeyframeGenerator) -> None:
        super().__init__(generator)
        if not isinstance(generator, _StartsStraight):
            raise ValueError(
                f"{type(generator).__name__} has no straight_keyframes, so its keyframes cannot "
                "be replaced by their straight-line warps"
            )

    def forward(self, img0: SmallImage, img1: SmallImage, noise: Float[Tensor, "b n c hz wz"]) -> Keyframes:
        """The end latents warped along straight lines; the noise is not used."""
        assert isinstance(self.generator, _StartsStraight)
        return self.generator.straight_keyframes(img0, img1)


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


def ablations(method: ModelMethod) -> list[ModelMethod]:
    """The model once with each part replaced, named after what replaces it.

    Raises:
        ValueError: If one of its parts cannot be replaced.
    """
    return [
        ModelMethod(straightened(method.model), name=f"{method.name}: {STRAIGHT}"),
        ModelMethod(composed(method.model), name=f"{method.name}: {COMPOSED}"),
    ]


def losses(names: list[str], scores: tuple[Score, ...]) -> tuple[Loss, ...]:
    """What each named model loses by each replacement, where both were measured."""
    by_name = {score.method: score for score in scores}
    found = []
    for name in names:
        for replaced in (STRAIGHT, COMPOSED):
            full, without = by_name[name], by_name[f"{name}: {replaced}"]
            found.append(Loss(name, replaced, full.psnr - without.psnr, full.ssim - without.ssim))
    return tuple(found)
