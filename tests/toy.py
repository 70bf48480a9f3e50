"""Small real components for tests of the machinery around them: fast, learned, registered.

Each is honest at its job (an encoder, a gradient-based motion estimate, a warping renderer) so
that laws of the whole pipeline can be stated, and each has parameters, so that saving can be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi import ops
from rdvfi.backbones.diffusion import VariancePreserving
from rdvfi.interfaces import (
    Basis,
    CoarseFlow,
    Condition,
    FlowEstimator,
    FlowGrid,
    KeyframeGenerator,
    Keyframes,
    Motion,
    Reads,
    Renderer,
    Trajectory,
    TrajectoryModel,
)
from rdvfi.interpolator import Interpolator
from rdvfi.registry import backbones, bases, flows, renderers, trajectories
from rdvfi.types import Flows, Image, SmallImage, Times, Video


class Pooling(Enum):
    """How the toy encoder shrinks."""

    MEAN = "mean"
    MAX = "max"


class ToyGenerator(KeyframeGenerator):
    """Straight mixtures of the ends' latents, moved a little by the noise."""

    stride = 8
    noise_process = VariancePreserving()
    time_symmetric = True

    def __init__(self, inner: int, channels: int, pooling: Pooling, coarse: FlowEstimator | None) -> None:
        super().__init__()
        self.knot_times = tuple(i / (inner + 1) for i in range(inner + 2))
        self.latent_channels = channels
        self.pooling = pooling
        self.coarse = coarse
        self.to_latent = nn.Conv2d(3, channels, 1)
        self.to_image = nn.Conv2d(channels, 3, 1)
        self.denoiser = nn.Conv2d(channels, channels, 1)

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b n c hz wz"]:
        share = self.times(noisy.device)[1:-1, None, None, None].to(noisy)
        ends = condition.latent0[:, None], condition.latent1[:, None]
        return (1 - share) * ends[0] + share * ends[1] + 0.01 * self.denoiser(noisy.flatten(0, 1)).view_as(noisy)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        pool = F.avg_pool2d if self.pooling is Pooling.MEAN else F.max_pool2d
        return self.to_latent(pool(images, self.stride))

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        small = self.to_image(latents).sigmoid()
        return F.interpolate(small, scale_factor=self.stride, mode="bilinear")


class ToyFlow(FlowEstimator):
    """One Lucas-Kanade step with a learned gain, on the mean of the channels."""

    def __init__(self, reads: Reads, window: int) -> None:
        super().__init__()
        self.reads = reads
        self.window = window
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        a, b = (image.float().mean(1, keepdim=True) for image in (source, target))
        gy, gx = torch.gradient((a + b) / 2, dim=(-2, -1))
        maps = torch.cat((gx * gx, gx * gy, gy * gy, gx * (b - a), gy * (b - a)), dim=1)
        xx, xy, yy, xt, yt = F.avg_pool2d(maps, self.window, 1, self.window // 2).unbind(1)
        determinant = xx * yy - xy * xy + 1e-3
        u, v = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
        return torch.stack((u, v), dim=1).clamp(-8, 8) * self.gain.float()


class ToyBasis(Basis):
    """Straight lines between neighbouring knots."""

    def weights(self, knots: Float[Tensor, " k"], times: Times) -> Float[Tensor, "t k"]:
        right = torch.searchsorted(knots, times.contiguous()).clamp(1, len(knots) - 1)
        share = (times - knots[right - 1]) / (knots[right] - knots[right - 1])
        rows = torch.zeros(len(times), len(knots), dtype=knots.dtype, device=knots.device)
        rows.scatter_(1, right[:, None], share[:, None])
        return rows.scatter_(1, right[:, None] - 1, (1 - share)[:, None])


@dataclass(frozen=True, eq=False)
class ToyTrajectory(Trajectory):
    """Every pixel goes straight, as far as the basis says."""

    first_to_last: Float[Tensor, "b 2 h w"]
    last_to_first: Float[Tensor, "b 2 h w"]
    knots: Float[Tensor, " k"]
    basis: Basis
    grid: FlowGrid = FlowGrid.TARGET

    def at(self, times: Times) -> tuple[Flows, Flows]:
        progress = (self.basis.weights(self.knots, times) @ self.knots)[None, :, None, None, None]
        return progress * self.last_to_first[:, None], (1 - progress) * self.first_to_last[:, None]


class ToyTrajectoryModel(TrajectoryModel):
    """The end-to-end motion, both ways."""

    def __init__(self, flow: FlowEstimator, basis: Basis, grid: FlowGrid) -> None:
        super().__init__()
        self.flow = flow
        self.basis = basis
        self.grid = grid

    @property
    def reads(self) -> Reads:
        return self.flow.reads

    def forward(self, keyframes: Keyframes) -> Trajectory:
        pixels = self.reads is Reads.PIXELS and keyframes.images is not None
        source = keyframes.images if pixels and keyframes.images is not None else keyframes.latents
        first, last = source[:, 0], source[:, -1]
        ahead, back = self.flow(first, last), self.flow(last, first)
        return ToyTrajectory(ahead, back, keyframes.times, self.basis, self.grid)


class ToyRenderer(Renderer):
    """Both warped frames, weighted by time, and a learned tint that fades out at the ends."""

    def __init__(self, tint: float) -> None:
        super().__init__()
        self.tint = nn.Parameter(torch.full((3,), tint))

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        flow0, flow1 = motion.trajectory.at(timesteps)
        b, t, _, h, w = flow0.shape
        share = (1 - timesteps)[None, :, None, None, None].expand(b, t, 1, h, w)
        envelope = (timesteps * (1 - timesteps))[None, :, None, None, None]
        residual = (envelope * self.tint.float()[:, None, None]).expand(b, t, 3, h, w)
        drawn = ops.render(img0, img1, flow0, flow1, share, residual)
        faded = torch.lerp(img0[:, None], img1[:, None], timesteps[None, :, None, None, None])
        return torch.lerp(faded, drawn, motion.scene.weight[:, None, None, None, None])


def toy_backbone(
    *,
    inner: int = 3,
    channels: int = 4,
    pooling: Pooling = Pooling.MEAN,
    coarse: CoarseFlow | None = None,
) -> KeyframeGenerator:
    return ToyGenerator(inner, channels, pooling, coarse)


def toy_flow(*, reads: Reads = Reads.LATENTS, window: int = 5) -> FlowEstimator:
    return ToyFlow(reads, window)


def toy_trajectory(*, flow: FlowEstimator, basis: Basis, grid: FlowGrid = FlowGrid.TARGET) -> TrajectoryModel:
    return ToyTrajectoryModel(flow, basis, grid)


def toy_renderer(*, tint: float = 0.0, shape: tuple[int, ...] = (1, 2)) -> Renderer:
    return ToyRenderer(tint)


_ENTRIES = (
    (backbones, toy_backbone),
    (flows, toy_flow),
    (bases, ToyBasis),
    (trajectories, toy_trajectory),
    (renderers, toy_renderer),
)


@contextmanager
def registered() -> Iterator[None]:
    """The toy components under the name ``toy``, for the time of a test."""
    for registry, factory in _ENTRIES:
        registry.register("toy")(factory)
    try:
        yield
    finally:
        for registry, _ in _ENTRIES:
            registry.unregister("toy")


def toy_model(
    *,
    inner: int = 3,
    reads: Reads = Reads.LATENTS,
    grid: FlowGrid = FlowGrid.TARGET,
    tint: float = 0.0,
    motion_area: int = 64 * 48,
) -> Interpolator:
    """A small model of registered components; only inside `registered`."""
    trajectory = trajectories.create("toy", flow=flows.create("toy", reads=reads), basis=bases.create("toy"), grid=grid)
    model = Interpolator(
        backbones.create("toy", inner=inner, coarse=flows.create("toy")),
        trajectory,
        renderers.create("toy", tint=tint),
        motion_area=motion_area,
    )
    return model.eval().requires_grad_(False)


def textured(b: int, h: int, w: int, *, seed: int = 0) -> Float[Tensor, "b 3 h w"]:
    """Smooth random textures in [0, 1]."""
    draw = torch.rand(b, 3, h // 8 + 2, w // 8 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(draw, (h, w), mode="bicubic", align_corners=False).clamp(0, 1)
