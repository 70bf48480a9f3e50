"""Checks against known motion: textures from a formula, translated by a known vector.

Typical errors in implementations of the flow conventions (`rdvfi.interfaces`) are the sign, the order of x and y, and
an offset of half a pixel; no check of shapes finds them. A texture is a sum of waves, so it can be computed exactly at
any position, without interpolation.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rdvfi.interfaces import FlowEstimator, FlowGrid, Reads, Renderer
from rdvfi.keyframes import KeyframeGenerator

SHIFTS = ((2.25, -1.25), (-1.5, 0.75), (0.75, 2.0))
"""(dx, dy) in pixels: of both signs, unequal, and fractional."""
MAX_MEDIAN_ERROR = 0.25
"""Largest median error per axis, in pixels: half of the error of an offset by half a pixel."""


def waves(channels: int, h: int, w: int, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """A texture in [0, 1], translated by ``shift`` to the error and down, (1, c, h, w)."""
    generator = torch.Generator().manual_seed(11)
    count = 12
    length = 10.0 + 30.0 * torch.rand(count, generator=generator)
    angle = 2.0 * math.pi * torch.rand(count, generator=generator)
    phase = 2.0 * math.pi * torch.rand(channels, count, generator=generator)
    y = torch.arange(h)[:, None] + 0.5 - shift[1]
    x = torch.arange(w)[None, :] + 0.5 - shift[0]
    k = 2.0 * math.pi / length
    along = (k * angle.cos())[:, None, None] * x + (k * angle.sin())[:, None, None] * y
    return (0.5 + 0.12 * (along[None] + phase[:, :, None, None]).sin().sum(1, keepdim=False))[None].clamp(0.0, 1.0)


def needs_no_training(flow: FlowEstimator) -> bool:
    """Whether a flow estimator gives correct flow without training here: it is pretrained or has no parameters."""
    return flow.pretrained or not any(True for _ in flow.parameters())


def check_known_flow(flow: FlowEstimator, channels: int) -> None:
    """Assert the flow of translations, and zero flow between equal images, in the middle of the image."""
    h, w = (128, 160) if flow.reads is Reads.PIXELS else (48, 64)
    source = waves(channels, h, w)
    for shift in ((0.0, 0.0), *SHIFTS):
        estimate = flow(source, waves(channels, h, w, shift))
        middle = estimate[0, :, h // 4 : -h // 4, w // 4 : -w // 4].flatten(1)
        for axis, (name, value) in enumerate(zip(("dx", "dy"), shift, strict=True)):
            off = float((middle[axis] - value).abs().median())
            law = (
                "equal pictures have no flow" if shift == (0.0, 0.0) else f"content that moves by {shift} has that flow"
            )
            assert off <= MAX_MEDIAN_ERROR, f"{law}: {name} is off by {off:.2f} px, {float(middle[axis].median()):+.2f}"


def check_drawn_motion(
    renderer: Renderer, draw: Callable[[Tensor, Tensor, tuple[float, float], FlowGrid], Tensor]
) -> None:
    """Assert that along a known translation the middle frame is nearer to the true one than to typical wrong ones.

    Args:
        renderer: The renderer to check.
        draw: Draws the middle frame of two, given the shift from the first to the last, and a grid.
    """
    h, w = 64, 80
    shift = (6.0, -3.0)
    first, last = waves(3, h, w), waves(3, h, w, shift)
    for grid in sorted(renderer.grids, key=lambda grid: grid.name):
        frame = draw(first, last, shift, grid)
        wrong = {
            "the wrong sign": (-1.5 * shift[0], -1.5 * shift[1]),
            "x and y exchanged": (shift[1], shift[0]),
            "no motion": (0.0, 0.0),
        }
        errors = {name: _distance(frame, waves(3, h, w, (dx / 2, dy / 2))) for name, (dx, dy) in wrong.items()}
        true = _distance(frame, waves(3, h, w, (shift[0] / 2, shift[1] / 2)))
        nearest = min(errors, key=lambda name: errors[name])
        law = f"on the {grid.name} grid the frame halfway must show content halfway"
        assert true < 0.5 * errors[nearest], (
            f"{law}: it is off by {true:.3f}, and by {errors[nearest]:.3f} from {nearest}"
        )


def check_prior(generator: KeyframeGenerator) -> None:
    """Assert that the coarse flows of a translation, if they are not zero, have its direction, both ways."""
    unit = math.lcm(generator.size_multiple, generator.stride)
    h, w = (max(1, -(-least // unit)) * unit for least in (96, 128))
    shift = (4.0, -2.0)
    prior = generator.condition(waves(3, h, w), waves(3, h, w, shift)).prior
    assert prior is not None, "gives_prior says that there is a prior"
    flows = prior.end_flows[0] * (w / prior.end_flows.shape[-1])
    middle = flows[..., flows.shape[-2] // 4 : -flows.shape[-2] // 4, flows.shape[-1] // 4 : -flows.shape[-1] // 4]
    motion = middle.flatten(2).median(-1).values
    if float(motion.abs().max()) < 1.0:
        return  # zero flow, as of an untrained estimator
    known = torch.tensor(shift)
    for name, estimate, expected in (
        ("from first to last", motion[0], known),
        ("from last to first", motion[1], -known),
    ):
        error, opposite_error = float((estimate - expected).abs().max()), float((estimate + expected).abs().max())
        assert error < opposite_error, (
            f"end_flows {name} must have the direction of the motion: {estimate.tolist()} for {expected.tolist()}"
        )


def _distance(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference away from the borders, without a constant colour offset: a renderer may add a tint."""
    difference = (a - b)[..., 16:-16, 16:-16]
    return float((difference - difference.mean((-2, -1), keepdim=True)).abs().mean())
