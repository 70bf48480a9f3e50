"""Losses on the features of a network: LPIPS, and what stands in for it.

LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) compares unit-normalised features of an
ImageNet network, weighted per channel by heads that were fitted to human judgement. Neither network
nor heads come with this package: they are read from the user's torch hub cache and from the package
``lpips``. Without them ``features`` compares images in the latents of the backbone's own frozen
encoder, which is always there.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.training.losses.evidence import Evidence, Loss, Needs, losses
from rdvfi.training.losses.photometric import frames_of

Features = list[Float[Tensor, "n _ _ _"]]

_CONVOLUTIONS = {
    # (channels, kernel, stride, padding) with a ReLU each; "M" is a pool; "|" ends a slice.
    "alex": [
        (64, 11, 4, 2), "|", "M", (192, 5, 1, 2), "|", "M", (384, 3, 1, 1), "|",
        (256, 3, 1, 1), "|", (256, 3, 1, 1), "|",
    ],
    "vgg": [
        (64, 3, 1, 1), (64, 3, 1, 1), "|", "M", (128, 3, 1, 1), (128, 3, 1, 1), "|",
        "M", *[(256, 3, 1, 1)] * 3, "|", "M", *[(512, 3, 1, 1)] * 3, "|",
        "M", *[(512, 3, 1, 1)] * 3, "|",
    ],
}  # fmt: skip
_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Trunk(nn.Module):
    """The convolutions of AlexNet or VGG-16, with torchvision's names, cut into five slices."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.channels: list[int] = []
        self._ends: list[int] = []
        width = 3
        for item in _CONVOLUTIONS[network]:
            if item == "|":
                self._ends.append(len(layers))
                self.channels.append(width)
            elif item == "M":
                pool = nn.MaxPool2d(3, 2) if network == "alex" else nn.MaxPool2d(2, 2)
                layers.append(pool)
            else:
                assert isinstance(item, tuple)
                outputs, kernel, stride, padding = item
                layers += [nn.Conv2d(width, outputs, kernel, stride, padding), nn.ReLU()]
                width = outputs
        self.features = nn.Sequential(*layers)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Features:
        """Features after each slice of images in [0, 1]."""
        x = (2.0 * image - 1.0 - self.shift) / self.scale
        found = []
        for number, layer in enumerate(self.features, start=1):
            x = layer(x)
            if number in self._ends:
                found.append(x)
        return found


def load_trunk(network: str) -> Trunk:
    """The ImageNet network from torch's hub cache.

    Raises:
        ValueError: If there is no such network.
        FileNotFoundError: If its weights are not in the cache; the text says how to get them.
    """
    if network not in _FILES:
        raise ValueError(f"no perceptual network {network!r}; expected one of {', '.join(_FILES)}")
    file = Path(torch.hub.get_dir()) / "checkpoints" / _FILES[network]
    if not file.exists():
        raise FileNotFoundError(
            f"LPIPS needs {file}, which is not there. Where there is a network: python -c 'import "
            f'torch; torch.hub.load_state_dict_from_url("https://download.pytorch.org/models/'
            f"{_FILES[network]}\")'; or copy the file. Or use losses.features, which needs nothing"
        )
    trunk = Trunk(network)
    stored = torch.load(file, map_location="cpu", weights_only=True)
    trunk.load_state_dict({key: stored[key] for key in trunk.state_dict()})
    return trunk


def load_heads(network: str) -> list[Tensor]:
    """LPIPS's weights of channels, from the package ``lpips``.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    found = importlib.util.find_spec("lpips")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "LPIPS's heads come with the package lpips; install it with: pip install lpips. Or use "
            "losses.features, which needs nothing"
        )
    file = Path(found.origin).parent / "weights" / "v0.1" / f"{network}.pth"
    stored = torch.load(file, map_location="cpu", weights_only=True)
    return [stored[f"lin{i}.model.1.weight"] for i in range(5)]


@losses.register("lpips")
class LPIPS(Loss):
    """Learned perceptual image patch similarity.

    Args:
        network: ``alex`` or ``vgg``.
    """

    needs = Needs.FRAMES

    def __init__(self, *, network: str = "alex") -> None:
        super().__init__()
        self.trunk = load_trunk(network)
        for number, head in enumerate(load_heads(network)):
            self.register_buffer(f"head{number}", head)

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean over images of the sum over slices."""
        pair = frames_of(evidence)
        with torch.autocast(pair.made.device.type, enabled=False):
            total = pair.made.new_zeros(())
            both = zip(self.trunk(pair.made), self.trunk(pair.truth), strict=True)
            for number, (made, truth) in enumerate(both):
                apart = (_unit(made) - _unit(truth)).square()
                total = total + F.conv2d(apart, getattr(self, f"head{number}")).mean()
        return total


def _unit(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()


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


@losses.register("gram")
class Gram(Loss):
    """Difference of Gram matrices: texture without its place (Gatys et al., 2016).

    Args:
        network: ``encoder``, the backbone's own, or ``alex`` or ``vgg`` from the hub cache.
    """

    needs = Needs.FRAMES

    def __init__(self, *, network: str = "encoder") -> None:
        super().__init__()
        self.trunk = None if network == "encoder" else load_trunk(network)

    def forward(self, evidence: Evidence) -> Tensor:
        """Mean squared difference, summed over the network's slices."""
        pair = frames_of(evidence)
        with torch.autocast(pair.made.device.type, enabled=False):
            if self.trunk is None:
                made, truth = [pair.encode(pair.made)], [pair.encode(pair.truth)]
            else:
                made, truth = self.trunk(pair.made), self.trunk(pair.truth)
            both = zip(made, truth, strict=True)
            return torch.stack([F.mse_loss(_gram(a), _gram(b)) for a, b in both]).sum()


def _gram(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
