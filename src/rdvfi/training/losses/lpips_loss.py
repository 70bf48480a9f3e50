"""Perceptual losses: LPIPS, and a feature distance that needs no download.

LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) compares unit-normalised features of an
ImageNet network, weighted per channel by heads that were fitted to human judgement. The implementation and the
heads are those of the package ``lpips``; the network is torchvision's, whose weights are read from
torch's hub cache and never downloaded by a run. ``features`` needs no such weights: it compares images in the
latents of the backbone's own frozen encoder.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses
from rdvfi.training.losses.photometric import float_frames

_WEIGHT_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""File names of torchvision's weights."""


def load_lpips(network: str) -> Any:
    """An ``lpips.LPIPS`` with one of its networks.

    Raises:
        ValueError: If there is no such network.
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If the network's weights are not in the cache; the message says how to get them.
    """
    if network not in _WEIGHT_FILES:
        raise ValueError(f"no perceptual network {network!r}; expected one of {', '.join(_WEIGHT_FILES)}")
    remedy = "'rdvfi[train]'. Or use losses.features, which needs nothing"
    lpips = import_optional("lpips", "LPIPS needs", remedy, torchvision=True)
    file = Path(torch.hub.get_dir()) / "checkpoints" / _WEIGHT_FILES[network]
    if not file.exists():
        raise FileNotFoundError(
            f"LPIPS needs {file}, which does not exist. With a network connection: python -c 'import "
            f'torch; torch.hub.load_state_dict_from_url("https://download.pytorch.org/models/'
            f"{_WEIGHT_FILES[network]}\")'; or copy the file. Or use losses.features, which needs nothing"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses a deprecated argument of torchvision
        return lpips.LPIPS(net=network, verbose=False).requires_grad_(False)


@losses.register("lpips")
class LPIPS(Loss):
    """Learned perceptual image patch similarity.

    Args:
        network: ``alex``, ``vgg`` or ``squeeze``.
    """

    needs = Needs.FRAMES

    def __init__(self, *, network: str = "alex") -> None:
        super().__init__()
        self.distance = load_lpips(network)

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean over images of the sum over the layers of the network."""
        pair = float_frames(evidence)
        with torch.autocast(pair.predicted.device.type, enabled=False):
            return self.distance(pair.predicted, pair.target, normalize=True).mean()


@losses.register("features")
class FeatureDistance(Loss):
    """Mean squared distance in the normalised latents of the backbone's own frozen encoder."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        """Replaces LPIPS where the weights of its network are not available."""
        pair = float_frames(evidence)
        with torch.no_grad():
            target = pair.encode(pair.target)
        return F.mse_loss(pair.encode(pair.predicted).float(), target.float())
