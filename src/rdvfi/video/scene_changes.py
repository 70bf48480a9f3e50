"""What to show between two frames of different scenes.

Which pairs these are is decided with their motion (`rdvfi.scene_decision`). Nothing can be interpolated
between two scenes, but something has to be shown, and what is right is a matter of taste: a pause and
a hard cut, or a short dissolve.
"""

from dataclasses import dataclass
from enum import Enum

from rdvfi._inputs import check_threshold
from rdvfi.scene_decision import SCENE_THRESHOLD


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
    """How scene changes are recognised and filled.

    Attributes:
        action: What is shown.
        threshold: Mean confidence, in [0, 1], below which two frames are of two scenes; at 0 all
            pairs are interpolated.
    """

    action: OnSceneChange = OnSceneChange.BLEND
    threshold: float = SCENE_THRESHOLD

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def holds(self) -> bool:
        """Whether one of both frames is repeated; else the renderer draws what it draws across a cut."""
        return self.action is not OnSceneChange.BLEND

    def holds_first(self, timestep: float) -> bool:
        """Whether it is the first frame that is repeated at this time, or the last one."""
        return self.action is OnSceneChange.HOLD_PREVIOUS or timestep < 0.5


def scene_changes(action: str, threshold: float | None) -> SceneChanges:
    """By the name of what is shown.

    Raises:
        ValueError: If there is no such action, or the threshold is out of range.
    """
    names = [each.value for each in OnSceneChange]
    if action not in names:
        raise ValueError(f"on_scene_change is {action!r}; expected one of {', '.join(names)}")
    return SceneChanges(OnSceneChange(action), SCENE_THRESHOLD if threshold is None else threshold)
