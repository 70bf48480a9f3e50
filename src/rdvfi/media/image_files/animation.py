"""Animated PNG and WebP files as sources of frames."""

from collections.abc import Iterator
from fractions import Fraction
from math import gcd, lcm
from pathlib import Path
from typing import Any

import numpy as np

from rdvfi.media.colour import SRGB_VIDEO, PixelLayout
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.image_files.image_header import PILLOW_FORMATS, ImageHeader
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp

_DEFAULT_DURATION = Fraction(1, 10)
"""Seconds for which browsers show a frame without a duration."""
_MAX_TICKS_PER_SECOND = 1_000_000


class AnimatedImage(Source):
    """The complete frames of an animated image, each with its own duration.

    Raises:
        ValueError: If a frame cannot be decoded.
    """

    def __init__(self, path: Path, header: ImageHeader, options: ReadOptions) -> None:
        self._path = path
        durations = [duration for _, duration in self._decode()]
        denominator = min(lcm(*(duration.denominator for duration in durations)), _MAX_TICKS_PER_SECOND)
        ticks = [max(1, round(duration * denominator)) for duration in durations]
        self._durations = [Fraction(count, denominator) for count in ticks]
        self.info = SourceInfo(
            name=str(path),
            width=header.width,
            height=header.height,
            frames=len(durations),
            span=sum(self._durations[:-1], Fraction(0)),
            tick=Fraction(gcd(*ticks), denominator),
            colour=SRGB_VIDEO,
            layout=PixelLayout("420", 8, alpha=header.alpha and options.alpha),
            profile=header.profile,
        )
        self._background = BackgroundCompositor(self.info.layout.alpha, options.background)

    def notes(self) -> list[str]:
        return self._background.notes(self.info.name)

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        time = Fraction(0)
        for (image, _), duration in zip(self._decode(), self._durations, strict=True):
            pixels = np.array(image.convert("RGBA"))
            if since is None or time + duration > since:
                yield SourceFrame(self._background.compose(pixels), Stamp(time, duration))
            time += duration

    def _decode(self) -> Iterator[tuple[Any, Fraction]]:
        """Each frame as a PIL image, and its duration in seconds."""
        import PIL.Image

        try:
            with PIL.Image.open(self._path, formats=PILLOW_FORMATS) as image:
                for number in range(getattr(image, "n_frames", 1)):
                    image.seek(number)
                    image.load()
                    duration = Fraction(image.info.get("duration") or 0) / 1000
                    yield image, duration.limit_denominator(65_535) or _DEFAULT_DURATION
        except FileNotFoundError:
            raise
        except Exception as error:  # decoders raise anything for bytes that they do not expect
            raise ValueError(f"{self._path} is damaged: {error}") from error
