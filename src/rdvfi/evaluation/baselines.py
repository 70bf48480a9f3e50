"""Baselines: cross-fade, and classical optical flow with warping.

Every method, ours included, is a `Method`: two frames and a list of times in, frames out.

``dis`` is OpenCV's dense inverse search (medium preset), run in both directions. The flows of an
instant follow from the two end-to-end flows ``F01`` and ``F10`` as in Super SloMo::

    F_t0 = -(1-t) t F01 + t^2 F10        F_t1 = (1-t)^2 F01 - t (1-t) F10

and the frame is ``(1-t) warp(img0, F_t0) + t warp(img1, F_t1)``. ``dis-448`` finds the flow on
frames reduced to 448 pixels of width and enlarges it.

`Blurred` smooths the frames of another method. Where motion is wrong, blur gains PSNR: a method
has shown something only if it also beats the blurred baselines.

References:
    Fast optical flow using dense inverse search (Kroeger et al., 2016).
    Super SloMo: high quality estimation of multiple intermediate frames (Jiang et al., 2018).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from jaxtyping import Float, UInt8

from rdvfi.evaluation.clip_evaluation import EvaluationWindow
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.interpolator import Interpolator
from rdvfi.media.pixels import to_pixels
from rdvfi.ops import backward_warp
from rdvfi.types import Flow, Flows, Image, Times, Video

FAILURES = (ValueError, RuntimeError, OSError, ImportError, KeyError, TypeError, MemoryError)
"""What a method may raise without ending the evaluation of the others."""


class Method(ABC):
    """Makes the frames between two frames."""

    name: str
    warm_up: bool = True
    """Whether its first call is slower than the others, so that it is called once before time is taken."""

    timed: bool = True
    """Whether its calls take the time that making frames takes; reading ready frames does not."""
    outside: bool = False
    """Whether other processes do its work; `memory_of` is theirs then."""

    def begin(self, window: EvaluationWindow) -> None:
        """Told which window comes next; nearly all methods need not know."""
        del window

    def memory_of(self, call: Callable[[], object]) -> float | None:
        """Peak memory in megabytes of the other processes that work in ``call``, where they can be measured."""
        call()
        return None

    @property
    def model(self) -> Interpolator | None:
        """What makes the frames, if it is one of our models."""
        return None

    @abstractmethod
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at ``times`` between two frames in [0, 1], as (1, t, 3, H, W)."""

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        """Flows from each new frame to the first and to the last one, in pixels of the images, (1, t, 2, H, W).

        None from methods that draw their frames without any, or with flows on another grid.
        """
        return None


class Unavailable(Method):
    """In the place of a method that could not be made; every call raises the reason."""

    def __init__(self, name: str, reason: Exception) -> None:
        self.name, self.reason = name, reason

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        raise self.reason


class CrossFade(Method):
    """The cross-fade ``(1-t) img0 + t img1``: no motion at all."""

    name = "blend"

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        share = times.to(img0).view(1, -1, 1, 1, 1)
        return torch.lerp(img0[:, None], img1[:, None], share)


class DISWarp(Method):
    """OpenCV DIS flow in both directions, then warping of both frames.

    Args:
        width: Width at which the flow is found, in pixels; frames that are narrower, and all
            frames if it is None, are taken at their own size.
    """

    def __init__(self, *, width: int | None = None) -> None:
        self.name = "dis" if width is None else f"dis-{width}"
        self.width = width

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        to_first, to_last = self.flows(img0, img1, times)
        frames = []
        for i, time in enumerate(times.tolist()):
            first = backward_warp(img0, to_first[:, i])
            last = backward_warp(img1, to_last[:, i])
            frames.append(torch.lerp(first, last, time))
        return torch.stack(frames, dim=1)

    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows]:
        return intermediate_flows(*self._flows(img0, img1), times.to(img0.device))

    def _flows(self, img0: Image, img1: Image) -> tuple[Flow, Flow]:
        """Flow from first to last and back, at full size, in full-size pixels."""
        h, w = img0.shape[-2:]
        size = (h, w)
        if self.width is not None and self.width < w:
            size = (round(h * self.width / w), self.width)
        first, last = (grey(resize_image(img, size)[0]) for img in (img0, img1))
        flows = []
        for source, target in ((first, last), (last, first)):
            flows.append(resize_flow(dis_flow(source, target).to(img0.device), (h, w)))
        return flows[0], flows[1]


def dis_flow(source: UInt8[np.ndarray, "h w"], target: UInt8[np.ndarray, "h w"]) -> Float[torch.Tensor, "1 2 h w"]:
    """OpenCV's DIS flow (medium preset) between two 8-bit grey pictures, on the grid of ``source``."""
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # None is what OpenCV asks for when there is no flow to start from.
    flow = estimator.calc(source, target, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return torch.from_numpy(flow).permute(2, 0, 1)[None]


def grey(image: Float[torch.Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w"]:
    """8-bit luma of an image in [0, 1]."""
    import cv2

    return cv2.cvtColor(to_pixels(image, deep=False), cv2.COLOR_RGB2GRAY)


def flows_between(frames: Float[torch.Tensor, "n 3 H W"], *, back: bool = False) -> Float[torch.Tensor, "m 2 H W"]:
    """DIS flow from every frame to the next one, or from every frame but the first to the one before it.

    On the grid of the frame that it leads from, in pixels.
    """
    return torch.cat([dis_flow(b, a) if back else dis_flow(a, b) for a, b in pairwise(map(grey, frames))])


def intermediate_flows(forward: Flow, backward: Flow, times: Times) -> tuple[Flows, Flows]:
    """Flows of each instant to the first and to the last frame, from the two end-to-end flows."""
    t = times.view(1, -1, 1, 1, 1)
    f01, f10 = forward[:, None], backward[:, None]
    to_first = -(1.0 - t) * t * f01 + t * t * f10
    to_last = (1.0 - t) * (1.0 - t) * f01 - t * (1.0 - t) * f10
    return to_first, to_last


class Blurred(Method):
    """Another method's frames, smoothed by a Gaussian of ``sigma`` pixels."""

    def __init__(self, method: Method, sigma: float) -> None:
        if not sigma > 0.0:
            raise ValueError(f"blur sigma is {sigma}; it must be above 0 pixels")
        self.name = f"{method.name}+blur{sigma:g}"
        self.method = method
        self.sigma = sigma
        self.warm_up, self.timed, self.outside = method.warm_up, method.timed, method.outside

    def begin(self, window: EvaluationWindow) -> None:
        self.method.begin(window)

    def memory_of(self, call: Callable[[], object]) -> float | None:
        return self.method.memory_of(call)

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        from kornia.filters import gaussian_blur2d

        frames = self.method(img0, img1, times)
        side, sigma = 2 * ceil(3.0 * self.sigma) + 1, (self.sigma, self.sigma)
        smooth = gaussian_blur2d(frames.flatten(0, 1), (side, side), sigma, border_type="replicate")
        return smooth.unflatten(0, frames.shape[:2])
