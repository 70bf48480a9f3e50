"""The example pairs of a report: the worst, the median and the best one of a method.

They are known only when all pairs have been measured. Until then the middle frame of every window is stored as a
JPEG of at most `MAX_WIDTH` pixels in a temporary folder. Error maps are computed at full size, then downscaled.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from rdvfi.evaluation.method import Method
from rdvfi.evaluation.metrics import WindowResult, psnr
from rdvfi.media.pixels import to_pixels

MAX_WIDTH = 960
MAX_ERROR = 48
"""The smallest error, in levels of 255, that the error map shows at full brightness."""
_JPEG_QUALITY = 90
_RANKS = ("worst", "median", "best")
_SOURCE_FRAMES = ("truth", "first input", "last input")


@dataclass(frozen=True)
class Example:
    """The middle frame of one window, by all methods.

    Attributes:
        rank: ``worst``, ``median`` or ``best``.
        label: Clip and number of the first frame of the window.
        psnr: PSNR of the middle frame, by method.
        pictures: JPEG data of the frames: ``truth``, ``first input``, ``last input``, and one for each method.
        errors: JPEG data of the error maps, by method.
        width: Width of the frames, in pixels.
    """

    rank: str
    label: str
    psnr: dict[str, float]
    pictures: dict[str, bytes]
    errors: dict[str, bytes]
    width: int


class ExamplePairs:
    """Stores the middle frames of all windows: an ``on_result`` of `rdvfi.evaluate`, used as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rdvfi-report-")
        self._scores: dict[int, dict[str, float]] = {}
        self._labels: dict[int, str] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._width = 0

    def __enter__(self) -> "ExamplePairs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._folder.cleanup()

    def __call__(self, method: Method, result: WindowResult) -> None:
        """Store the middle frame of one method in one window."""
        window, middle = result.window, len(result.frames) // 2
        key = (window.clip, window.first)
        is_new, self._width = key not in self._numbers, window.frames.shape[2]
        number = self._numbers.setdefault(key, len(self._numbers))
        frame, truth = result.frames[middle, None], result.truth[middle, None]
        if is_new:
            self._scores[number] = {}
            self._labels[number] = f"{window.clip} {window.first}".strip() if window.clip else f"frame {window.first}"
            for name, index in zip(_SOURCE_FRAMES, (middle + 1, 0, -1), strict=True):
                self._store(number, name, window.frames[index])
        self._scores[number][method.name] = float(psnr(frame, truth))
        self._store(number, f"frame of {method.name}", to_pixels(frame[0], deep=False))
        self._store(number, f"error of {method.name}", error_map(frame[0], truth[0]))

    def select(self, method: str) -> list[Example]:
        """The worst, the median and the best window of a method, by the PSNR of the middle frame; each once."""
        ranked = sorted((scores[method], number) for number, scores in self._scores.items() if method in scores)
        if not ranked:
            return []
        indices = (0, (len(ranked) - 1) // 2, len(ranked) - 1)
        ranks = {ranked[index][1]: rank for rank, index in zip(_RANKS, indices, strict=True)}
        return [self._example(rank, number) for number, rank in ranks.items()]

    def _example(self, rank: str, number: int) -> Example:
        names = list(self._scores[number])
        pictures = {name: self._read(number, name) for name in _SOURCE_FRAMES}
        pictures |= {name: self._read(number, f"frame of {name}") for name in names}
        errors = {name: self._read(number, f"error of {name}") for name in names}
        return Example(rank, self._labels[number], dict(self._scores[number]), pictures, errors, self._width)

    def _file(self, number: int, name: str) -> Path:
        return Path(self._folder.name) / f"{number}-{name.encode().hex()}.jpg"

    def _store(self, number: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        self._file(number, name).write_bytes(_jpeg(picture))

    def _read(self, number: int, name: str) -> bytes:
        return self._file(number, name).read_bytes()


def error_map(frame: Float[Tensor, "3 H W"], truth: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Mean absolute error over the channels as a picture: black for 0, brightest for at least `MAX_ERROR` levels."""
    levels = (255.0 / MAX_ERROR * 255.0 * (frame - truth).abs().mean(0)).clamp(0.0, 255.0).round().byte().numpy()
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _jpeg(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    h, w = picture.shape[:2]
    if w > MAX_WIDTH:
        picture = cv2.resize(picture, (MAX_WIDTH, round(h * MAX_WIDTH / w)), interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert encoded
    return data.tobytes()
