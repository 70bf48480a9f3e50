"""Any model of PyTorch Lightning Optical Flow (https://github.com/hmorimitsu/ptlflow).

The package gathers many published estimators behind one call. It is imported when a model is made,
so that the rest of the plug-in works without it.

The call was written from memory and has never been run. It takes for granted that the models read a
batch of image pairs in [0, 1] with blue first, as OpenCV has it, pad them as they need, and return
flow in pixels at full size.
"""

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi import FlowEstimator, Reads, flows
from rdvfi.about import About


class PtlFlow(FlowEstimator):
    """One of ptlflow's models, for inference.

    Args:
        network: What ``ptlflow.get_model`` returns.
        pretrained: Whether it carries published weights.
    """

    reads = Reads.PIXELS

    def __init__(self, network: nn.Module, *, pretrained: bool) -> None:
        super().__init__()
        self.network, self.pretrained = network.eval().requires_grad_(False), pretrained

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """See `rdvfi.interfaces.FlowEstimator.forward`."""
        pairs = torch.stack((source, target), dim=1).flip(2)
        return self.network({"images": pairs})["flows"][:, 0].float()


# --8<-- [start:lazily]
def _import_ptlflow() -> ModuleType:
    try:
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
    package = _import_ptlflow()
    return PtlFlow(package.get_model(model, ckpt_path=checkpoint), pretrained=checkpoint is not None)
