"""The interface of a method under evaluation: two frames and a list of times in, frames out."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.interpolator import Interpolator
from rdvfi.types import Flows, Image, Times, Video

METHOD_ERRORS = (ValueError, RuntimeError, OSError, ImportError, KeyError, TypeError, MemoryError)
"""Exceptions of a method or a metric that do not end the evaluation of the others."""


class Method(ABC):
    """Interpolates frames between two frames."""

    name: str
    needs_warm_up: bool = True
    """Whether the first call is slower than the others. Such a method is called once before it is timed."""
    is_timed: bool = True
    """Whether the duration of a call is the cost of interpolation; False where frames are read from files."""
    is_external: bool = False
    """Whether other processes do the work; `measure_memory` measures theirs."""

    def prepare(self, window: EvaluationWindow) -> None:
        """Called before the frames of ``window`` are requested. Does nothing by default."""
        del window

    def measure_memory(self, call: Callable[[], object]) -> float | None:
        """Run ``call`` and return the peak memory of its other processes in megabytes; None if it is unknown."""
        call()
        return None

    @property
    def model(self) -> Interpolator | None:
        """The model behind the method, or None."""
        return None

    @abstractmethod
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at ``times`` between two frames in [0, 1], as (1, t, 3, H, W)."""

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        """Flows from each interpolated frame to the first and to the last one, in pixels, (1, t, 2, H, W).

        None if the method uses no flow, or flow on another grid.
        """
        return None

    def check_frames(self, frames: Tensor, img0: Image, times: Times) -> Video:
        """``frames``, if they have the expected shape; raises ValueError otherwise."""
        expected = (1, len(times), *img0.shape[1:])
        if tuple(frames.shape) != expected:
            raise ValueError(f"{self.name} returned frames of {tuple(frames.shape)}; expected {expected}")
        return frames


class UnavailableMethod(Method):
    """Placeholder for a method that could not be created. Every call raises the reason."""

    def __init__(self, name: str, reason: Exception) -> None:
        self.name, self.reason = name, reason

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        raise self.reason
