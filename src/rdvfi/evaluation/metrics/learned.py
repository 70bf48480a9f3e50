"""Perceptual distances in network features: LPIPS of frames, FloLPIPS of sequences.

LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) is that of the package ``lpips``, version 0.1, on AlexNet
or VGG-16, over frames of their own size.

FloLPIPS (Danier et al., 2022, https://arxiv.org/abs/2207.08119) weights the map of LPIPS by how much the motion of the
made sequence differs from that of the true one: ``w(x) = |F_made(x) - F_true(x)|``, with F the flow to the next frame.
Its authors take PWC-Net for F, whose weights are under no free licence; here F is DIS flow, so the figures do not
compare with published ones.
"""

import warnings
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.evaluation.baselines import flows_between
from rdvfi.evaluation.metrics.cached_networks import network_file
from rdvfi.evaluation.metrics.metric import Better, Frames, MadeFrames, Metric, Sample, metrics


class _LPIPS(Metric):
    """LPIPS on one network, per frame."""

    better = Better.LOWER
    network: str

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.distance = load_lpips(self.network).to(self.device)

    def measure(self, made: MadeFrames) -> Sample:
        return Sample.of(self.maps(made.frames, made.truth).mean(dim=(1, 2, 3)))

    @torch.inference_mode()
    def maps(self, frames: Frames, truth: Frames) -> Float[Tensor, "n 1 H W"]:
        """The distance at every pixel; its mean is LPIPS."""
        pairs = zip(frames.split(1), truth.split(1), strict=True)
        return torch.cat([self.distance(a.to(self.device), b.to(self.device), normalize=True).cpu() for a, b in pairs])


@metrics.register("lpips-alex")
class LPIPSAlex(_LPIPS):
    """LPIPS on AlexNet: what is reported for comparison."""

    title, network = "LPIPS alex", "alex"


@metrics.register("lpips-vgg")
class LPIPSVGG(_LPIPS):
    """LPIPS on VGG-16."""

    title, network = "LPIPS vgg", "vgg"


@metrics.register("flolpips")
class FloLPIPS(_LPIPS):
    """LPIPS (AlexNet) weighted by the difference of motion, DIS flow; see the module."""

    title, network = "FloLPIPS", "alex"

    def measure(self, made: MadeFrames) -> Sample:
        """One value per frame between; where the motion is the same, the plain mean."""
        sequence, true = made.sequences
        differs = torch.linalg.vector_norm(flows_between(sequence)[1:] - flows_between(true)[1:], dim=1, keepdim=True)
        total = differs.sum(dim=(1, 2, 3), keepdim=True)
        even = torch.full_like(differs, 1.0 / differs[0].numel())
        weights = torch.where(total > 0.0, differs / total.clamp(min=1e-12), even)
        return Sample.of((weights * self.maps(made.frames, made.truth)).sum(dim=(1, 2, 3)))


@cache
def load_lpips(network: str) -> Any:
    """``lpips.LPIPS`` on ``alex`` or ``vgg``, giving maps."""
    lpips = import_optional("lpips", "LPIPS needs", "'rdvfi[metrics]'", torchvision=True)
    network_file(network)  # lpips reads this very file, through torch's cache
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in a way that is out of date
        return lpips.LPIPS(net=network, spatial=True, verbose=False).eval().requires_grad_(False)
