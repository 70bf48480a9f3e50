"""Distances between sets: FID of all frames, and FVD of all sequences.

Features of the made and of the true ones are taken as two normal distributions, and their Frechet distance is

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

* FID (Heusel et al., 2017, https://arxiv.org/abs/1706.08500): 2048 features of the Inception network of the original
  code, in the port of `torch-fidelity`, of the frames between.
* FVD (Unterthiner et al., 2018, https://arxiv.org/abs/1812.01717): 400 features of I3D (Kinetics-400, the TorchScript
  port of StyleGAN-V), of whole sequences with both inputs, resized bilinearly to 224x224, in [-1, 1]. It needs at
  least 9 frames. Published figures use several networks and sizes: compare those of one code only.

Both are biased upwards for few samples: give the number of frames or sequences beside them.
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
from rdvfi.evaluation.metrics.metric import Better, MadeFrames, SetMetric, metrics

_FEWEST_FRAMES = 9
_I3D_SIZE = (224, 224)

Features = Float[np.ndarray, "_ f"]


def frechet_distance(made: Features, true: Features) -> float:
    """Frechet distance of the normal distributions of two sets of features, in double precision.

    Raises:
        ValueError: If a set has fewer than two members.
    """
    if min(len(made), len(true)) < 2:
        raise ValueError(f"a distance of sets needs at least 2 members in each; got {len(made)} and {len(true)}")
    one, two = made.astype(np.float64), true.astype(np.float64)
    shift = one.mean(0) - two.mean(0)
    first, second = np.atleast_2d(np.cov(one, rowvar=False)), np.atleast_2d(np.cov(two, rowvar=False))
    # The trace of the root is the sum of the roots of the product's eigenvalues, which are real and not negative.
    roots = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0.0, None)).sum()
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2.0 * roots)


class _Frechet(SetMetric):
    """Keeps features of what was made and of what is true."""

    better, decimals = Better.LOWER, 2

    def __init__(self) -> None:
        super().__init__()
        self._made: list[Features] = []
        self._true: list[Features] = []

    def result(self) -> float:
        if not self._made:
            raise ValueError("it has seen nothing")
        return frechet_distance(np.concatenate(self._made), np.concatenate(self._true))


@metrics.register("fid")
class FID(_Frechet):
    """Frechet distance of the frames between."""

    title = "FID"

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.network = _inception(device)

    def add(self, made: MadeFrames) -> None:
        self._made.append(self._features(made.frames))
        self._true.append(self._features(made.truth))

    @torch.inference_mode()
    def _features(self, frames: Float[Tensor, "n 3 H W"]) -> Features:
        pixels = frames.mul(255.0).round().byte().to(self.device)
        return np.concatenate([self.network(frame)[0].cpu().numpy() for frame in pixels.split(1)])


@metrics.register("fvd")
class FVD(_Frechet):
    """Frechet distance of sequences, with both inputs."""

    title = "FVD"

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.network = _i3d(device)

    def add(self, made: MadeFrames) -> None:
        sequence, true = made.sequences
        if len(sequence) < _FEWEST_FRAMES:
            raise ValueError(f"FVD needs sequences of at least {_FEWEST_FRAMES} frames; got {len(sequence)}")
        self._made.append(self._features(sequence))
        self._true.append(self._features(true))

    @torch.inference_mode()
    def _features(self, frames: Float[Tensor, "n 3 H W"]) -> Features:
        small = F.interpolate(frames.to(self.device), _I3D_SIZE, mode="bilinear", align_corners=False)
        clip = (2.0 * small - 1.0).permute(1, 0, 2, 3)[None]
        return self.network(clip, rescale=False, resize=False, return_features=True).cpu().numpy()


@cache
def _inception(device: str) -> Any:
    name = "torch_fidelity.feature_extractor_inceptionv3"
    port = import_optional(name, "FID needs", "'rdvfi[metrics]'", torchvision=True)
    file = str(network_file("inception"))
    made = port.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
    return made.eval().to(device)


@cache
def _i3d(device: str) -> Any:
    """The TorchScript network; it is code as well as weights, so it runs only with the published hash."""
    return torch.jit.load(str(network_file("i3d")), map_location=device).eval()
