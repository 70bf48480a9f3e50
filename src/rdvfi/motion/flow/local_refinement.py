"""Layers of the local refinement of `rdvfi.motion.flow.global_local`: features, inputs, and one iteration.

All iterations at one stride share their weights (RAFT; Teed and Deng, 2020, https://arxiv.org/abs/2003.12039). An
iteration predicts a free update of the flow and the weights of four candidate updates, all zero before training.
"""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.geometry import flow_length
from rdvfi.layers import Chain, ResidualBlock, conv, zero_conv
from rdvfi.motion.flow.gauss_newton import (
    DAMPING,
    MAX_STEP,
    NormalisedImages,
    Window,
    fit,
    fit_without_motion,
    swap_halves,
    window_mean,
)
from rdvfi.ops import backward_warp
from rdvfi.ops.inference import inference_operator

_WINDOWS = {4: (3, 7), 2: (3, 7)}
"""Sides of the two Gauss-Newton windows at each stride, in cells."""
INPUT_CHANNELS = 18
"""Channels of `RefinementInputs.at`."""
_SURROUNDINGS = 7
"""Side of the window whose mean flow is a candidate, in cells."""


class Features(nn.Module):
    """Features of single images at strides 2 and 4."""

    def __init__(self, fine: int, width: int) -> None:
        super().__init__()
        self.fine = conv(12, fine)
        self.coarse = Chain(nn.SiLU(), conv(fine, width, stride=2), ResidualBlock(width))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n f _ _"], Float[Tensor, "n c _ _"]]:
        """Fine features, and coarse ones."""
        packed = F.pixel_unshuffle(2.0 * images - 1.0, 2).contiguous(memory_format=torch.channels_last)
        fine = self.fine(packed.to(self.fine.weight))
        return fine, self.coarse(fine)


class TwoScaleBlock(nn.Module):
    """Two residual blocks, one at full and one at half resolution, for a larger receptive field.

    Args:
        width: Channels; at half the size there are twice as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = ResidualBlock(width)
        self.far = Chain(nn.SiLU(), conv(width, 2 * width, stride=2), ResidualBlock(2 * width), nn.SiLU())
        self.join = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """``x`` plus the output of both branches."""
        far = F.interpolate(self.join(self.far(x)), x.shape[-2:], mode="bilinear", align_corners=False)
        return self.near(x, far)


class RefinementStep(nn.Module):
    """One refinement iteration of a flow with a recurrent state.

    Args:
        inputs: Channels of its input maps, without the state.
        width: Channels of the state.
        body: The convolutions.
    """

    def __init__(self, inputs: int, width: int, body: nn.Module) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs + width, width, 1)
        self.body = body
        self.answer = zero_conv(width, 6)

    def forward(
        self, state: Float[Tensor, "n c h w"], inputs: list[Tensor], alternatives: Float[Tensor, "n 4 2 h w"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n c h w"]]:
        """The update of the flow, and the new state.

        Args:
            state: The recurrent state.
            inputs: Input maps; see `RefinementInputs.at`.
            alternatives: Four candidate updates: both Gauss-Newton steps, to the mean flow of the surroundings, and
                to zero flow.
        """
        seen = torch.cat([state, *(x.to(state) for x in inputs)], dim=1)
        state = self.body(self.enter(seen).contiguous(memory_format=torch.channels_last))
        free, steps, ways = self.answer(F.silu(state)).float().split(2, dim=1)
        # Weights of the two long updates are bounded, since noise in a weight would be several pixels of flow.
        shares = torch.cat((steps, ways.clamp(0.0, 1.0)), dim=1)
        return free + (shares[:, :, None] * alternatives).sum(1), state


@dataclass(frozen=True, eq=False)
class RefinementInputs:
    """Inputs of the refinement at one stride that are the same in all iterations.

    Attributes:
        images: The normalised images.
        stride: Pixels per cell.
        matrices: Gauss-Newton matrices of the smaller and of the larger window.
        fixed: Residual of zero flow, texture and uncertainty.
    """

    images: NormalisedImages
    stride: int
    matrices: Float[Tensor, "n 6 h w"]
    fixed: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(
        cls, images: NormalisedImages, stride: int, uncertainty: Tensor, dtype: torch.dtype = torch.float32
    ) -> "RefinementInputs":
        """Compute them for a stride."""
        matrices, fixed = _windows(images.maps, stride)
        return cls(images, stride, matrices, [torch.cat((fixed, uncertainty.detach()), dim=1).to(dtype)])

    @torch.no_grad()
    def at(
        self, flow: Float[Tensor, "n 2 h w"], dtype: torch.dtype = torch.float32
    ) -> tuple[list[Tensor], Float[Tensor, "n 4 2 h w"]]:
        """Input maps for the current flow, and the candidate updates; see `RefinementStep.forward`."""
        inputs, alternatives = _inputs(self.images.maps, self.matrices, flow.float(), self.stride, dtype)
        return [inputs, *self.fixed], alternatives


def _windows_reference(maps: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    images = NormalisedImages(maps)
    window = Window.of(images, stride, _WINDOWS[stride])
    return torch.cat(window.matrices, dim=1), torch.cat((fit_without_motion(images, window), window.texture()), dim=1)


def _inputs_reference(
    maps: Tensor, matrices: Tensor, flow: Tensor, stride: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    small, large = matrices.chunk(2, dim=1)
    residual_fit = fit(NormalisedImages(maps), Window(stride, (small, large), _WINDOWS[stride]), flow)
    small, large = residual_fit.steps
    return_error = flow + backward_warp(swap_halves(flow), flow)
    length = flow_length(return_error)
    to_mean = consensus(flow, torch.exp(-length)) - flow
    bounded_mean = to_mean * (1.0 + flow_length(to_mean)).reciprocal()
    bounded_error = return_error * (1.0 + length).reciprocal()
    bounded_flow = flow * (1.0 + flow_length(flow)).reciprocal()
    inputs = (
        residual_fit.residual,
        residual_fit.misfit,
        small,
        large,
        bounded_error,
        length.log1p(),
        bounded_mean,
        bounded_flow,
    )
    return torch.cat(inputs, dim=1).to(dtype), torch.stack((small, large, to_mean, -flow), dim=1)


def _empty(maps: Tensor, stride: int, *channels: int) -> list[Tensor]:
    n, _, h, w = maps.shape
    return [maps.new_empty((n, c, h // stride, w // stride)) for c in channels]


def _empty_inputs(
    maps: Tensor, matrices: Tensor, flow: Tensor, stride: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    inputs, steps = _empty(maps, stride, stride**2 + 13, 8)
    return inputs.to(dtype), steps.unflatten(1, (4, 2))


_windows = inference_operator(
    "refinement_windows",
    _windows_reference,
    lambda maps, stride: tuple(_empty(maps, stride, 6, 4)),
    "local_refinement",
    launches=2,
    settings={"sides": _WINDOWS},
)
_inputs = inference_operator(
    "refinement_inputs",
    _inputs_reference,
    _empty_inputs,
    "local_refinement",
    launches=2,
    settings={"sides": _WINDOWS, "mean_window": _SURROUNDINGS, "damping": DAMPING, "max_step": MAX_STEP},
)


def consensus(flow: Float[Tensor, "n 2 h w"], confidence: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 2 h w"]:
    """The mean flow of the surroundings of each cell, weighted by confidence."""
    sums = window_mean(torch.cat((confidence * flow, confidence), dim=1), _SURROUNDINGS)
    return sums[:, :2] / sums[:, 2:].clamp(min=1e-6)


def bilinear_conv(width: int) -> nn.Conv2d:
    """Convolution for the logits of `upsample_convex` by a factor of two, initialised to bilinear interpolation."""
    layer = zero_conv(width, 36)
    line = {0: (1.0, 3.0, 1e-3), 1: (1e-3, 3.0, 1.0)}
    assert layer.bias is not None
    with torch.no_grad():
        for k in range(9):
            for part in range(4):
                weight = line[part // 2][k // 3] * line[part % 2][k % 3]
                layer.bias[4 * k + part] = max(log(weight / 16.0), -9.0)
    return layer
