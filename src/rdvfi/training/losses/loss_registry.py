"""Losses: registered, named parts that a recipe weighs.

A loss reads an `Evidence`, what an objective made of one batch, and says by `Loss.needs` which part
of it. A part that no loss needs is not computed, and a loss whose part is missing from a batch
(exact flow on real clips) is left out of that step. ``losses.NAME=WEIGHT`` in a recipe switches one
on; registering one is all that a new one needs::

    from rdvfi.training.losses.loss_registry import Evidence, Loss, Needs, losses

    @losses.register("mine")
    class Mine(Loss):
        needs = Needs.FRAMES

        def forward(self, evidence: Evidence) -> Tensor: ...

The paper's are ``l2``, ``lpips`` and ``theta``.
"""

from rdvfi.training.losses.denoising import NearestDraw, Theta, rising_noise_level
from rdvfi.training.losses.evidence import (
    Drawing,
    Estimates,
    Evidence,
    FlowPair,
    FramePair,
    GeneratorSampler,
    Loss,
    Maps,
    Matches,
    Needs,
    Terms,
    losses,
)
from rdvfi.training.losses.imitation import Imitation
from rdvfi.training.losses.lpips_loss import LPIPS, FeatureDistance
from rdvfi.training.losses.match import EveryEstimate, MatchingLoss, estimates_loss, matching_loss
from rdvfi.training.losses.motion import (
    AdjacentFlow,
    ExactFlow,
    flow_loss,
)
from rdvfi.training.losses.photometric import L1, L2, Census, Edges, PSNRLoss

__all__ = [
    "L1",
    "L2",
    "LPIPS",
    "AdjacentFlow",
    "Census",
    "Drawing",
    "Edges",
    "Estimates",
    "EveryEstimate",
    "Evidence",
    "ExactFlow",
    "FeatureDistance",
    "FlowPair",
    "FramePair",
    "GeneratorSampler",
    "Imitation",
    "Loss",
    "Maps",
    "Matches",
    "MatchingLoss",
    "NearestDraw",
    "Needs",
    "PSNRLoss",
    "Terms",
    "Theta",
    "estimates_loss",
    "flow_loss",
    "losses",
    "matching_loss",
    "rising_noise_level",
]
