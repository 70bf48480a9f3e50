"""A backbone without trainable parameters: Haar latents, and keyframes along straight lines.

The orthonormal Haar transform ``H B H^T`` maps every 8x8 block of pixels to 64 coefficients per colour. It is
lossless and preserves energy: pixels with a standard deviation of 1/4, scaled by 4, give latents of about unit
variance. Unlike that of pixels, most of the energy is in a few channels.

Keyframes are both frames, warped along the straight lines of a coarse flow and blended by time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi import CoarseFlow, FlowEstimator, KeyframeGenerator, MotionPrior, Reads, backbones
from rdvfi.about import About
from rdvfi.interfaces import Condition
from rdvfi.ops import backward_warp, straight_flows
from rdvfi.types import SmallImage

_SIDE = 8
_SCALE = 4.0


def haar_matrix(side: int) -> Float[Tensor, "side side"]:
    """The orthonormal Haar matrix whose size ``side`` is a power of two; rows are from coarse to fine."""
    matrix = torch.ones(1, 1)
    while len(matrix) < side:
        means = torch.kron(matrix, torch.tensor([[1.0, 1.0]]))
        details = torch.kron(torch.eye(len(matrix)), torch.tensor([[1.0, -1.0]]))
        matrix = torch.cat((means, details)) / 2.0**0.5
    return matrix


@dataclass(frozen=True, eq=False, kw_only=True)
class HaarCondition(Condition):
    """The latents and the frames themselves."""

    img0: Float[Tensor, "b 3 h w"]
    img1: Float[Tensor, "b 3 h w"]


class HaarLines(KeyframeGenerator):
    """Straight-line keyframes in Haar latents.

    Args:
        coarse: End-to-end flow on pixels.
        between: Number of keyframes between the ends.
    """

    transform: Tensor
    latent_channels = 3 * _SIDE**2
    stride = _SIDE
    size_multiple = 16
    time_symmetric = True
    gives_prior = True

    def __init__(self, coarse: FlowEstimator, between: int) -> None:
        super().__init__()
        if coarse.reads is not Reads.PIXELS:
            raise TypeError("the coarse flow of 'haar' must read pixels")
        if between < 0:
            raise ValueError(f"between must not be negative; got {between}")
        self.coarse = coarse
        self.knot_times = tuple(i / (between + 1) for i in range(between + 2))
        matrix = haar_matrix(_SIDE)
        self.register_buffer("transform", torch.kron(matrix, matrix), persistent=False)

    def condition(
        self,
        img0: SmallImage,
        img1: SmallImage,
        *,
        latent0: Float[Tensor, "b c hz wz"] | None = None,
        latent1: Float[Tensor, "b c hz wz"] | None = None,
        prior: MotionPrior | None = None,
    ) -> HaarCondition:
        """The end latents, the frames, and the coarse flow between them."""
        ends = super().condition(img0, img1, latent0=latent0, latent1=latent1, prior=prior)
        return HaarCondition(ends.latent0, ends.latent1, ends.prior, img0=img0, img1=img1)

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: HaarCondition
    ) -> Float[Tensor, "b n c hz wz"]:
        """Latents of both frames, warped along straight lines and blended; noise is not used."""
        if condition.prior is None or noisy.shape[1] == 0:
            return noisy
        times = self.times(noisy.device)[1:-1]
        to_first, to_last = straight_flows(*condition.prior.end_flows.unbind(1), times)
        blended = [
            torch.lerp(backward_warp(condition.img0, first), backward_warp(condition.img1, last), time)
            for first, last, time in zip(to_first.unbind(1), to_last.unbind(1), times.to(noisy), strict=True)
        ]
        return torch.stack([self.encode(image) for image in blended], dim=1)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        """See `rdvfi.interfaces.KeyframeGenerator.encode`."""
        blocks = F.pixel_unshuffle(images - 0.5, _SIDE).unflatten(1, (3, -1))
        return _SCALE * torch.einsum("ok,bckhw->bcohw", self.transform, blocks).flatten(1, 2)

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        """See `rdvfi.interfaces.KeyframeGenerator.decode`."""
        coefficients = latents.unflatten(1, (3, -1)) / _SCALE
        blocks = torch.einsum("ok,bcohw->bckhw", self.transform, coefficients).flatten(1, 2)
        return (F.pixel_shuffle(blocks, _SIDE) + 0.5).clamp(0.0, 1.0)


@backbones.register(
    "haar",
    about=About(citation="A. Haar: Zur Theorie der orthogonalen Funktionensysteme. 1910"),
)
def haar(*, coarse: CoarseFlow, between: int = 7) -> KeyframeGenerator:
    """Haar latents, and keyframes along straight lines, without trainable parameters.

    Args:
        coarse: End-to-end flow on pixels.
        between: Number of keyframes between the ends.
    """
    return HaarLines(coarse, between)
