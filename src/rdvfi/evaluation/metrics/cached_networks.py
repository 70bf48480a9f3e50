"""Weights of metric networks, read from torch's cache and checked by SHA-256; never downloaded.

The files are in ``torch.hub.get_dir()/checkpoints``. A file with another hash is refused, since LPIPS, FID
and FVD are not comparable with other weights.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch


@dataclass(frozen=True)
class NetworkFile:
    """A published file of weights, with its possible names. ``sha256`` may be a prefix, as in torch's file names."""

    names: tuple[str, ...]
    sha256: str
    url: str


_TORCH_URL = "https://download.pytorch.org/models"
NETWORK_FILES = {
    "alex": NetworkFile(("alexnet-owt-7be5be79.pth",), "7be5be79", f"{_TORCH_URL}/alexnet-owt-7be5be79.pth"),
    "vgg": NetworkFile(
        ("vgg16-397923af.pth",),
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        f"{_TORCH_URL}/vgg16-397923af.pth",
    ),
    "inception": NetworkFile(
        ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    "i3d": NetworkFile(
        ("i3d_torchscript.pt",),
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    ),
}
"""Networks by name: LPIPS's AlexNet and VGG-16, the Inception of FID, and the I3D of FVD (Kinetics-400)."""


def network_file(name: str) -> Path:
    """The cached file of a network, after a check of its hash.

    Raises:
        FileNotFoundError: If it is not in the cache; the message contains the expected path and the source.
        ValueError: If its hash differs.
    """
    network = NETWORK_FILES[name]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = next((folder / filename for filename in network.names if (folder / filename).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"its network is not in the cache: {folder / network.names[0]} is missing; it is published at {network.url}"
        )
    digest = _sha256(file, file.stat().st_mtime_ns)
    if not digest.startswith(network.sha256):
        raise ValueError(f"{file} is not the published network: its SHA-256 is {digest}; expected {network.sha256}")
    return file


@cache
def _sha256(file: Path, modified: int) -> str:
    """The hash of a file. ``modified`` is its modification time, a part of the cache key."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
