"""Layered scenes in batches on any device: frames, exact flows and visibility.

A scene is a stack of textured layers over a textured background. Layers move by
`rdvfi.data.synthetic.layer_motion`, the illumination may change, and frames may be averaged over an exposure time.
A pixel shows the topmost layer whose matte is above 0.5. Its flow to another time is the motion of that layer,
so flow is exact, also where the point is occluded at that time. Mattes, textures and frames are sampled
bilinearly.

The background texture is mirrored at its borders; the mirrored parts move with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rdvfi.data.synthetic.layer_motion import LayerMotion
from rdvfi.data.synthetic.object_paths import NO_WAVE, STATIC, LayerPath, Point


@dataclass(frozen=True, eq=False)
class LayerBatch:
    """One layer slot of a batch of scenes; scenes may leave a slot empty.

    ``rows`` are the indices of the scenes that have the layer. The texture has colour and matte in [0, 1]; the matte
    of a background is not read, that of another layer must be 0 at the texture's border. ``corner`` is the frame
    position ``(x, y)`` of the texture's pixel (0, 0) at time 0.
    """

    rows: Int[Tensor, " n"]
    texture: Float[Tensor, "n 4 th tw"]
    corner: Float[Tensor, "n 2"]
    motion: LayerMotion

    @classmethod
    def of_texture(
        cls, texture: Float[Tensor, "4 th tw"], path: LayerPath = STATIC, corner: Point = (0.0, 0.0)
    ) -> "LayerBatch":
        """A layer of a single scene; ``corner`` is the frame position of the texture's pixel (0, 0) at time 0."""
        motion = LayerMotion.of([path], [STATIC], [NO_WAVE])
        return cls(torch.tensor([0]), texture[None], torch.tensor([corner]), motion)

    def sample(
        self, grid: Float[Tensor, "1 1 2 h w"], times: Float[Tensor, "b t"], padding: str
    ) -> Float[Tensor, "n t 4 h w"]:
        """Colour and matte at the frame positions ``grid`` at ``times``; ``padding`` is that of `grid_sample`."""
        b, t = len(self.rows), times.shape[1]
        h, w = grid.shape[-2:]
        texture_points = self.motion.start_positions(grid.expand(b, t, -1, -1, -1), times[self.rows])
        points = texture_points - self.corner[:, None, :, None, None]
        size = self.texture.new_tensor(self.texture.shape[:1:-1])[:, None, None]
        normalised = ((2.0 * points + 1.0) / size - 1.0).permute(0, 1, 3, 4, 2).reshape(b, t * h, w, 2)
        samples = F.grid_sample(self.texture, normalised, padding_mode=padding, align_corners=False)
        return samples.unflatten(2, (t, h)).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class Illumination:
    """A smooth change of brightness: frames are multiplied by ``exp(g(t) (s . (1, x, y)))``.

    ``x`` and ``y`` run from -1 to 1 over the frame; ``g(t) = t - 1/2 + c (4 t (1 - t) - 1/2)``.
    """

    slope: Float[Tensor, "b 3"]
    curve: Float[Tensor, " b"]

    def gain(self, times: Float[Tensor, "b t"], size: tuple[int, int]) -> Float[Tensor, "b t h w"]:
        """Brightness factors of all pixels."""
        h, w = size
        y = ((torch.arange(h, device=times.device) + 0.5) * (2.0 / h) - 1.0)[:, None]
        x = (torch.arange(w, device=times.device) + 0.5) * (2.0 / w) - 1.0
        offset, slope_x, slope_y = self.slope[:, :, None, None].unbind(1)
        law = times - 0.5 + self.curve[:, None] * (4.0 * times * (1.0 - times) - 0.5)
        return (law[:, :, None, None] * (offset + slope_x * x + slope_y * y)[:, None]).exp()


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """A batch of scenes with layers from back to front; the first is the background, which every scene has.

    ``size`` is (height, width). ``shutter`` is the exposure time; the interval between the ends is 1.
    """

    layers: Sequence[LayerBatch]
    size: tuple[int, int]
    light: Illumination | None = None
    shutter: Float[Tensor, " b"] | None = None

    @property
    def device(self) -> torch.device:
        """The device of the textures."""
        return self.layers[0].texture.device

    def frames(
        self, times: Float[Tensor, "b t"], *, exposures: int = 1, supersample: int = 1
    ) -> tuple[Float[Tensor, "b t 3 h w"], Int[Tensor, "b t h w"]]:
        """Frames in [0, 1], and the index of the topmost layer of every pixel.

        Args:
            times: Times of each scene; 0 and 1 are its ends.
            exposures: Times over which an open shutter is averaged, an odd number.
            supersample: Samples per pixel along each side, averaged.
        """
        if exposures < 1 or exposures % 2 == 0:
            raise ValueError(f"exposures is {exposures}; it must be odd")
        times = times.to(self.device)
        frames, labels = self._render(times, supersample)
        if exposures > 1 and self.shutter is not None:
            half = exposures // 2
            for i in (i for i in range(-half, half + 1) if i):
                other = times + self.shutter[:, None] * (i / exposures)
                frames = frames + self._render(other, supersample)[0]
            frames = frames / exposures
        if self.light is not None:
            frames = frames * self.light.gain(times, self.size)[:, :, None]
        return frames.clamp(0.0, 1.0), labels

    def flows(
        self, times: Float[Tensor, "b t"], to: Int[Tensor, "t n"], labels: Int[Tensor, "b t h w"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "b t n 2 hs ws"], Bool[Tensor, "b t n hs ws"]]:
        """Exact flows from every time to other times, and the visibility of the points there.

        Args:
            times: Times of each scene.
            to: For every time, the indices of the target times of its flows.
            labels: Topmost layers at all times, as `frames` returns them.
            stride: Flows are given at the centres of cells of this many pixels.

        Returns:
            Flows on the TARGET grid of their time, in **full-size** pixels; and whether the point
            is inside the target frame and not occluded there.
        """
        h, w = self.size
        b, t = times.shape
        times, to = times.to(self.device), to.to(self.device)
        grid = self._grid(1, stride)
        positions = grid.expand(b, t, -1, -1, -1)
        top = self._top_layer(grid, times)
        flows = positions.new_zeros(b, t, to.shape[1], *positions.shape[2:])
        for index, layer in enumerate(self.layers):
            rows, own_times = layer.rows, times[layer.rows]
            points = layer.motion.start_positions(positions[rows], own_times)
            is_top = (top[rows] == index)[:, :, None]
            for n in range(to.shape[1]):
                shift = layer.motion.positions_at(points, own_times[:, to[:, n]]) - positions[rows]
                flows[rows, :, n] = torch.where(is_top, shift, flows[rows, :, n])
        same_time = to == torch.arange(t, device=to.device)[:, None]
        flows = flows.masked_fill(same_time[None, :, :, None, None, None], 0.0)
        landing = (positions[:, :, None] + flows).round().long()
        x, y = landing.unbind(3)
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        scene = torch.arange(b, device=positions.device)[:, None, None, None, None]
        target_time = to[None, :, :, None, None]
        shown = labels[scene, target_time, y.clamp(0, h - 1), x.clamp(0, w - 1)]
        return flows, inside & (shown == top[:, :, None])

    def flows_to(
        self, times: Float[Tensor, "b t"], others: Float[Tensor, "b n"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "b t n 2 hs ws"], Bool[Tensor, "b t n hs ws"]]:
        """Exact flows from every time to every one of ``others``, as `flows` returns them."""
        t, n = times.shape[1], others.shape[1]
        all_times = torch.cat((times, others), dim=1).to(self.device)
        labels = self._top_layer(self._grid(1, 1), all_times)
        to = torch.arange(t, t + n).expand(t + n, n)
        flows, visible = self.flows(all_times, to, labels, stride=stride)
        return flows[:, :t], visible[:, :t]

    def _grid(self, factor: int, stride: int) -> Float[Tensor, "1 1 2 h w"]:
        """Centres of cells of ``stride`` pixels, each divided into ``factor`` parts per side."""
        ys, xs = (
            (torch.arange(n // stride * factor, device=self.device) + 0.5) * (stride / factor) - 0.5 for n in self.size
        )
        return torch.stack((xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs))))[None, None]

    def _render(
        self, times: Float[Tensor, "b t"], factor: int
    ) -> tuple[Float[Tensor, "b t 3 h w"], Int[Tensor, "b t h w"]]:
        grid = self._grid(factor, 1)
        frame = self.layers[0].sample(grid, times, "reflection")[:, :, :3]
        labels = torch.zeros(*times.shape, *self.size, dtype=torch.int64, device=frame.device)
        for index, layer in enumerate(self.layers[1:], start=1):
            rows = layer.rows
            colour, matte = layer.sample(grid, times, "border").split((3, 1), dim=2)
            frame[rows] = torch.lerp(frame[rows], colour, matte)
            is_opaque = _average_pool(matte, factor)[:, :, 0] > 0.5
            labels[rows] = labels[rows].masked_fill(is_opaque, index)
        return _average_pool(frame, factor), labels

    def _top_layer(self, grid: Float[Tensor, "1 1 2 h w"], times: Float[Tensor, "b t"]) -> Int[Tensor, "b t h w"]:
        shape = (*times.shape, *grid.shape[-2:])
        labels = torch.zeros(shape, dtype=torch.int64, device=grid.device)
        for index, layer in enumerate(self.layers[1:], start=1):
            rows = layer.rows
            matte = layer.sample(grid, times, "border")[:, :, 3]
            labels[rows] = labels[rows].masked_fill(matte > 0.5, index)
        return labels


def _average_pool(image: Float[Tensor, "b t c hf wf"], factor: int) -> Float[Tensor, "b t c h w"]:
    if factor == 1:
        return image
    return F.avg_pool2d(image.flatten(0, 1), factor).unflatten(0, image.shape[:2])
