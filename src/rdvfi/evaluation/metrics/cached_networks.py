"""Weights of metric networks from the user's cache, checked by SHA-256; never downloaded.

They lie where torch keeps them, ``torch.hub.get_dir()/checkpoints``. A file of another hash is refused: LPIPS, FID
and FVD mean nothing with other weights.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

_BLOCK = 1 << 20


@dataclass(frozen=True)
class NetworkFile:
    """A published file of weights. ``sha256`` may be the beginning of the sum, as torch's file names give it."""

    names: tuple[str, ...]
    sha256: str
    url: str


_HUB = "https://download.pytorch.org/models"
FILES = {
    "alex": NetworkFile(("alexnet-owt-7be5be79.pth",), "7be5be79", f"{_HUB}/alexnet-owt-7be5be79.pth"),
    "vgg": NetworkFile(
        ("vgg16-397923af.pth",),
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        f"{_HUB}/vgg16-397923af.pth",
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
    """The file of a network, once its hash is known to be right.

    Raises:
        FileNotFoundError: If it is not in the cache; the text says where it belongs and where it is published.
        ValueError: If it has another hash.
    """
    known = FILES[name]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = next((folder / each for each in known.names if (folder / each).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"its network is not in the cache: {folder / known.names[0]} is missing; it is published at {known.url}"
        )
    digest = _sha256(file, file.stat().st_mtime_ns)
    if not digest.startswith(known.sha256):
        raise ValueError(f"{file} is not the published network: its SHA-256 is {digest}; expected {known.sha256}")
    return file


@cache
def _sha256(file: Path, changed: int) -> str:
    """The sum of a file; ``changed`` is when it was written, so that a file that is replaced is read again."""
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
