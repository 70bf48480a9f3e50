"""Registry of losses, and their weights in a recipe.

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

from rdvfi.training.losses import denoising, flow_losses, imitation, lpips_loss, photometric
from rdvfi.training.losses.evidence import Evidence, Loss, Needs, Terms, losses

__all__ = ["Evidence", "Loss", "Needs", "Terms", "losses"]

_REGISTER = (denoising, flow_losses, imitation, lpips_loss, photometric)
"""Modules whose losses register themselves when they are imported."""
