"""Baselines: cross-fade, and classical optical flow with warping.

``dis`` is OpenCV's dense inverse search (medium preset), computed in both directions. The flows at time t
follow from the two end-to-end flows ``F01`` and ``F10`` as in Super SloMo::

    F_t0 = -(1-t) t F01 + t^2 F10        F_t1 = (1-t)^2 F01 - t (1-t) F10

and the frame is ``(1-t) warp(img0, F_t0) + t warp(img1, F_t1)``. ``dis-448`` computes the flow on
frames reduced to a width of 448 pixels and resizes it.

`BlurredMethod` blurs the frames of another method. Blur raises the PSNR of wrong motion, so a good PSNR
means little unless it also exceeds that of the blurred baselines.

References:
    Fast optical flow using dense inverse search (Kroeger et al., 2016).
    Super SloMo: high quality estimation of multiple intermediate frames (Jiang et al., 2018).
"""

from collections.abc import Callable
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from jaxtyping import Float, UInt8

from rdvfi.evaluation.evaluation_window import EvaluationWindow
from rdvfi.evaluation.method import Method
from rdvfi.geometry import resize_flow, resize_image
from rdvfi.media.pixels import to_pixels
from rdvfi.ops import backward_warp
from rdvfi.types import Flow, Flows, Image, Times, Video


class CrossFade(Method):
    """The cross-fade ``(1-t) img0 + t img1``, without motion."""

    name = "blend"

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        return torch.lerp(img0[:, None], img1[:, None], times.to(img0).view(1, -1, 1, 1, 1))


class DISWarp(Method):
    """OpenCV DIS flow in both directions, then warping of both frames.

    Args:
        width: Width at which the flow is computed, in pixels. Narrower frames, and all frames if it is None,
            keep their size.
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
        return intermediate_flows(*self._end_to_end_flows(img0, img1), times.to(img0.device))

    def _end_to_end_flows(self, img0: Image, img1: Image) -> tuple[Flow, Flow]:
        """Flow from first to last and back, at full size, in full-size pixels."""
        h, w = img0.shape[-2:]
        size = (h, w)
        if self.width is not None and self.width < w:
            size = (round(h * self.width / w), self.width)
        first, last = (to_grey(resize_image(img, size)[0]) for img in (img0, img1))
        flows = []
        for source, target in ((first, last), (last, first)):
            flows.append(resize_flow(dis_flow(source, target).to(img0.device), (h, w)))
        return flows[0], flows[1]


def dis_flow(source: UInt8[np.ndarray, "h w"], target: UInt8[np.ndarray, "h w"]) -> Float[torch.Tensor, "1 2 h w"]:
    """OpenCV's DIS flow (medium preset) between two 8-bit grey pictures, on the grid of ``source``."""
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # OpenCV expects None where there is no initial flow.
    flow = estimator.calc(source, target, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return torch.from_numpy(flow).permute(2, 0, 1)[None]


def to_grey(image: Float[torch.Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w"]:
    """8-bit luma of an image in [0, 1]."""
    import cv2

    return cv2.cvtColor(to_pixels(image, deep=False), cv2.COLOR_RGB2GRAY)


def consecutive_flows(
    frames: Float[torch.Tensor, "n 3 H W"], *, backward: bool = False
) -> Float[torch.Tensor, "m 2 H W"]:
    """DIS flow from every frame to the next one, or, if ``backward``, from every later frame to the one before it.

    In pixels, on the grid of the frame where it starts.
    """
    pairs = pairwise(map(to_grey, frames))
    return torch.cat([dis_flow(b, a) if backward else dis_flow(a, b) for a, b in pairs])


def intermediate_flows(forward: Flow, backward: Flow, times: Times) -> tuple[Flows, Flows]:
    """Flows at ``times`` to the first and to the last frame, from the two end-to-end flows."""
    t = times.view(1, -1, 1, 1, 1)
    f01, f10 = forward[:, None], backward[:, None]
    to_first = -(1.0 - t) * t * f01 + t * t * f10
    to_last = (1.0 - t) * (1.0 - t) * f01 - t * (1.0 - t) * f10
    return to_first, to_last


class BlurredMethod(Method):
    """Another method's frames, blurred by a Gaussian of ``sigma`` pixels."""

    def __init__(self, method: Method, sigma: float) -> None:
        if not sigma > 0.0:
            raise ValueError(f"blur sigma is {sigma}; it must be above 0 pixels")
        self.name = f"{method.name}+blur{sigma:g}"
        self.method = method
        self.sigma = sigma
        self.needs_warm_up, self.is_timed, self.is_external = method.needs_warm_up, method.is_timed, method.is_external

    def prepare(self, window: EvaluationWindow) -> None:
        self.method.prepare(window)

    def measure_memory(self, call: Callable[[], object]) -> float | None:
        return self.method.measure_memory(call)

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        from kornia.filters import gaussian_blur2d

        frames = self.method(img0, img1, times)
        kernel_size = 2 * ceil(3.0 * self.sigma) + 1
        blurred = gaussian_blur2d(
            frames.flatten(0, 1), (kernel_size, kernel_size), (self.sigma, self.sigma), border_type="replicate"
        )
        return blurred.unflatten(0, frames.shape[:2])
