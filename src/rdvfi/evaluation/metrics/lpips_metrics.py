"""Perceptual distances in network features: LPIPS of frames, FloLPIPS of sequences.

LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) is computed by the package ``lpips``, version 0.1, with
AlexNet or VGG-16, on frames at their own size.

FloLPIPS (Danier et al., 2022, https://arxiv.org/abs/2207.08119) weights the map of LPIPS by the difference in motion
from the true sequence: ``w(x) = |F(x) - F_true(x)|``, with F the flow to the next frame.
Its authors use PWC-Net for F, whose weights have no free licence; here F is DIS flow, so the values are not
comparable with published ones.
"""

import warnings
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.evaluation.baselines import consecutive_flows
from rdvfi.evaluation.metrics.cached_networks import network_file
from rdvfi.evaluation.metrics.metric import Better, Frames, Metric, Sample, WindowResult, metrics


class _LPIPS(Metric):
    """LPIPS with one network, per frame."""

    better = Better.LOWER
    network: str

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.distance = load_lpips(self.network).to(self.device)

    def measure(self, result: WindowResult) -> Sample:
        return Sample.of(self.maps(result.frames, result.truth).mean(dim=(1, 2, 3)))

    @torch.inference_mode()
    def maps(self, frames: Frames, truth: Frames) -> Float[Tensor, "n 1 H W"]:
        """The distance at every pixel; its mean is LPIPS."""
        pairs = zip(frames.split(1), truth.split(1), strict=True)
        return torch.cat([self.distance(a.to(self.device), b.to(self.device), normalize=True).cpu() for a, b in pairs])


@metrics.register("lpips-alex")
class LPIPSAlex(_LPIPS):
    """LPIPS with AlexNet, the variant that publications report."""

    title, network = "LPIPS alex", "alex"


@metrics.register("lpips-vgg")
class LPIPSVGG(_LPIPS):
    """LPIPS with VGG-16."""

    title, network = "LPIPS vgg", "vgg"


@metrics.register("flolpips")
class FloLPIPS(_LPIPS):
    """LPIPS with AlexNet, weighted by the difference in DIS flow; see the module's docstring."""

    title, network = "FloLPIPS", "alex"

    def measure(self, result: WindowResult) -> Sample:
        """One value per interpolated frame; the unweighted mean if the motion is equal."""
        sequence, true = result.sequences
        flow_error = consecutive_flows(sequence)[1:] - consecutive_flows(true)[1:]
        difference = torch.linalg.vector_norm(flow_error, dim=1, keepdim=True)
        total = difference.sum(dim=(1, 2, 3), keepdim=True)
        uniform = torch.full_like(difference, 1.0 / difference[0].numel())
        weights = torch.where(total > 0.0, difference / total.clamp(min=1e-12), uniform)
        return Sample.of((weights * self.maps(result.frames, result.truth)).sum(dim=(1, 2, 3)))


@cache
def load_lpips(network: str) -> Any:
    """Load ``lpips.LPIPS`` with ``alex`` or ``vgg``; it returns maps."""
    lpips = import_optional("lpips", "LPIPS needs", "'rdvfi[metrics]'", torchvision=True)
    network_file(network)  # checks the file that lpips then loads from torch's cache
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips uses deprecated arguments of torchvision
        return lpips.LPIPS(net=network, spatial=True, verbose=False).eval().requires_grad_(False)
