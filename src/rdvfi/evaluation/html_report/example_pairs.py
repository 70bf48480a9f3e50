"""The pairs of frames that a report shows: the worst, the median and the best one of a method.

Which pairs these are is known only when all have been measured, so the middle frame of every window is kept as a
JPEG in a temporary folder until then, at most `LARGEST` pixels wide. The error map is taken at full size before
it is reduced.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.metrics import MadeFrames, psnr
from rdvfi.media.pixels import to_pixels

LARGEST = 960
FULL_SCALE = 48
"""Error, in levels of 255, from which on the error map is brightest."""
_QUALITY = 90
_RANKS = ("worst", "median", "best")
_GIVEN = ("truth", "first input", "last input")


@dataclass(frozen=True)
class Example:
    """One window, by its middle frame.

    Attributes:
        rank: ``worst``, ``median`` or ``best``.
        place: Clip and number of its first frame.
        psnr: Of the middle frame, by method.
        pictures: JPEG data by what they show: ``truth``, ``first input``, ``last input``, and each method's frame.
        errors: JPEG data of the error maps, by method.
        width: Of the frames, in pixels.
    """

    rank: str
    place: str
    psnr: dict[str, float]
    pictures: dict[str, bytes]
    errors: dict[str, bytes]
    width: int


class ExamplePairs:
    """Keeps what methods make; an observer of `rdvfi.evaluation.evaluate`. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rdvfi-report-")
        self._scores: dict[int, dict[str, float]] = {}
        self._places: dict[int, str] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._width = 0

    def __enter__(self) -> "ExamplePairs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._folder.cleanup()

    def __call__(self, method: Method, made: MadeFrames) -> None:
        """Keep one method's middle frame of one window."""
        window, middle = made.window, len(made.frames) // 2
        key = (window.clip, window.first)
        new, self._width = key not in self._numbers, window.frames.shape[2]
        number = self._numbers.setdefault(key, len(self._numbers))
        frame, truth = made.frames[middle, None], made.truth[middle, None]
        if new:
            self._scores[number] = {}
            self._places[number] = f"{window.clip} {window.first}".strip() if window.clip else f"frame {window.first}"
            for name, index in zip(_GIVEN, (middle + 1, 0, -1), strict=True):
                self._keep(number, name, window.frames[index])
        self._scores[number][method.name] = float(psnr(frame, truth))
        self._keep(number, f"made by {method.name}", to_pixels(frame[0], deep=False))
        self._keep(number, f"error of {method.name}", error_map(frame[0], truth[0]))

    def chosen(self, method: str) -> list[Example]:
        """The worst, the median and the best window of a method, by the PSNR of the middle frame; each once."""
        ranked = sorted((scores[method], number) for number, scores in self._scores.items() if method in scores)
        if not ranked:
            return []
        places = dict(zip(_RANKS, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True))
        once = {ranked[index][1]: rank for rank, index in places.items()}
        return [self._example(rank, number) for number, rank in once.items()]

    def _example(self, rank: str, number: int) -> Example:
        names = list(self._scores[number])
        pictures = {name: self._read(number, name) for name in _GIVEN}
        pictures |= {name: self._read(number, f"made by {name}") for name in names}
        errors = {name: self._read(number, f"error of {name}") for name in names}
        return Example(rank, self._places[number], dict(self._scores[number]), pictures, errors, self._width)

    def _file(self, number: int, name: str) -> Path:
        return Path(self._folder.name) / f"{number}-{name.encode().hex()}.jpg"

    def _keep(self, number: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        self._file(number, name).write_bytes(_jpeg(picture))

    def _read(self, number: int, name: str) -> bytes:
        return self._file(number, name).read_bytes()


def error_map(frame: Float[Tensor, "3 H W"], truth: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Mean absolute error over the channels as a picture: black is none, brightest is `FULL_SCALE` levels and more."""
    levels = (255.0 / FULL_SCALE * 255.0 * (frame - truth).abs().mean(0)).clamp(0.0, 255.0).round().byte().numpy()
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _jpeg(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    h, w = picture.shape[:2]
    if w > LARGEST:
        picture = cv2.resize(picture, (LARGEST, round(h * LARGEST / w)), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return data.tobytes()
