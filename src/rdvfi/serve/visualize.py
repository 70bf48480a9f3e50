"""`visualize`: images or a video of the estimated motion.

The panels show the layers of `rdvfi.serve.motion_layers` at times between two frames, with a colour wheel of the flow
directions, and the static content (`rdvfi.content`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from rdvfi.geometry import resize_image
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.media.image_files.images import write_png
from rdvfi.media.outputs.output import atomic_output, check_destination
from rdvfi.media.pixels import Picture, to_picture, to_pixels, to_tensor
from rdvfi.media.reader import ReadOptions, SourceFrame, SourceInfo, open_source
from rdvfi.media.source_parts import TrimmedSource
from rdvfi.media.timestamps import Moment
from rdvfi.media.video_files.encoding import SinkOptions
from rdvfi.media.writer import open_sink
from rdvfi.motion.trajectory.plot import flow_colours
from rdvfi.ops.compositing import restore_overlay_and_bars
from rdvfi.serve.motion_layers import Layer, PointPaths, draw_layer, flow_scale
from rdvfi.types import Image
from rdvfi.video.model_loading import DEFAULT_MODEL, ModelLike, prepare_model

LAYERS = ("picture", "paths", "flow", "confidence", "occlusion", "mask")
_STEPS_PER_PAIR = 8
"""Frames per pair in a video."""
_PANEL_WIDTH = 480
_COLUMNS = 3


def visualize(
    source: str | Path | Sequence[str | Path],
    destination: str | Path,
    *,
    model: ModelLike = DEFAULT_MODEL,
    layers: Sequence[str] = LAYERS,
    points: Sequence[tuple[float, float] | tuple[int, int]] = (),
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    time: float = 0.5,
    device: str | torch.device | None = None,
    seed: int = 0,
    overwrite: bool = False,
    allow_untrained: bool = False,
) -> int:
    """Draw the motion between frames.

    Args:
        source: A video, a folder of images, or images.
        destination: A ``.png`` for the first pair from ``start`` on, at one time; a video file for all pairs.
        model: A name or folder for `create_model`, or a model.
        layers: Which panels, of `LAYERS`.
        points: Pixels (x, y) of the first frame whose paths are drawn; an even grid if none is given.
        start: Seconds at which the first pair begins.
        end: Seconds at which the last one ends; None for the end of the source.
        time: Time between the two frames, in [0, 1], of a picture.
        device: Where a named model runs.
        seed: Seed of the noise.
        overwrite: Replace the destination if it exists.
        allow_untrained: Accept a model with untrained learned parts.

    Returns:
        The number of pairs that are drawn.

    Raises:
        ValueError: If a layer, a point or a time does not exist, or the source is unusable.
        FileExistsError: If the destination exists, and ``overwrite`` is off.
    """
    target, single = Path(destination), Path(destination).suffix.lower() == ".png"
    _check_layers(layers)
    if not 0.0 <= time <= 1.0:
        raise ValueError(f"time is {time}; it must be in [0, 1]")
    if single:
        _check_picture_destination(target, overwrite=overwrite)
    else:
        check_destination(target, overwrite=overwrite)
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(each) for each in source]
    opened = open_source(paths[0] if len(paths) == 1 else paths, ReadOptions())
    info = opened.info
    for x, y in points:
        if not (0 <= x < info.width and 0 <= y < info.height):
            raise ValueError(f"point is {x:g},{y:g}; the frames of {info.name} are {info.width}x{info.height} pixels")
    if start or end is not None:
        opened = TrimmedSource(opened, Fraction(start), None if end is None else Fraction(end))
    ready = prepare_model(model, device, None, allow_untrained=allow_untrained)
    drawing = _PanelDrawer(ready, layers, [(float(x), float(y)) for x, y in points], seed)
    pairs = pairwise(opened.frames())
    pair = next(pairs, None)
    if pair is None:
        raise ValueError(f"{info.name} has fewer than two frames between start and end; a pair is needed")
    if single:
        first, last = pair
        with atomic_output(target, overwrite=overwrite) as partial:
            write_png(partial, next(drawing.pictures(first, last, [time])))
        return 1
    return _write_video(chain([pair], pairs), drawing, target, opened.info, overwrite=overwrite)


def _check_layers(layers: Sequence[str]) -> None:
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(f"layer is {layer!r}; it must be one of {', '.join(LAYERS)}")
    if not layers:
        raise ValueError(f"layers is empty; choose some of {', '.join(LAYERS)}")


def _check_picture_destination(target: Path, *, overwrite: bool) -> None:
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {target} does not exist")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; replace it with overwrite=True, or choose another name")


def _write_video(
    pairs: Iterator[tuple[SourceFrame, SourceFrame]],
    drawing: "_PanelDrawer",
    target: Path,
    info: SourceInfo,
    *,
    overwrite: bool,
) -> int:
    """Write all pairs as a video, eight times slower than the source; returns their number."""
    duration = info.span / max(1, info.frames - 1) or Fraction(1, _STEPS_PER_PAIR)
    columns = min(_COLUMNS, len(drawing.layers))
    height = -(-len(drawing.layers) // columns) * _panel_height(info.height, info.width)
    layout = replace(info.layout, bits=8, alpha=False, aspect=None)
    output = replace(info, width=columns * _PANEL_WIDTH, height=height, layout=layout, media=None, headroom=False)
    shares = [Fraction(k, _STEPS_PER_PAIR) for k in range(_STEPS_PER_PAIR)]
    count = 0
    with open_sink(target, output, SinkOptions(), tick=duration, rate=1 / duration, overwrite=overwrite) as sink:
        for count, (first, last) in enumerate(pairs, start=1):
            pictures = drawing.pictures(first, last, [float(share) for share in shares])
            for share, picture in zip(shares, pictures, strict=True):
                start = (count - 1 + share) * _STEPS_PER_PAIR * duration
                sink.write(picture, Moment(count - 1, share, start, duration))
    return count


def _panel_height(height: int, width: int) -> int:
    return max(2, round(height * _PANEL_WIDTH / width / 2) * 2)


class _PanelDrawer:
    """Draws the panels of pairs of frames."""

    def __init__(
        self, model: Interpolator, layers: Sequence[str], points: Sequence[tuple[float, float]], seed: int
    ) -> None:
        self.layers = tuple(layers)
        self._model, self._points, self._seed = model, points, seed

    def pictures(self, first: SourceFrame, last: SourceFrame, times: Sequence[float]) -> Iterator[Picture]:
        """A picture of all panels for each time."""
        with torch.inference_mode():
            img0, img1 = (
                to_tensor(
                    np.ascontiguousarray(frame.pixels[..., :3]), device=self._model.device, dtype=self._model.dtype
                )
                for frame in (first, last)
            )
            motion = self._model.estimate(img0, img1, seed=self._seed)
            size = (first.pixels.shape[0], first.pixels.shape[1])
            paths = self._paths(motion, size)
            for time in times:
                when = torch.tensor([time], dtype=torch.float32, device=self._model.device)
                drawn = to_picture(to_pixels(self._model.render(img0, img1, motion, when)[0, 0], deep=False))
                yield _arrange_panels([self._panel(layer, drawn, motion, paths, when, img0) for layer in self.layers])

    def _paths(self, motion: Motion, size: tuple[int, int]) -> PointPaths:
        device = self._model.device
        if not self._points:
            return PointPaths.from_trajectory(motion.trajectory, size, device)
        return PointPaths.from_trajectory(motion.trajectory, size, device, points=self._points)

    def _panel(
        self, layer: str, drawn: Picture, motion: Motion, paths: PointPaths, when: torch.Tensor, img0: Image
    ) -> Picture:
        time = float(when)
        if layer == "paths":
            picture = paths.draw(drawn, time)
        elif layer == "mask":
            picture = _mark_static_content(drawn, motion, img0)
        else:
            longest = flow_scale(motion.trajectory, when)
            picture = draw_layer(drawn, motion.trajectory, Layer(layer), when, longest)
            if layer == "flow":
                picture = _add_colour_wheel(picture)
        return _add_label(picture, f"{layer}, t = {time:.2f}" if layer == "picture" else layer)


def _mark_static_content(drawn: Picture, motion: Motion, img0: Image) -> Picture:
    """The picture with overlays in red, static pixels in green and bars in blue."""
    content, picture = motion.content, drawn.copy()
    if content is None:
        return picture
    size = (drawn.shape[0], drawn.shape[1])
    masks = []
    if content.overlay is not None:
        masks.append((resize_image(content.overlay.mask.float(), size)[0, 0] > 0.5, (235, 60, 60)))
    if content.static is not None:
        masks.append((content.static[0, 0], (60, 200, 60)))
    ones, edges = torch.ones_like(img0), [content.bars.rows, content.bars.columns]
    outside = restore_overlay_and_bars(torch.zeros_like(img0)[:, None], ones, ones, torch.zeros(1), [], edges)
    masks.append((outside[0, 0, 0] > 0.5, (70, 90, 235)))
    for mask, colour in masks:
        where = mask.cpu().numpy()
        picture[where] = np.round(0.4 * picture[where] + 0.6 * np.array(colour)).astype(np.uint8)
    return picture


def _add_colour_wheel(picture: Picture) -> Picture:
    """The picture with a wheel of the colours of all directions in a corner."""
    side = max(24, min(picture.shape[:2]) // 5)
    axis = torch.linspace(-1.0, 1.0, side)
    flow = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
    wheel = np.round(flow_colours(flow, 1.0).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    inside = flow.norm(dim=0).numpy() <= 1.0
    drawn = picture.copy()
    corner = drawn[-side:, -side:]
    corner[inside] = wheel[inside]
    return drawn


def _add_label(picture: Picture, text: str) -> Picture:
    height = _panel_height(picture.shape[0], picture.shape[1])
    shrinks = picture.shape[1] > _PANEL_WIDTH
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    panel = cv2.resize(np.ascontiguousarray(picture), (_PANEL_WIDTH, height), interpolation=how)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(panel, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
    return panel


def _arrange_panels(panels: list[Picture]) -> Picture:
    columns = min(_COLUMNS, len(panels))
    blank = np.full_like(panels[0], 255)
    panels = panels + [blank] * (-len(panels) % columns)
    rows = [np.hstack(panels[k : k + columns]) for k in range(0, len(panels), columns)]
    return np.ascontiguousarray(np.vstack(rows))
