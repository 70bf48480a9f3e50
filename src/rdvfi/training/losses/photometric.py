"""Losses on new frames without a network."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.training.losses.evidence import Evidence, FramePair, Loss, Needs, losses


def frames_of(evidence: Evidence) -> FramePair:
    """The frames, in float32."""
    pair = evidence.frames
    assert pair is not None
    return FramePair(pair.made.float(), pair.truth.float(), pair.encode)


@losses.register("l1")
class L1(Loss):
    """Mean absolute error of colours."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        pair = frames_of(evidence)
        return F.l1_loss(pair.made, pair.truth)


@losses.register("l2")
class L2(Loss):
    """Mean squared error of colours: the paper's."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        pair = frames_of(evidence)
        return F.mse_loss(pair.made, pair.truth)


@losses.register("psnr")
class PSNRLoss(Loss):
    """The PSNR of each frame, upside down: samples that are nearly exact count as much as others.

    Other losses of frames hardly see errors so small, and give such samples up for the rest.

    Args:
        exact: Mean squared error that is exact enough; 1e-5 is 50 dB.
    """

    needs = Needs.FRAMES

    def __init__(self, *, exact: float = 1e-5) -> None:
        super().__init__()
        if not exact > 0:
            raise ValueError(f"exact must be positive; got {exact}")
        self.exact = exact

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean over the samples of ``log(1 + mse / exact)``: 0.23 for each dB."""
        pair = frames_of(evidence)
        error = (pair.made - pair.truth).square().mean((1, 2, 3))
        return torch.log1p(error / self.exact).mean()


@losses.register("edges")
class Edges(Loss):
    """L1 of the differences across one and two pixels, so that edges count."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        """Half the sum over both directions and both distances."""
        pair = frames_of(evidence)
        error, found = pair.made - pair.truth, []
        for step in (1, 2):
            found.append((error[..., step:] - error[..., :-step]).abs().mean())
            found.append((error[..., step:, :] - error[..., :-step, :]).abs().mean())
        return 0.5 * torch.stack(found).sum()


@losses.register("census")
class Census(Loss):
    """Soft census: signs of the differences to the neighbours, which light does not change.

    Meister et al., "UnFlow", 2018, https://arxiv.org/abs/1711.07837, with IFRNet's constants.

    Args:
        radius: Neighbours reach this far; 3 makes windows of 7 by 7.
    """

    needs = Needs.FRAMES

    def __init__(self, *, radius: int = 3) -> None:
        super().__init__()
        if radius < 1:
            raise ValueError(f"the census radius must be at least 1; got {radius}")
        self.radius = radius

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean robust distance of both transforms."""
        pair = frames_of(evidence)
        apart = (self._transform(pair.made) - self._transform(pair.truth)).square()
        return (apart / (0.1 + apart)).mean()

    def _transform(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h w"]:
        gray = 255.0 * image.mean(1, keepdim=True)
        side = 2 * self.radius + 1
        padded = F.pad(gray, (self.radius,) * 4, mode="replicate")
        patches = F.unfold(padded, side).unflatten(2, gray.shape[-2:])
        difference = patches - gray
        return difference / (0.81 + difference.square()).sqrt()
