"""Flow by matching the feature pyramid of any timm network, coarse to fine.

The matching has no learned weights. At each level the features of both images are standardised, those of the target are
warped by the current flow, and every source feature is compared with those in a small window: the offset is the mean
over the neighbourhood of the best match, weighted by the softmax of the similarities (*soft argmax*). The window grows
with the stride, so small windows cover large displacements. The result is then refined on the input itself by
Gauss-Newton steps (Lucas and Kanade, 1981), for which a correct flow is a fixed point, unlike for the soft argmax.

The features need not be trained: a random network preserves the texture that is matched. Trained features are more
robust to illumination changes and small deformations. An optional small network corrects the flow before the
Gauss-Newton steps; its last layer is zero-initialised.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rdvfi.about import About
from rdvfi.compat import import_torchvision
from rdvfi.geometry import pixel_grid, replicate_pad, resize_flow
from rdvfi.interfaces import Count, FlowEstimator, Reads
from rdvfi.layers import ResidualBlock, conv, zero_conv
from rdvfi.ops import backward_warp, correlation
from rdvfi.registry import flows

_MIN_SIDE = 4
"""Least side of a level that is matched, in features."""
_SHARPNESS = 30.0
"""Inverse temperature of the softmax over cosines."""
_DISTANCE_PENALTY = 0.02
"""Penalty per pixel of displacement, in units of the cosine."""
_WINDOW = 9
_ALIGNMENT_STEPS = 5
_MAX_STEP = 1.0


class TimmPyramid(FlowEstimator):
    """Coarse-to-fine matching of a pyramid of features.

    Args:
        network: Returns a list of feature maps, fine to coarse.
        strides: Their strides.
        mean: Mean of the input channels, which is subtracted; one value per channel, or one for all.
        deviation: Standard deviation of the input channels, likewise.
        reads: Pixels or latents.
        latent_channels: Channels of the latents, if it reads those.
        radius: Radius of each window, in pixels of its level.
        refine: Channels of the learned correction; 0 for none.
        pretrained: Whether the network carries trained weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: nn.Module,
        strides: list[int],
        *,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        reads: Reads,
        latent_channels: int | None,
        radius: int,
        refine: int,
        pretrained: bool,
    ) -> None:
        super().__init__()
        if radius < 1:
            raise ValueError(f"radius must be at least 1; got {radius}")
        self.reads, self.latent_channels = reads, latent_channels
        self.network, self.strides, self.radius = network, strides, radius
        self.pretrained = pretrained and refine == 0
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.refine: nn.Module | None = None
        if refine > 0:
            inputs = (2 * radius + 1) ** 2 + 2
            self.refine = nn.Sequential(conv(inputs, refine), ResidualBlock(refine), zero_conv(refine, 2))
        self.network.eval()

    def forward(self, source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        n, _, h, w = source.shape
        unit = self.strides[-1]
        size = (max(1, -(-h // unit)) * unit, max(1, -(-w // unit)) * unit)
        both = replicate_pad(torch.cat((source, target)).float(), size)
        flow = both.new_zeros(n, 2, *size)
        for i, level in enumerate(reversed(self._levels(both))):
            near, far = _standardise(level, n).split(n)
            if i == 0:
                flow = nearest_neighbours(near, far)
            flow = _median(resize_flow(flow, (level.shape[-2], level.shape[-1])))
            flow = _median(flow + self._match(near, far, flow))
            if self.refine is not None and level.shape[-2] * self.strides[0] == size[0]:
                flow = flow + self._correction(near, far, flow)
        flow = resize_flow(flow, size)
        return align(both[:n], both[n:], flow)[..., :h, :w]

    def _levels(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Features from fine to coarse; at least the finest."""
        ready = (images - self.mean) / self.deviation
        levels = self.network(ready.to(next(self.network.parameters())))
        kept = [level.float() for level in levels if min(level.shape[-2:]) >= _MIN_SIDE]
        return kept or [levels[0].float()]

    def _match(self, near: Tensor, far: Tensor, flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 2 h w"]:
        """Distance of the best match from the target of the flow."""
        r, side = self.radius, 2 * self.radius + 1
        scores = self._scores(near, far, flow)
        ys, xs = torch.meshgrid(*(torch.arange(-r, r + 1, device=flow.device),) * 2, indexing="ij")
        offsets = torch.stack((xs, ys)).reshape(2, side * side).to(scores)
        scores = scores - _DISTANCE_PENALTY * offsets.norm(dim=0)[:, None, None]
        best = offsets[:, scores.argmax(1)].transpose(0, 1)
        away = offsets[:, None, :, None, None] - best.transpose(0, 1)[:, :, None]
        around = (away.abs() <= 1).all(0)
        weights = scores.mul(_SHARPNESS).masked_fill(~around, -torch.inf).softmax(1)
        return torch.einsum("nohw,co->nchw", weights, offsets)

    def _scores(self, near: Tensor, far: Tensor, flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n o h w"]:
        """Cosines of each source feature with a window around where the flow leads."""
        scores = correlation(near, backward_warp(far, flow), self.radius) * near.shape[1] ** 0.5
        return F.avg_pool2d(scores, 3, 1, 1, count_include_pad=False)

    def _correction(self, near: Tensor, far: Tensor, flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 2 h w"]:
        assert self.refine is not None
        inputs = torch.cat((self._scores(near, far, flow), 0.1 * flow), dim=1)
        return self.refine(inputs.to(next(self.refine.parameters()))).float()

    def train(self, mode: bool = True) -> "TimmPyramid":
        """As for any module, but the network's batch statistics stay those it came with."""
        super().train(mode)
        self.network.eval()
        return self


def _standardise(features: Float[Tensor, "m c h w"], n: int) -> Float[Tensor, "m c h w"]:
    """Unit vectors, from channels of zero mean and unit variance over both images of a pair."""
    pairs = torch.stack(features.split(n), dim=1)
    centred = pairs - pairs.mean((1, 3, 4), keepdim=True)
    centred = centred / centred.square().mean((1, 3, 4), keepdim=True).sqrt().clamp(min=1e-6)
    return F.normalize(torch.cat(centred.unbind(1)), dim=1)


def nearest_neighbours(near: Float[Tensor, "n c h w"], far: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
    """Flow to the most similar neighbourhood anywhere in the target."""
    h, w = near.shape[-2:]
    patches = [F.unfold(F.pad(features, (1, 1, 1, 1), mode="replicate"), 3) for features in (near, far)]
    scores = torch.einsum("ncs,nct->nst", *patches) / 9.0
    grid = pixel_grid(h, w, device=near.device).flatten(1)
    scores = scores - _DISTANCE_PENALTY * torch.cdist(grid.T, grid.T)
    best = grid[:, scores.argmax(2)]
    return (best - grid[:, None]).transpose(0, 1).unflatten(2, (h, w))


def _median(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 2 h w"]:
    """The median of each component over 3x3 pixels: lone mismatches go."""
    from kornia.filters import median_blur

    return median_blur(F.pad(flow, (1, 1, 1, 1), mode="replicate"), 3)[..., 1:-1, 1:-1]


def align(source: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], flow: Tensor) -> Float[Tensor, "n 2 h w"]:
    """Gauss-Newton steps on the squared difference in a window; a perfect flow stays as it is.

    Every pixel i around a pixel measures one number, ``g_i . f_i + e_i``, of the flow that they share, with ``g`` the
    gradient and ``e`` the difference that is left after its own flow ``f_i``. Gradients are those of the mean of both
    images, which makes the steps of second order (the ESM method of Benhimane and Malis, IROS 2004).
    """
    for _ in range(_ALIGNMENT_STEPS):
        warped = backward_warp(target, flow)
        gy, gx = torch.gradient(0.5 * (source + warped), dim=(-2, -1))
        measured = gx * flow[:, :1] + gy * flow[:, 1:] + (source - warped)
        products = [(gx, gx), (gx, gy), (gy, gy), (gx, measured), (gy, measured)]
        sums = _window(torch.stack([(a * b).sum(1) for a, b in products], dim=1))
        xx, xy, yy, xt, yt = sums.unbind(1)
        # Where there is no texture in a direction the matched flow is kept in it.
        damping = 1e-3 * (xx + yy).mean((-2, -1), keepdim=True) + 1e-8
        xx, yy = xx + damping, yy + damping
        xt, yt = xt + damping * flow[:, 0], yt + damping * flow[:, 1]
        solved = torch.stack((yy * xt - xy * yt, xx * yt - xy * xt), dim=1)
        step = solved / (xx * yy - xy * xy)[:, None] - flow
        flow = flow + step.clamp(-_MAX_STEP, _MAX_STEP)
    return flow


def _window(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return F.avg_pool2d(maps, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


@flows.register(
    "timm-pyramid",
    about=About(
        weights="timm, from the Hugging Face hub or its cache",
        weights_licence="differs by model: read its card on the hub",
        citation="R. Wightman: PyTorch Image Models. 2019",
        url="https://huggingface.co/docs/timm",
    ),
)
def timm_pyramid(
    *,
    network: str = "resnet18",
    pretrained: bool = True,
    levels: Count = 3,
    radius: Count = 2,
    refine: int = 0,
    reads: Reads = Reads.PIXELS,
    latent_channels: int = 16,
) -> FlowEstimator:
    """Matching of the features of any timm network, without training.

    Args:
        network: A name that ``timm.list_models()`` gives and that has ``features_only``.
        pretrained: Load the network's published weights; else it is random, and matches well too
            where light and shape do not change.
        levels: Levels of the pyramid, from the finest.
        radius: Reach of each level's window, in pixels of the level.
        refine: Channels of a learned correction; 0 for none.
        reads: PIXELS, or LATENTS, for which the network's first layer is replaced.
        latent_channels: Channels of the backbone's latents; for LATENTS.
    """
    import_torchvision()
    import timm

    if ":" in network or "/" in network:  # timm would fetch a model of anybody, or read a folder
        raise ValueError(f"network is {network!r}; expected a name of timm.list_models(), such as resnet18")
    latents = reads is Reads.LATENTS
    try:
        body: Any = timm.create_model(
            network,
            pretrained=pretrained,
            features_only=True,
            in_chans=latent_channels if latents else 3,
            out_indices=tuple(range(levels)),
        )
    except OSError as error:
        raise ConnectionError(
            f"the weights of timm's {network!r} are neither in the hub's cache nor can be fetched "
            f"(pretrained=false uses a random network): {error}"
        ) from error
    settings = body.pretrained_cfg
    return TimmPyramid(
        body,
        [int(stride) for stride in body.feature_info.reduction()],
        mean=(0.0,) if latents else tuple(settings["mean"]),
        deviation=(1.0,) if latents else tuple(settings["std"]),
        reads=reads,
        latent_channels=latent_channels if latents else None,
        radius=radius,
        refine=refine,
        pretrained=pretrained,
    )
