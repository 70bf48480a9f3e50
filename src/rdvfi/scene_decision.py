"""Whether two frames show one scene: decided once per pair, and stored with its motion.

Across a cut no motion is true, and warping along a wrong one smears. A motion whose flows contradict
each other says so itself: with ``c`` the trajectory's mean confidence at mid-time
(`rdvfi.interfaces.Trajectory.confidence`) and ``T`` the threshold, a pair is of one scene where
``c >= T``. Frames fade from warped ones to a cross-fade by the weight

    w = clamp((c - 0.875 T) / (1.05 T - 0.875 T), 0, 1),

so that a film whose pairs come near the threshold does not jump between the two. With ``T = 0`` every
pair is of one scene.

`rdvfi.Interpolator.estimate` makes the decision. Renderers, the video engine and its report read it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi.types import short_repr

SCENE_THRESHOLD = 0.4
"""Mean confidence at mid-time below which a pair is taken for one of two scenes.

Measured on pairs up to eight film frames apart: cuts lie between 0.07 and 0.34, pairs of one scene at
0.48 and more, turns by 90 degrees included.
"""

_FADED, _FULL = 0.875, 1.05
"""Shares of the threshold up to which nothing is left of the motion, and from which all of it is."""


@dataclass(frozen=True, eq=False)
class SceneDecision:
    """Per sample: whether both frames belong to one scene, and why."""

    same_scene: Bool[Tensor, " b"]
    confidence: Float[Tensor, " b"]
    """Mean confidence of the motion at mid-time, in (0, 1]."""
    weight: Float[Tensor, " b"]
    """Share of the motion in what is drawn: 1 is warped frames, 0 a cross-fade."""
    threshold: float
    """Of the confidence; 0 interpolates every pair."""
    forced: bool = False
    """Whether the caller decided, not the confidence."""

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
            confidence: Mean confidence of each pair's motion, in (0, 1].
            threshold: In [0, 1]; `SCENE_THRESHOLD` if not given.
            same_scene: Decides instead of the confidence, for all pairs or for each.
        """
        limit = SCENE_THRESHOLD if threshold is None else float(threshold)
        if same_scene is not None:
            forced = torch.ones_like(confidence, dtype=torch.bool) & same_scene
            return cls(forced, confidence, forced.to(confidence), limit, forced=True)
        if limit <= 0.0:
            same = torch.ones_like(confidence, dtype=torch.bool)
            return cls(same, confidence, torch.ones_like(confidence), limit)
        low, high = _FADED * limit, min(_FULL * limit, 1.0)
        weight = ((confidence - low) / (high - low)).clamp(0.0, 1.0)
        return cls(confidence >= limit, confidence, weight, limit)

    def reason(self, i: int = 0) -> str:
        """Why sample ``i`` was decided as it was, in one line. Waits for the device."""
        verdict = "one scene" if bool(self.same_scene[i]) else "two scenes"
        if self.forced:
            return f"{verdict}: forced by same_scene"
        trust = float(self.confidence[i])
        if self.threshold <= 0.0:
            return f"{verdict}: scene_threshold 0 interpolates every pair (mean confidence {trust:.2f})"
        relation = "at least" if bool(self.same_scene[i]) else "below"
        return f"{verdict}: mean confidence {trust:.2f} is {relation} the threshold of {self.threshold:.2f}"
