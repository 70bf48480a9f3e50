"""Frechet distances between sets: FID of all frames, and FVD of all sequences.

The features of the interpolated and of the true set are modelled as two normal distributions with means m, m' and
covariances C, C', whose Frechet distance is

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

* FID (Heusel et al., 2017, https://arxiv.org/abs/1706.08500): 2048 features of the Inception network of the original
  code, ported by `torch-fidelity`, of the interpolated frames.
* FVD (Unterthiner et al., 2018, https://arxiv.org/abs/1812.01717): 400 features of I3D (Kinetics-400, the TorchScript
  port of StyleGAN-V), of sequences including both inputs, resized bilinearly to 224x224, in [-1, 1]. It needs at
  least 9 frames. Published values use several networks and sizes, and are comparable only within one implementation.

Both are biased upwards for few samples, so report the number of frames or sequences with them.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.evaluation.metrics.cached_networks import network_file
from rdvfi.evaluation.metrics.metric import Better, SetMetric, WindowResult, metrics

_MIN_FVD_FRAMES = 9
_I3D_SIZE = (224, 224)

Features = Float[np.ndarray, "_ f"]


def frechet_distance(interpolated: Features, true: Features) -> float:
    """Frechet distance of the normal distributions of two sets of at least two features, in double precision."""
    counts = len(interpolated), len(true)
    if min(counts) < 2:
        raise ValueError(f"a distance of sets needs at least 2 members in each; got {counts[0]} and {counts[1]}")
    sets = [features.astype(np.float64) for features in (interpolated, true)]
    mean_difference = sets[0].mean(0) - sets[1].mean(0)
    covariance0, covariance1 = (np.atleast_2d(np.cov(features, rowvar=False)) for features in sets)
    # The trace of the root is the sum of the roots of the product's eigenvalues, which are real and not negative.
    eigenvalues = np.clip(np.linalg.eigvals(covariance0 @ covariance1).real, 0.0, None)
    traces = np.trace(covariance0) + np.trace(covariance1)
    return float(mean_difference @ mean_difference + traces - 2.0 * np.sqrt(eigenvalues).sum())


class _FrechetMetric(SetMetric):
    """Accumulates features of the interpolated and of the true frames."""

    better, decimals = Better.LOWER, 2

    def __init__(self) -> None:
        super().__init__()
        self._interpolated: list[Features] = []
        self._true: list[Features] = []

    def compute(self) -> float:
        if not self._interpolated:
            raise ValueError("no frames were accumulated")
        return frechet_distance(np.concatenate(self._interpolated), np.concatenate(self._true))


@metrics.register("fid")
class FID(_FrechetMetric):
    """Frechet inception distance of the interpolated frames."""

    title = "FID"

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.network = _load_inception(device)

    def update(self, result: WindowResult) -> None:
        self._interpolated.append(self._features(result.frames))
        self._true.append(self._features(result.truth))

    @torch.inference_mode()
    def _features(self, frames: Float[Tensor, "n 3 H W"]) -> Features:
        pixels = frames.mul(255.0).round().byte().to(self.device)
        return np.concatenate([self.network(frame)[0].cpu().numpy() for frame in pixels.split(1)])


@metrics.register("fvd")
class FVD(_FrechetMetric):
    """Frechet video distance of the sequences, including both inputs."""

    title = "FVD"

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.network = _load_i3d(device)

    def update(self, result: WindowResult) -> None:
        sequence, true = result.sequences
        if len(sequence) < _MIN_FVD_FRAMES:
            raise ValueError(f"FVD needs sequences of at least {_MIN_FVD_FRAMES} frames; got {len(sequence)}")
        self._interpolated.append(self._features(sequence))
        self._true.append(self._features(true))

    @torch.inference_mode()
    def _features(self, frames: Float[Tensor, "n 3 H W"]) -> Features:
        small = F.interpolate(frames.to(self.device), _I3D_SIZE, mode="bilinear", align_corners=False)
        clip = (2.0 * small - 1.0).permute(1, 0, 2, 3)[None]
        return self.network(clip, rescale=False, resize=False, return_features=True).cpu().numpy()


@cache
def _load_inception(device: str) -> Any:
    name = "torch_fidelity.feature_extractor_inceptionv3"
    port = import_optional(name, "FID needs", "'rdvfi[metrics]'", torchvision=True)
    file = str(network_file("inception"))
    network = port.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
    return network.eval().to(device)


@cache
def _load_i3d(device: str) -> Any:
    """The TorchScript network. It contains code, so it is loaded only with the published hash."""
    return torch.jit.load(str(network_file("i3d")), map_location=device).eval()
