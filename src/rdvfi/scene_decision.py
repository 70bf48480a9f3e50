"""Whether two frames show one scene: decided once per pair, and stored with its motion.

Across a cut there is no true motion, and warping along a wrong one smears. The forward and backward flows are then
inconsistent: with ``c`` the trajectory's mean confidence at mid-time (`rdvfi.interfaces.Trajectory.confidence`) and
``T`` the threshold, a pair shows one scene if ``c >= T``. Warped frames are mixed with a cross-fade by the weight

    w = clamp((c - 0.875 T) / (1.05 T - 0.875 T), 0, 1),

so that a video with pairs near the threshold does not jump between the two. With ``T = 0`` every
pair counts as one scene.

`rdvfi.Interpolator.estimate` makes the decision. Renderers, the video engine and its report read it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.types import short_repr

SCENE_THRESHOLD = 0.4
"""Mean confidence at mid-time below which a pair counts as two scenes.

Measured on pairs up to eight frames apart: 0.07 to 0.34 at cuts, 0.48 and more within a scene, rotations by
90 degrees included.
"""

_CROSS_FADE, _FULL_MOTION = 0.875, 1.05
"""Fractions of the threshold below which frames are a cross-fade, and above which they are warped fully."""


@dataclass(frozen=True, eq=False)
class SceneDecision:
    """Whether both frames of each sample show one scene, and why."""

    same_scene: Bool[Tensor, " b"]
    confidence: Float[Tensor, " b"]
    """Mean confidence of the motion at mid-time, in (0, 1]."""
    weight: Float[Tensor, " b"]
    """Weight of the warped frames: 1 is warped frames, 0 a cross-fade."""
    threshold: float
    """Threshold of the confidence; with 0 every pair is interpolated."""
    forced: bool = False
    """Whether the caller has decided, instead of the confidence."""

    __repr__ = short_repr

    @classmethod
    def of(
        cls,
        confidence: Float[Tensor, " b"],
        *,
        threshold: float | None = None,
        same_scene: bool | Bool[Tensor, " b"] | None = None,
    ) -> "SceneDecision":
        """The decision for pairs of this mean confidence; no value is read from the device.

        Args:
            confidence: Mean confidence of the motion of each pair, in (0, 1].
            threshold: Threshold in [0, 1]; `SCENE_THRESHOLD` by default.
            same_scene: The decision itself, for all pairs or for each.
        """
        limit = SCENE_THRESHOLD if threshold is None else float(threshold)
        if same_scene is not None:
            forced = torch.ones_like(confidence, dtype=torch.bool) & same_scene
            return cls(forced, confidence, forced.to(confidence), limit, forced=True)
        if limit <= 0.0:
            same_scene = torch.ones_like(confidence, dtype=torch.bool)
            return cls(same_scene, confidence, torch.ones_like(confidence), limit)
        low, high = _CROSS_FADE * limit, min(_FULL_MOTION * limit, 1.0)
        weight = ((confidence - low) / (high - low)).clamp(0.0, 1.0)
        return cls(confidence >= limit, confidence, weight, limit)

    def reason(self, i: int = 0) -> str:
        """The reason for the decision on sample ``i``, in one line. Waits for the device."""
        verdict = "one scene" if bool(self.same_scene[i]) else "two scenes"
        if self.forced:
            return f"{verdict}: forced by same_scene"
        confidence = float(self.confidence[i])
        if self.threshold <= 0.0:
            return f"{verdict}: scene_threshold 0 interpolates every pair (mean confidence {confidence:.2f})"
        relation = "at least" if bool(self.same_scene[i]) else "below"
        return f"{verdict}: mean confidence {confidence:.2f} is {relation} the threshold of {self.threshold:.2f}"
