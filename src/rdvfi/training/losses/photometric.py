"""Photometric losses of interpolated frames, without a network."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.training.losses.evidence import Evidence, FramePair, Loss, Needs, losses


def float_frames(evidence: Evidence) -> FramePair:
    """The frames of the evidence in float32."""
    pair = evidence.frames
    assert pair is not None
    return FramePair(pair.predicted.float(), pair.target.float(), pair.encode)


@losses.register("l1")
class L1(Loss):
    """Mean absolute error."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        pair = float_frames(evidence)
        return F.l1_loss(pair.predicted, pair.target)


@losses.register("l2")
class L2(Loss):
    """Mean squared error, as in the paper."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        pair = float_frames(evidence)
        return F.mse_loss(pair.predicted, pair.target)


@losses.register("psnr")
class PSNRLoss(Loss):
    """Negative PSNR of each frame, up to a constant.

    A decibel counts the same at every error, so that nearly exact samples keep a gradient.

    Args:
        exact: Mean squared error below which improvements hardly count; 1e-5 is 50 dB.
    """

    needs = Needs.FRAMES

    def __init__(self, *, exact: float = 1e-5) -> None:
        super().__init__()
        if not exact > 0:
            raise ValueError(f"exact must be positive; got {exact}")
        self.exact = exact

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean over the samples of ``log(1 + mse / exact)``: 0.23 per dB."""
        pair = float_frames(evidence)
        error = (pair.predicted - pair.target).square().mean((1, 2, 3))
        return torch.log1p(error / self.exact).mean()


@losses.register("edges")
class EdgeLoss(Loss):
    """L1 error of the finite differences over one and two pixels, which emphasises edges."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        """Half the sum over both axes and both distances."""
        pair = float_frames(evidence)
        error, terms = pair.predicted - pair.target, []
        for distance in (1, 2):
            terms.append((error[..., distance:] - error[..., :-distance]).abs().mean())
            terms.append((error[..., distance:, :] - error[..., :-distance, :]).abs().mean())
        return 0.5 * torch.stack(terms).sum()


@losses.register("census")
class CensusLoss(Loss):
    """Soft census loss: compares signs of differences to neighbours, which illumination does not change.

    Meister et al., "UnFlow", 2018, https://arxiv.org/abs/1711.07837, with IFRNet's constants.

    Args:
        radius: Radius of the window in pixels; 3 gives windows of 7x7.
    """

    needs = Needs.FRAMES

    def __init__(self, *, radius: int = 3) -> None:
        super().__init__()
        if radius < 1:
            raise ValueError(f"the census radius must be at least 1; got {radius}")
        self.radius = radius

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean robust distance of the transforms of both frames."""
        pair = float_frames(evidence)
        squared = (self._transform(pair.predicted) - self._transform(pair.target)).square()
        return (squared / (0.1 + squared)).mean()

    def _transform(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h w"]:
        gray = 255.0 * image.mean(1, keepdim=True)
        side = 2 * self.radius + 1
        padded = F.pad(gray, (self.radius,) * 4, mode="replicate")
        patches = F.unfold(padded, side).unflatten(2, gray.shape[-2:])
        difference = patches - gray
        return difference / (0.81 + difference.square()).sqrt()
