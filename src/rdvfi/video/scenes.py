"""Pairs of frames that have nothing in common: what to show between them.

A motion whose flows contradict each other says so itself (`rdvfi.interfaces.Trajectory`): across a
scene cut the mean confidence is low. Nothing can be interpolated there, but something has to be
shown, and what is right is a matter of taste: a pause and a hard cut, or a short dissolve.
"""

from dataclasses import dataclass
from enum import Enum

import torch

from rdvfi.interfaces import Motion

_TIMES = (0.25, 0.5, 0.75)
LOW_CONFIDENCE = 0.4
"""Mean confidence below which a pair is taken for a scene change.

Over 45 seconds of animated film, eight frames apart, with classical flow: scene cuts lie between
0.13 and 0.33, pairs of one scene between 0.48 and 1.
"""


class OnSceneChange(Enum):
    """What is shown between two frames of two scenes."""

    BLEND = "blend"
    """A dissolve from the one to the other."""
    HOLD_PREVIOUS = "hold_previous"
    """The frame before the change; the cut stays where it was."""
    HOLD_NEAREST = "hold_nearest"
    """The nearer of the two frames; the cut comes half a frame earlier."""


@dataclass(frozen=True)
class SceneChanges:
    """How scene changes are found and filled.

    Attributes:
        action: What is shown.
        threshold: Mean confidence, in [0, 1], below which two frames are of two scenes; at 0 all
            pairs are interpolated.
    """

    action: OnSceneChange = OnSceneChange.BLEND
    threshold: float = LOW_CONFIDENCE

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"scene_threshold is {self.threshold}; it must be in [0, 1]")

    def holds_first(self, timestep: float) -> bool | None:
        """Whether the first frame is repeated at this time, or the last one; None: neither."""
        if self.action is OnSceneChange.BLEND:
            return None
        return self.action is OnSceneChange.HOLD_PREVIOUS or timestep < 0.5


def scene_changes(action: str, threshold: float) -> SceneChanges:
    """By the name of what is shown.

    Raises:
        ValueError: If there is no such action, or the threshold is out of range.
    """
    names = [each.value for each in OnSceneChange]
    if action not in names:
        raise ValueError(f"on_scene_change is {action!r}; expected one of {', '.join(names)}")
    return SceneChanges(OnSceneChange(action), threshold)


def mean_confidence(motion: Motion) -> float:
    """Of a pair, over its time and its picture, in (0, 1]."""
    times = torch.tensor(_TIMES, device=motion.keyframes.latents.device)
    return float(motion.trajectory.confidence(times).mean())
