"""RAFT: recurrent all-pairs field transforms (Teed and Deng, ECCV 2020), as torchvision has it.

All pairs of features at an eighth of the size are compared once; a recurrent unit then looks up the
matches around its current guess and corrects it, twelve times by default. It reads pixels, so with
decoded keyframes it needs no training of ours. https://arxiv.org/abs/2003.12039

Weights are torchvision's own file in the cache of `torch.hub`, which other programs share. Nothing
is downloaded: if the file is not there, the error says what to put where.
"""

import hashlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import About
from rdvfi.compat import import_torchvision
from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.registry import flows

_MULTIPLE = 8
_MINIMUM = 128
"""Below this the coarsest level of RAFT's matches is smaller than its look-up."""


class RaftSize(Enum):
    """torchvision's two networks."""

    LARGE = "raft_large"
    SMALL = "raft_small"


class Raft(FlowEstimator):
    """RAFT on images of any size.

    Args:
        network: torchvision's module.
        iterations: Corrections of the flow.
        pretrained: Whether the network carries trained weights.
    """

    reads = Reads.PIXELS

    def __init__(self, network: nn.Module, iterations: int, *, pretrained: bool) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1; got {iterations}")
        self.network, self.iterations, self.pretrained = network, iterations, pretrained
        self.network.eval()

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        h, w = source.shape[-2:]
        rows, columns = (max(_MINIMUM, -(-side // _MULTIPLE) * _MULTIPLE) - side for side in (h, w))
        left, top = columns // 2, rows // 2
        sides = (left, columns - left, top, rows - top)
        pair = [F.pad(2.0 * x.float() - 1.0, sides, mode="replicate") for x in (source, target)]
        # Its coordinates and matches need float32 whatever the rest computes in.
        with torch.autocast(source.device.type, enabled=False):
            flow = self.network(*pair, num_flow_updates=self.iterations)[-1]
        return flow[..., top : top + h, left : left + w]

    def train(self, mode: bool = True) -> "Raft":
        """As for any module, but the network's batch statistics stay those it came with."""
        super().train(mode)
        self.network.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Raft":
        def convert(tensor: Tensor) -> Any:
            moved = fn(tensor)
            # The original again, not what half precision has left of it.
            return tensor.to(moved.device) if moved.dtype != tensor.dtype else moved

        return super()._apply(convert, recurse)


def _weights_file(url: str) -> Path:
    """torchvision's file in the cache of torch.hub, checked.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is damaged.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        raise FileNotFoundError(
            f"the weights of RAFT are not in torch's cache: put {url} at {path} (or use "
            "weights=null for an untrained network)"
        )
    # torchvision's names end in the beginning of the file's hash.
    expected = path.stem.rsplit("-", 1)[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(expected):
        raise ValueError(f"{path} is damaged: its SHA-256 begins {digest[:8]}, not {expected}")
    return path


@flows.register(
    "raft",
    about=About(
        weights="torchvision (FlyingChairs, FlyingThings3D, Sintel, KITTI, HD1K), from its servers",
        weights_licence="none known to us that torchvision states; its data sets have their terms",
        citation="Z. Teed, J. Deng: RAFT: Recurrent All-Pairs Field Transforms. ECCV 2020",
        url="https://arxiv.org/abs/2003.12039",
    ),
)
def raft(*, size: RaftSize = RaftSize.LARGE, weights: str | None = "default", iterations: int = 12) -> FlowEstimator:
    """torchvision's RAFT; reads pixels, its weights come from torch's cache.

    Args:
        size: LARGE (5.3 M parameters) or SMALL (1 M).
        weights: "default" for torchvision's best weights; None for an untrained network.
        iterations: Corrections of the flow.
    """
    import_torchvision()
    from torchvision.models import optical_flow

    if weights not in (None, "default"):
        raise ValueError(f"weights must be 'default' or None; got {weights!r}")
    network = getattr(optical_flow, size.value)(weights=None)
    if weights is not None:
        named = {"raft_large": "Raft_Large_Weights", "raft_small": "Raft_Small_Weights"}[size.value]
        path = _weights_file(getattr(optical_flow, named).DEFAULT.url)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Raft(network, iterations, pretrained=weights is not None)
