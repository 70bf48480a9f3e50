"""Images as a source of frames."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from rdvfi.media.colour import SRGB_VIDEO, PixelLayout
from rdvfi.media.images import colour_profile, has_alpha, read_image
from rdvfi.media.pixels import Pixels
from rdvfi.media.reader import Source, SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp


class ImageSource(Source):
    """Image files, one after the other at a constant rate.

    Args:
        paths: The images in order.
        rate: Images per second.
        name: What errors call the whole.
    """

    def __init__(self, paths: Sequence[Path], rate: Fraction, name: str) -> None:
        if rate <= 0:
            raise ValueError(f"image_rate is {rate}; it must be greater than 0")
        self._paths = paths
        self._tick = 1 / rate
        self._first = read_image(paths[0])
        data = paths[0].read_bytes()
        height, width = self._first.shape[:2]
        self.info = SourceInfo(
            name=name,
            width=width,
            height=height,
            frames=len(paths),
            span=(len(paths) - 1) * self._tick,
            tick=self._tick,
            colour=SRGB_VIDEO,
            layout=PixelLayout("420", 8 * self._first.dtype.itemsize),
            profile=colour_profile(data),
            notes=("what is transparent in the images is shown on black",) if has_alpha(data) else (),
        )

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        """Read the images one by one; all must agree in size and depth."""
        skipped = 0 if since is None else min(len(self._paths) - 1, max(0, int(since // self._tick)))
        for k, path in enumerate(self._paths[skipped:], start=skipped):
            pixels = self._first if k == 0 else read_image(path)
            if pixels.shape != self._first.shape or pixels.dtype != self._first.dtype:
                raise ValueError(
                    f"all images must be alike: {path} is {_describe(pixels)}, "
                    f"{self._paths[0]} is {_describe(self._first)}"
                )
            yield SourceFrame(pixels, Stamp(k * self._tick, self._tick))


def _describe(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} with {8 * pixels.dtype.itemsize} bits"
