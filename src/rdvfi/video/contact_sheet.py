"""Contact sheet: an image of one pair of frames and all new frames between them.

No metric tells whether new frames look right. The sheet shows the pair with the largest change in the clip, apart from
scene cuts, where artefacts are most visible. Frames are reduced at once, to save memory.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from rdvfi.media.image_files.images import write_png
from rdvfi.media.outputs.output import atomic_output
from rdvfi.media.pixels import Pixels, expand_video_levels, to_picture

_Tile = UInt8[np.ndarray, "_ _ 3"]

_TILE_WIDTH = 480
_BORDER = 4
_SOURCE_COLOUR = (235, 180, 40)
_NEW_COLOUR = (70, 70, 70)
_MAX_TILES = 64


@dataclass
class _TiledPair:
    """A pair, and the new frames so far."""

    change: float
    first: _Tile
    last: _Tile
    new: list[tuple[float, _Tile]] = field(default_factory=list)


class ContactSheet:
    """Keeps the pair with the largest change of the clip, and draws it as a grid.

    Args:
        headroom: Whether pixels keep video levels; see `rdvfi.media.colour.Converter`.
    """

    def __init__(self, *, headroom: bool = False) -> None:
        self._headroom = headroom
        self._best: _TiledPair | None = None
        self._current: _TiledPair | None = None

    def begin(self, first: Pixels, last: Pixels, *, trusted: bool) -> None:
        """Begin a new pair; ``trusted`` if both frames belong to one scene."""
        tiles = self._reduce(first), self._reduce(last)
        change = float(cv2.absdiff(*tiles).mean())
        # A pair across a scene cut is used only if there is no other.
        change = change if trusted else change - 1000.0
        if self._best is None or change > self._best.change:
            self._current = self._best = _TiledPair(change, *tiles)
        else:
            self._current = None

    def add(self, pixels: Pixels, timestep: float) -> None:
        """Add a new frame of the current pair."""
        if self._current is not None and len(self._current.new) < _MAX_TILES:
            self._current.new.append((timestep, self._reduce(pixels)))

    def _reduce(self, pixels: Pixels) -> _Tile:
        tile = expand_video_levels(to_picture(pixels), headroom=self._headroom)
        height, width = tile.shape[:2]
        if width <= _TILE_WIDTH:
            return tile.copy()
        size = (_TILE_WIDTH, max(1, round(height * _TILE_WIDTH / width)))
        return np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def save(self, destination: Path, *, overwrite: bool = True) -> None:
        """Write the sheet as a PNG.

        Raises:
            ValueError: If no pair was interpolated.
            FileExistsError: If the file exists, and ``overwrite`` is off.
        """
        if self._best is None:
            raise ValueError("no new frame was made, so there is nothing for a contact sheet")
        pair = self._best
        tiles = [
            _label(pair.first, "input, t = 0", _SOURCE_COLOUR),
            *(_label(tile, f"t = {time:.3f}", _NEW_COLOUR) for time, tile in pair.new),
            _label(pair.last, "input, t = 1", _SOURCE_COLOUR),
        ]
        with atomic_output(destination, overwrite=overwrite) as partial:
            write_png(partial, _arrange(tiles))


def _label(tile: _Tile, label: str, colour: tuple[int, int, int]) -> _Tile:
    """The tile with a border, and its label on a dark background in the corner."""
    drawn = tile.copy()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), below = cv2.getTextSize(label, font, scale, 1)
    cv2.rectangle(drawn, (0, 0), (width + 8, height + below + 6), (0, 0, 0), cv2.FILLED)
    cv2.putText(drawn, label, (4, height + 4), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
    height, width = drawn.shape[:2]
    framed = np.empty((height + 2 * _BORDER, width + 2 * _BORDER, 3), dtype=np.uint8)
    framed[:] = colour
    framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = drawn
    return framed


def _arrange(tiles: list[_Tile]) -> _Tile:
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape[:2]
    grid = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        y, x = (k // columns) * height, (k % columns) * width
        grid[y : y + height, x : x + width] = tile
    return grid
