"""Classical flow as registered estimators: OpenCV's DIS, alone and with similarity hypotheses.

How the two work together is in `rdvfi.motion.flow.similarity_hypotheses`.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.about import About
from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.motion.flow.similarity_hypotheses import DIS, Keypoints, check_preset, similarity_flow, to_gray
from rdvfi.registry import flows


# An operator of its own, so that a compiled program calls it as a whole. Its annotations are plain:
# they are its schema.
@torch.library.custom_op("rdvfi::dis_flow", mutates_args=(), tags=torch.Tag.cudagraph_unsafe)
def _dis_flow(source: Tensor, target: Tensor, preset: str, similarities: bool) -> Tensor:
    """Flow of every pair of images, found on the CPU one by one."""
    # OpenCV's objects are not for several threads, and both directions see the same pictures.
    dis, find, fields = DIS(preset), Keypoints(), []
    for first, second in zip(source, target, strict=True):
        grays = (to_gray(first), to_gray(second))
        field = similarity_flow(dis, *grays, find) if similarities else dis(*grays)
        fields.append(torch.from_numpy(np.ascontiguousarray(field)).permute(2, 0, 1))
    return torch.stack(fields).contiguous().to(source.device)


@_dis_flow.register_fake
def _(source: Tensor, target: Tensor, preset: str, similarities: bool) -> Tensor:
    n, _, h, w = source.shape
    return source.new_empty((n, 2, h, w), dtype=torch.float32)


class _PixelFlow(FlowEstimator):
    """A classical estimator applied image by image on the CPU."""

    reads = Reads.PIXELS

    def __init__(self, *, preset: str, similarities: bool) -> None:
        super().__init__()
        check_preset(preset)
        self._preset, self._similarities = preset, similarities

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """Flow from source to target by OpenCV on the CPU; no gradients pass."""
        return _dis_flow(source.detach(), target.detach(), self._preset, self._similarities)


@flows.register(
    "dis",
    about=About(
        citation="T. Kroeger et al.: Fast Optical Flow using Dense Inverse Search. ECCV 2016",
        url="https://arxiv.org/abs/1603.03590",
    ),
)
def dis(*, preset: str = "medium") -> FlowEstimator:
    """OpenCV's DIS optical flow; reads pixels, needs no training.

    Args:
        preset: "ultrafast", "fast" or "medium".
    """
    return _PixelFlow(preset=preset, similarities=False)


@flows.register(
    "sift-dis",
    about=About(citation="T. Kroeger et al., ECCV 2016; D. Lowe, IJCV 2004", url="https://arxiv.org/abs/1603.03590"),
)
def sift_dis(*, preset: str = "medium") -> FlowEstimator:
    """DIS with similarity hypotheses from SIFT matches: also large turns and zooms."""
    return _PixelFlow(preset=preset, similarities=True)
