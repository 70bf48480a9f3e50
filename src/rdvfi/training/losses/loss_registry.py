"""Registry of losses, and their weights in a recipe.

A loss reads one input of `Evidence`, which an objective computes from a batch; `Loss.needs` names it. Inputs
that no loss needs are not computed, and a loss whose input is missing for a batch (exact flow of real clips) is
left out of that step. ``losses.NAME=WEIGHT`` in a recipe enables a loss. A new loss only has to be registered::

    from rdvfi.training.losses.loss_registry import Evidence, Loss, Needs, losses

    @losses.register("mine")
    class Mine(Loss):
        needs = Needs.FRAMES

        def forward(self, evidence: Evidence) -> Tensor: ...

The losses of the paper are ``l2``, ``lpips`` and ``theta``.
"""

from rdvfi.training.losses import denoising, flow_losses, imitation, lpips_loss, photometric
from rdvfi.training.losses.evidence import Evidence, Loss, Needs, WeightedLosses, losses

__all__ = ["Evidence", "Loss", "Needs", "WeightedLosses", "losses"]

_LOSS_MODULES = (denoising, flow_losses, imitation, lpips_loss, photometric)
"""Importing these modules registers their losses."""
