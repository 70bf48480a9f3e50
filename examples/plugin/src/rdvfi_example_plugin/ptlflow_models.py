"""Any model of PyTorch Lightning Optical Flow (https://github.com/hmorimitsu/ptlflow).

The package gathers many published estimators behind one call. It is imported when a model is made,
so that the rest of the plug-in works without it.

Its models read a batch of image pairs in [0, 1] with blue first, as OpenCV has it, pad them as they need,
and return flow in pixels at full size. Tried with ptlflow 0.4.2 and random weights.
"""

import warnings
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn

import rdvfi
from rdvfi import FlowEstimator, Reads, flows
from rdvfi.about import About
from rdvfi.geometry import replicate_pad

_MIN_SIDE = 128
"""Smallest side of the input, required by correlation pyramids of four levels."""


class PtlFlow(FlowEstimator):
    """One of ptlflow's models, for inference.

    Args:
        network: Model of ``ptlflow.get_model``.
        pretrained: Whether it has published weights.
    """

    reads = Reads.PIXELS

    def __init__(self, network: nn.Module, *, pretrained: bool) -> None:
        super().__init__()
        self.network, self.pretrained = network.eval().requires_grad_(False), pretrained

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """See `rdvfi.interfaces.FlowEstimator.forward`."""
        h, w = source.shape[-2:]
        pair = [replicate_pad(image, (max(h, _MIN_SIDE), max(w, _MIN_SIDE))) for image in (source, target)]
        flow = self.network({"images": torch.stack(pair, dim=1).flip(2)})["flows"][:, 0]
        return flow[..., :h, :w].float()


# --8<-- [start:lazily]
def _import_ptlflow() -> ModuleType:
    try:
        rdvfi.compat.import_timm()  # so that ptlflow can import timm with a CPU build of torch
        import ptlflow
    except ImportError as error:
        raise ImportError(
            "the flow 'ptlflow' needs the package ptlflow: pip install 'rdvfi-example-plugin[ptlflow]'"
        ) from error
    return ptlflow


# --8<-- [end:lazily]
@flows.register(
    "ptlflow",
    about=About(
        weights="ptlflow's own downloads, by checkpoint name",
        weights_licence="differs by model: see ptlflow's list",
        citation="H. Morimitsu: PyTorch Lightning Optical Flow. 2021",
        url="https://github.com/hmorimitsu/ptlflow",
    ),
)
def ptlflow(*, model: str = "raft_small", checkpoint: str | None = "things") -> FlowEstimator:
    """Any model of the package ptlflow; reads pixels.

    Args:
        model: A name that ``ptlflow.get_model_names()`` gives.
        checkpoint: The name or file of its weights; None for an untrained network.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of its dependencies
        network = _import_ptlflow().get_model(model, ckpt_path=checkpoint)
    return PtlFlow(network, pretrained=checkpoint is not None)
