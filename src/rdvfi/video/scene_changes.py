"""What is shown between two frames of different scenes.

Whether two frames belong to one scene is decided with their motion (`rdvfi.scene_decision`). Between two scenes nothing
can be interpolated; users choose between a hard cut after a pause and a short dissolve.
"""

from dataclasses import dataclass
from enum import Enum

from rdvfi._inputs import check_threshold
from rdvfi.scene_decision import SCENE_THRESHOLD


class OnSceneChange(Enum):
    """What is shown between two frames of different scenes."""

    BLEND = "blend"
    """A dissolve from the first to the second."""
    HOLD_PREVIOUS = "hold_previous"
    """The frame before the cut, which keeps its time."""
    HOLD_NEAREST = "hold_nearest"
    """The nearer of the two frames; the cut is half a frame earlier."""


@dataclass(frozen=True)
class SceneChanges:
    """How scene changes are recognised and filled.

    Attributes:
        action: What is shown.
        threshold: Mean confidence, in [0, 1], below which two frames belong to different scenes; at 0 all pairs are
            interpolated.
    """

    action: OnSceneChange = OnSceneChange.BLEND
    threshold: float = SCENE_THRESHOLD

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def holds(self) -> bool:
        """Whether one of both frames is held; otherwise the renderer blends them."""
        return self.action is not OnSceneChange.BLEND

    def holds_first(self, timestep: float) -> bool:
        """Whether the first frame is held at this time, not the last one."""
        return self.action is OnSceneChange.HOLD_PREVIOUS or timestep < 0.5


def scene_changes(action: str, threshold: float | None) -> SceneChanges:
    """Parse the options on scene changes; None is the default threshold.

    Raises:
        ValueError: If there is no such action, or the threshold is out of range.
    """
    names = [member.value for member in OnSceneChange]
    if action not in names:
        raise ValueError(f"on_scene_change is {action!r}; expected one of {', '.join(names)}")
    return SceneChanges(OnSceneChange(action), SCENE_THRESHOLD if threshold is None else threshold)
