"""Image sequences as sources of frames, validated before any work."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from rdvfi.media.colour import SRGB_VIDEO, PixelLayout
from rdvfi.media.image_files.background import BackgroundCompositor
from rdvfi.media.image_files.image_header import ImageHeader
from rdvfi.media.image_files.images import image_header, read_pixels
from rdvfi.media.reader import ReadOptions, Source, SourceFrame, SourceInfo
from rdvfi.media.timestamps import Stamp

_NAMED = 3
"""Files that an error or a note names; the others are counted."""


class ImageSource(Source):
    """Image files, one after the other at a constant rate.

    Args:
        paths: The images in order.
        options: How they are read.
        name: What errors call the whole.
        left_out: Names of files beside them that are no images.

    Raises:
        ValueError: If one of them cannot be read, or is not like the first.
    """

    def __init__(self, paths: Sequence[Path], options: ReadOptions, name: str, left_out: Sequence[str] = ()) -> None:
        if options.image_rate <= 0:
            raise ValueError(f"image_rate is {options.image_rate}; it must be greater than 0")
        self._paths, self._options = paths, options
        self._tick = 1 / options.image_rate
        headers = _look_through(paths, options.max_pixels)
        first = headers[0]
        transparent = any(header.alpha for header in headers)
        self.info = SourceInfo(
            name=name,
            width=first.width,
            height=first.height,
            frames=len(paths),
            span=(len(paths) - 1) * self._tick,
            tick=self._tick,
            colour=SRGB_VIDEO,
            layout=PixelLayout("420", first.bits, alpha=transparent and options.alpha),
            profile=first.profile,
            notes=tuple(_notes(headers, left_out)),
        )

        self._background = BackgroundCompositor(self.info.layout.alpha, options.background)

    def notes(self) -> list[str]:
        return [*self.info.notes, *self._background.notes("the images")]

    @property
    def seekable(self) -> bool:
        return True

    def stamps(self) -> list[Stamp]:
        return [Stamp(k * self._tick, self._tick) for k in range(len(self._paths))]

    def frames(self, since: Fraction | None = None) -> Iterator[SourceFrame]:
        info = self.info
        skipped = 0 if since is None else min(len(self._paths) - 1, max(0, int(since // self._tick)))
        for k, path in enumerate(self._paths[skipped:], start=skipped):
            pixels = read_pixels(path, max_pixels=self._options.max_pixels)
            pixels = self._background.compose(pixels)
            # Between the look and the reading, a file may have changed.
            if pixels.shape[:2] != (info.height, info.width) or 8 * pixels.itemsize != info.layout.bits:
                size = f"{pixels.shape[1]}x{pixels.shape[0]} with {8 * pixels.itemsize} bits"
                raise ValueError(f"all images must be alike: {path} is {size} now")
            yield SourceFrame(pixels, Stamp(k * self._tick, self._tick))


def _look_through(paths: Sequence[Path], max_pixels: int) -> list[ImageHeader]:
    headers, faults = [], []
    for path in paths:
        try:
            headers.append(image_header(path, max_pixels=max_pixels))
        except (ValueError, OSError) as error:
            faults.append(error)
    if faults:
        raise ValueError(_several([str(fault) for fault in faults], "; "))
    first = headers[0]
    others = [
        f"{path} is {_describe(header)}"
        for path, header in zip(paths, headers, strict=True)
        if (header.width, header.height, header.bits) != (first.width, first.height, first.bits)
    ]
    if others:
        raise ValueError(f"all images must be alike: {_several(others, ', ')}, {paths[0]} is {_describe(first)}")
    return headers


def _notes(headers: Sequence[ImageHeader], left_out: Sequence[str]) -> Iterator[str]:
    if left_out:
        yield f"{len(left_out)} files beside the images were left out: {_several(left_out, ', ')}"
    for note in dict.fromkeys(note for header in headers for note in header.notes):
        yield f"images: {note}"
    if any(header.frames > 1 for header in headers):
        yield "the first picture of each animated image is used"
    if len({header.profile for header in headers}) > 1:
        yield "the images have several colour profiles; that of the first is kept"


def _several(texts: Sequence[str], separator: str) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return separator.join(texts[:_NAMED]) + more


def _describe(header: ImageHeader) -> str:
    return f"{header.width}x{header.height} with {header.bits} bits"
