"""Perceptual losses: LPIPS, and a feature distance that needs no download.

LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) compares unit-normalised features of an
ImageNet network, weighted per channel by heads that were fitted to human judgement. It is that of
the package ``lpips``, with its heads; the network is torchvision's, whose weights are read from
torch's hub cache and never downloaded by a run. Without them ``features`` compares images in the
latents of the backbone's own frozen encoder, which is always there.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses
from rdvfi.training.losses.photometric import frames_of

_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}
"""torchvision's names of the weights."""


def load_lpips(network: str) -> Any:
    """``lpips.LPIPS`` on one of its networks.

    Raises:
        ValueError: If there is no such network.
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If the network's weights are not in the cache; the text says how to get them.
    """
    if network not in _FILES:
        raise ValueError(f"no perceptual network {network!r}; expected one of {', '.join(_FILES)}")
    other = "'rdvfi[train]'. Or use losses.features, which needs nothing"
    lpips = import_optional("lpips", "LPIPS needs", other, torchvision=True)
    file = Path(torch.hub.get_dir()) / "checkpoints" / _FILES[network]
    if not file.exists():
        raise FileNotFoundError(
            f"LPIPS needs {file}, which is not there. Where there is a network: python -c 'import "
            f'torch; torch.hub.load_state_dict_from_url("https://download.pytorch.org/models/'
            f"{_FILES[network]}\")'; or copy the file. Or use losses.features, which needs nothing"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in a way that is out of date
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
        """Mean over images of the sum over the network's layers."""
        pair = frames_of(evidence)
        with torch.autocast(pair.made.device.type, enabled=False):
            return self.distance(pair.made, pair.truth, normalize=True).mean()


@losses.register("features")
class FeatureDistance(Loss):
    """Mean squared distance in the backbone's own frozen, normalised latents."""

    needs = Needs.FRAMES

    def forward(self, evidence: Evidence) -> Tensor:
        """Stands in for LPIPS where no network can be had."""
        pair = frames_of(evidence)
        with torch.no_grad():
            wanted = pair.encode(pair.truth)
        return F.mse_loss(pair.encode(pair.made).float(), wanted.float())
