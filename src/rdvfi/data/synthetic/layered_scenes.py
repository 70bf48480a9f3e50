"""Layered scenes in batches on any device: frames, exact flows and visibility.

A scene is a stack of textured layers over a textured background. Layers move by
`rdvfi.data.synthetic.layer_motion`, the illumination may change, and frames may be averaged over an exposure time.
A pixel shows the topmost layer whose matte is above one half; its flow to another instant is
the motion of that layer, so it is exact, even where the point is occluded at that instant. Mattes, textures and
frames are sampled bilinearly.

Points outside all frames are drawn from the background mirrored at its borders. The mirrored parts
belong to the background and move with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rdvfi.data.synthetic.layer_motion import LayerMotion
from rdvfi.data.synthetic.object_paths import FLAT, STATIC, LayerPath, Point


@dataclass(frozen=True, eq=False)
class Layers:
    """One layer of those scenes of a batch that have it.

    Attributes:
        rows: Numbers of these scenes in the batch.
        texture: Colour and matte, in [0, 1]; the matte of a background is not read, that of
            another layer must be 0 at the texture's border.
        corner: Frame position, at time 0, of the texture's pixel (0, 0), as ``(x, y)``.
        motion: Where its points are.
    """

    rows: Int[Tensor, " n"]
    texture: Float[Tensor, "n 4 th tw"]
    corner: Float[Tensor, "n 2"]
    motion: LayerMotion

    @classmethod
    def of_texture(
        cls, texture: Float[Tensor, "4 th tw"], path: LayerPath = STATIC, corner: Point = (0.0, 0.0)
    ) -> "Layers":
        """A layer of a single scene: colour and matte in [0, 1], whose pixel (0, 0) is at ``corner`` at time 0."""
        motion = LayerMotion.of([path], [STATIC], [FLAT])
        return cls(torch.tensor([0]), texture[None], torch.tensor([corner]), motion)

    def sample(
        self, grid: Float[Tensor, "1 1 2 h w"], times: Float[Tensor, "b t"], padding: str
    ) -> Float[Tensor, "n t 4 h w"]:
        """Colour and matte at frame positions, at some times of its scenes."""
        b, t = len(self.rows), times.shape[1]
        h, w = grid.shape[-2:]
        places = self.motion.origin(grid.expand(b, t, -1, -1, -1), times[self.rows])
        points = places - self.corner[:, None, :, None, None]
        size = self.texture.new_tensor(self.texture.shape[:1:-1])[:, None, None]
        where = ((2.0 * points + 1.0) / size - 1.0).permute(0, 1, 3, 4, 2).reshape(b, t * h, w, 2)
        drawn = F.grid_sample(self.texture, where, padding_mode=padding, align_corners=False)
        return drawn.unflatten(2, (t, h)).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class Illumination:
    """A smooth change of brightness: frames are multiplied by ``exp(g(t) (s . (1, x, y)))``.

    ``x`` and ``y`` run from -1 to 1 over the frame; ``g(t) = t - 1/2 + c (4 t (1 - t) - 1/2)``.
    """

    slope: Float[Tensor, "b 3"]
    curve: Float[Tensor, " b"]

    def gain(self, times: Float[Tensor, "b t"], size: tuple[int, int]) -> Float[Tensor, "b t h w"]:
        """Factors of all pixels."""
        h, w = size
        y = ((torch.arange(h, device=times.device) + 0.5) * (2.0 / h) - 1.0)[:, None]
        x = (torch.arange(w, device=times.device) + 0.5) * (2.0 / w) - 1.0
        level, across, down = self.slope[:, :, None, None].unbind(1)
        law = times - 0.5 + self.curve[:, None] * (4.0 * times * (1.0 - times) - 0.5)
        return (law[:, :, None, None] * (level + across * x + down * y)[:, None]).exp()


@dataclass(frozen=True, eq=False)
class Scenes:
    """A batch of scenes; layers from back to front, the first is the background.

    Attributes:
        layers: Layers of the scenes; every scene has a background.
        size: (height, width) of the frames.
        light: Change of brightness, if any.
        shutter: Time, of the span between the ends, over which a frame is averaged.
    """

    layers: Sequence[Layers]
    size: tuple[int, int]
    light: Illumination | None = None
    shutter: Float[Tensor, " b"] | None = None

    @property
    def device(self) -> torch.device:
        """Where it is drawn."""
        return self.layers[0].texture.device

    def frames(
        self, times: Float[Tensor, "b t"], *, exposures: int = 1, supersample: int = 1
    ) -> tuple[Float[Tensor, "b t 3 h w"], Int[Tensor, "b t h w"]]:
        """Frames in [0, 1], and the index of the layer on top of every pixel.

        Args:
            times: Times of each scene; 0 and 1 are its ends.
            exposures: Instants that an open shutter is averaged over, an odd number.
            supersample: Samples of a pixel along each side, averaged.
        """
        if exposures < 1 or exposures % 2 == 0:
            raise ValueError(f"exposures is {exposures}; it must be odd, to have a middle")
        times = times.to(self.device)
        middle, labels = self._draw(times, supersample)
        if exposures > 1 and self.shutter is not None:
            half = exposures // 2
            for i in (i for i in range(-half, half + 1) if i):
                other = times + self.shutter[:, None] * (i / exposures)
                middle = middle + self._draw(other, supersample)[0]
            middle = middle / exposures
        if self.light is not None:
            middle = middle * self.light.gain(times, self.size)[:, :, None]
        return middle.clamp(0.0, 1.0), labels

    def flows(
        self, times: Float[Tensor, "b t"], to: Int[Tensor, "t n"], labels: Int[Tensor, "b t h w"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "b t n 2 hs ws"], Bool[Tensor, "b t n hs ws"]]:
        """Exact flows from every time to other ones, and where the point is visible there.

        Args:
            times: Times of each scene.
            to: For every time, the indices of the times that its flows lead to.
            labels: Layers on top at all times, as `frames` returns them.
            stride: Flows are given at the centres of cells of this many pixels.

        Returns:
            Flows on the TARGET grid of their time, in **full-size** pixels; and whether the point
            is inside the other frame and not covered there.
        """
        h, w = self.size
        b, t = times.shape
        times, to = times.to(self.device), to.to(self.device)
        grid = self._grid(1, stride)
        here = grid.expand(b, t, -1, -1, -1)
        top = self._top(grid, times)
        flows = here.new_zeros(b, t, to.shape[1], *here.shape[2:])
        for index, layer in enumerate(self.layers):
            rows, own = layer.rows, times[layer.rows]
            points = layer.motion.origin(here[rows], own)
            on = (top[rows] == index)[:, :, None]
            for n in range(to.shape[1]):
                shift = layer.motion.place(points, own[:, to[:, n]]) - here[rows]
                flows[rows, :, n] = torch.where(on, shift, flows[rows, :, n])
        own_time = to == torch.arange(t, device=to.device)[:, None]  # exactly 0, not nearly
        flows = flows.masked_fill(own_time[None, :, :, None, None, None], 0.0)
        landing = (here[:, :, None] + flows).round().long()
        x, y = landing.unbind(3)
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        scene = torch.arange(b, device=here.device)[:, None, None, None, None]
        instant = to[None, :, :, None, None]
        shown = labels[scene, instant, y.clamp(0, h - 1), x.clamp(0, w - 1)]
        return flows, inside & (shown == top[:, :, None])

    def flows_to(
        self, times: Float[Tensor, "b t"], others: Float[Tensor, "b n"], *, stride: int = 1
    ) -> tuple[Float[Tensor, "b t n 2 hs ws"], Bool[Tensor, "b t n hs ws"]]:
        """Exact flows from every time to each of some other times, as `flows` gives them."""
        t, n = times.shape[1], others.shape[1]
        instants = torch.cat((times, others), dim=1).to(self.device)
        labels = self._top(self._grid(1, 1), instants)
        to = torch.arange(t, t + n).expand(t + n, n)
        flows, visible = self.flows(instants, to, labels, stride=stride)
        return flows[:, :t], visible[:, :t]

    def _grid(self, fine: int, stride: int) -> Float[Tensor, "1 1 2 h w"]:
        """Centres of cells of ``stride`` pixels, each in ``fine`` parts a side."""
        ys, xs = (
            (torch.arange(n // stride * fine, device=self.device) + 0.5) * (stride / fine) - 0.5 for n in self.size
        )
        return torch.stack((xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs))))[None, None]

    def _draw(
        self, times: Float[Tensor, "b t"], fine: int
    ) -> tuple[Float[Tensor, "b t 3 h w"], Int[Tensor, "b t h w"]]:
        grid = self._grid(fine, 1)
        frame = self.layers[0].sample(grid, times, "reflection")[:, :, :3]
        labels = torch.zeros(*times.shape, *self.size, dtype=torch.int64, device=frame.device)
        for index, layer in enumerate(self.layers[1:], start=1):
            rows = layer.rows
            colour, matte = layer.sample(grid, times, "border").split((3, 1), dim=2)
            frame[rows] = torch.lerp(frame[rows], colour, matte)
            on = _pooled(matte, fine)[:, :, 0] > 0.5
            labels[rows] = labels[rows].masked_fill(on, index)
        return _pooled(frame, fine), labels

    def _top(self, grid: Float[Tensor, "1 1 2 h w"], times: Float[Tensor, "b t"]) -> Int[Tensor, "b t h w"]:
        shape = (*times.shape, *grid.shape[-2:])
        labels = torch.zeros(shape, dtype=torch.int64, device=grid.device)
        for index, layer in enumerate(self.layers[1:], start=1):
            rows = layer.rows
            matte = layer.sample(grid, times, "border")[:, :, 3]
            labels[rows] = labels[rows].masked_fill(matte > 0.5, index)
        return labels


def _pooled(image: Float[Tensor, "b t c hf wf"], fine: int) -> Float[Tensor, "b t c h w"]:
    if fine == 1:
        return image
    return F.avg_pool2d(image.flatten(0, 1), fine).unflatten(0, image.shape[:2])
