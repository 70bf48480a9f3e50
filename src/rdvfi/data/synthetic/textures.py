"""Textures of moving layers, cropped from a stack of images on the training device.

The texture of a layer is a window of a picture, reduced by up to `MAX_REDUCTION`, possibly mirrored, with
slightly changed colours, and with low contrast if the layer is textureless. It is sampled from the next finer
level of an averaged pyramid at four points per pixel, which avoids aliasing. Mattes are computed analytically,
with edges about a pixel wide: blobs (a radius that varies with the angle) and capsules (limbs).
"""

from dataclasses import dataclass
from math import floor, log2

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from rdvfi.media.pixels import Picture

MAX_REDUCTION = 4.0
"""Largest reduction factor of a picture."""
_SMOOTH_CELL = 4
"""Side in pixels of the cells over which a smooth texture is averaged."""


@dataclass(frozen=True)
class Textureless:
    """Removal of texture: ``contrast`` is a factor of the differences from the mean colour, in [0, 1].

    ``smooth`` removes structures smaller than `_SMOOTH_CELL` pixels; ``colour`` replaces the mean colour.
    """

    contrast: float
    smooth: bool = False
    colour: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Crop:
    """A window of a picture and its change of colours.

    Attributes:
        picture: Index of the picture.
        reduction: Reduction factor on a logarithmic scale from the smallest (0) to the largest (1)
            possible factor.
        place: Relative position (x, y) of the window in the picture, in [0, 1].
        mirrored: Whether it is flipped horizontally and vertically.
        gain: Factors of red, green, blue.
        gamma: Exponent of all channels.
        textureless: Removal of the texture, or None.
    """

    picture: int
    reduction: float
    place: tuple[float, float]
    mirrored: tuple[bool, bool] = (False, False)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    textureless: Textureless | None = None


class PicturePyramid:
    """Pictures of one size on a device, with up to two halved copies."""

    def __init__(self, pictures: UInt8[Tensor, "n 3 h w"]) -> None:
        if len(pictures) == 0:
            raise ValueError("there are no pictures to cut textures from")
        self.levels = [pictures]
        while len(self.levels) < 3 and min(self.levels[-1].shape[-2:]) >= 64:
            halves = [F.avg_pool2d(picture.float(), 2) for picture in self.levels[-1]]
            self.levels.append(torch.stack([half.round().byte() for half in halves]))

    @property
    def device(self) -> torch.device:
        """The device of the pictures."""
        return self.levels[0].device

    def __len__(self) -> int:
        return len(self.levels[0])

    def crop(self, crops: list[Crop], size: tuple[int, int]) -> Float[Tensor, "b 3 th tw"]:
        """A texture of ``size = (h, w)`` in [0, 1] for each crop."""
        h, w = size
        ph, pw = self.levels[0].shape[-2:]
        limit = min(ph / h, pw / w)
        smallest, largest = min(1.0, limit), min(limit, MAX_REDUCTION)
        factors = [smallest * (largest / smallest) ** crop.reduction for crop in crops]
        levels = [min(max(0, floor(log2(f))), len(self.levels) - 1) for f in factors]
        edges = np.stack([_window_edges(c, f, size, (ph, pw)) for c, f in zip(crops, factors, strict=True)])
        textures = torch.empty(len(crops), 3, h, w, device=self.device)
        for level in set(levels):
            rows = [i for i, k in enumerate(levels) if k == level]
            indices = torch.tensor([crops[i].picture for i in rows]).to(self.device)
            source = self.levels[level][indices].float() / 255.0
            grid = _sampling_grid(torch.from_numpy(edges[rows]).to(self.device), size)
            supersampled = F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
            textures[torch.tensor(rows).to(self.device)] = F.avg_pool2d(supersampled, 2)
        colours = torch.tensor([(*c.gain, c.gamma) for c in crops], dtype=torch.float32).to(self.device)
        gain, gamma = colours[:, :, None, None].split((3, 1), dim=1)
        return _reduce_texture((textures.clamp_min(1e-4) ** gamma * gain).clamp(0.0, 1.0), crops)


def _reduce_texture(textures: Float[Tensor, "b 3 h w"], crops: list[Crop]) -> Float[Tensor, "b 3 h w"]:
    """Reduce contrast, detail and colour of textureless crops; leave others unchanged."""
    reductions = {row: crop.textureless for row, crop in enumerate(crops) if crop.textureless is not None}
    if not reductions:
        return textures
    rows = torch.tensor(list(reductions)).to(textures.device)
    parameters = [(p.contrast, p.smooth, p.colour is not None, *(p.colour or (0.0,) * 3)) for p in reductions.values()]
    table = torch.tensor(parameters, dtype=torch.float32).to(textures.device)[:, :, None, None]
    contrast, smooth, has_colour, colour = table.split((1, 1, 1, 3), dim=1)
    selected = textures[rows]
    low_pass = F.interpolate(F.avg_pool2d(selected, _SMOOTH_CELL), selected.shape[-2:], mode="bilinear")
    detail = torch.where(smooth > 0.0, low_pass, selected)
    mean = detail.mean((2, 3), keepdim=True)
    new_mean = torch.where(has_colour > 0.0, colour, mean)
    return textures.index_copy(0, rows, (new_mean + contrast * (detail - mean)).clamp(0.0, 1.0))


def _window_edges(
    crop: Crop, factor: float, size: tuple[int, int], full_size: tuple[int, int]
) -> Float[np.ndarray, "2 2"]:
    """First and last edge of the window along y and x, as fractions of the picture."""
    edges = []
    for length, full, place, flip in zip(size, full_size, crop.place[::-1], crop.mirrored[::-1], strict=True):
        part = factor * length / full
        first = place * (1.0 - part)
        edges.append((first + part, first) if flip else (first, first + part))
    return np.array(edges, np.float32)


def _sampling_grid(edges: Float[Tensor, "b 2 2"], size: tuple[int, int]) -> Float[Tensor, "b h w 2"]:
    """Sampling grid of windows with two points per pixel along each side."""
    h, w = (2 * n for n in size)
    lines = []
    for axis, count in enumerate((h, w)):
        share = (torch.arange(count, device=edges.device) + 0.5) / count
        first, last = edges[:, axis, :1], edges[:, axis, 1:]
        lines.append(2.0 * (first + (last - first) * share) - 1.0)
    y, x = lines
    return torch.stack((x[:, None].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)), dim=-1)


@dataclass(frozen=True)
class Matte:
    """Shape of a layer, centred in its texture; lengths in pixels.

    Attributes:
        radius: Mean radius of a blob, or radius of a capsule.
        waves: Rows ``(k, height, phase)``: the radius of a blob is
            ``radius (1 + sum height cos(k angle + phase))``.
        axis: Half the axis of a capsule, ``(x, y)``.
        limit: Largest radius of a blob.
    """

    radius: float
    waves: tuple[tuple[float, float, float], ...] = ()
    axis: tuple[float, float] = (0.0, 0.0)
    limit: float = 1e9


def draw_mattes(mattes: list[Matte], side: int, device: torch.device) -> Float[Tensor, "b 1 s s"]:
    """Coverage in [0, 1] of every pixel of square textures; 0 at their borders."""
    line = torch.arange(side, device=device) - (side - 1) / 2.0
    x, y = line.expand(side, side), line[:, None].expand(side, side)
    count = max(1, *(len(m.waves) for m in mattes))
    no_wave = (0.0, 0.0, 0.0)
    rows = [m.waves + (no_wave,) * (count - len(m.waves)) for m in mattes]
    waves = torch.tensor(rows, dtype=torch.float32).to(device)
    k, height, phase = waves[..., None, None].unbind(2)
    angle = torch.atan2(y, x)
    swing = (height * (k * angle + phase).cos()).sum(1)
    shapes = [(m.radius, m.limit, *m.axis) for m in mattes]
    numbers = torch.tensor(shapes, dtype=torch.float32).to(device)
    radius, limit, ax, ay = numbers[:, :, None, None].unbind(1)
    # Distance to the nearest point of the axis from -a to a; the axis of a blob is its centre.
    nearest = ((x * ax + y * ay) / (ax.square() + ay.square()).clamp_min(1e-6)).clamp(-1.0, 1.0)
    distance = torch.hypot(x - nearest * ax, y - nearest * ay)
    reach = (radius * (1.0 + swing)).clamp_max(limit)
    matte = (reach - distance + 0.5).clamp(0.0, 1.0)
    return F.pad(matte[:, None, 1:-1, 1:-1], (1, 1, 1, 1))


def same_size(pictures: list[Picture], size: tuple[int, int]) -> UInt8[np.ndarray, "n 3 h w"]:
    """Pieces of ``size = (h, w)`` that cover pictures of any size, at full size and repeatedly halved.

    A picture is halved until it is smaller than a piece; pictures smaller than a piece are left out.

    Raises:
        ValueError: If no picture is large enough.
    """
    h, w = size
    pieces = []
    for picture in pictures:
        while picture.shape[0] >= h and picture.shape[1] >= w:
            ph, pw = picture.shape[:2]
            # As many pieces as fit, evenly spaced over the picture.
            for y in np.linspace(0, ph - h, ph // h).astype(int):
                for x in np.linspace(0, pw - w, pw // w).astype(int):
                    pieces.append(picture[y : y + h, x : x + w].transpose(2, 0, 1))
            picture = _halve_picture(picture)
    if not pieces:
        raise ValueError(f"no picture holds a piece of {w}x{h} pixels; give larger pictures")
    return np.ascontiguousarray(np.stack(pieces))


def _halve_picture(picture: Picture) -> Picture:
    h, w = picture.shape[0] // 2, picture.shape[1] // 2
    quads = picture[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3)
    return (quads.mean((1, 3)) + 0.5).astype(np.uint8)
