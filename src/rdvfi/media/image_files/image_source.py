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

_MAX_LISTED = 3
"""Number of files that an error or a note lists; the others are counted."""


class ImageSource(Source):
    """Image files in order, at a constant rate.

    Args:
        paths: The images in order.
        options: How they are read.
        name: What errors call the sequence.
        other_files: Names of files in the folder that are not images.

    Raises:
        ValueError: If one of them cannot be read, or differs from the first in size or depth.
    """

    def __init__(self, paths: Sequence[Path], options: ReadOptions, name: str, other_files: Sequence[str] = ()) -> None:
        if options.image_rate <= 0:
            raise ValueError(f"image_rate is {options.image_rate}; it must be greater than 0")
        self._paths, self._options = paths, options
        self._tick = 1 / options.image_rate
        headers = _read_headers(paths, options.max_pixels)
        first = headers[0]
        alpha = options.alpha and any(header.alpha for header in headers)
        self.info = SourceInfo(
            name=name,
            width=first.width,
            height=first.height,
            frames=len(paths),
            span=(len(paths) - 1) * self._tick,
            tick=self._tick,
            colour=SRGB_VIDEO,
            layout=PixelLayout("420", first.bits, alpha=alpha),
            profile=first.profile,
            notes=tuple(_notes(headers, other_files)),
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
        start = 0 if since is None else min(len(self._paths) - 1, max(0, int(since // self._tick)))
        for k, path in enumerate(self._paths[start:], start=start):
            pixels = read_pixels(path, max_pixels=self._options.max_pixels)
            pixels = self._background.compose(pixels)
            # The file may have changed since its header was read.
            if pixels.shape[:2] != (info.height, info.width) or 8 * pixels.itemsize != info.layout.bits:
                size = f"{pixels.shape[1]}x{pixels.shape[0]} with {8 * pixels.itemsize} bits per channel"
                raise ValueError(f"all images must have one size and depth: {path} is {size} now")
            yield SourceFrame(pixels, Stamp(k * self._tick, self._tick))


def _read_headers(paths: Sequence[Path], max_pixels: int) -> list[ImageHeader]:
    headers, errors = [], []
    for path in paths:
        try:
            headers.append(image_header(path, max_pixels=max_pixels))
        except (ValueError, OSError) as error:
            errors.append(error)
    if errors:
        raise ValueError(_join_first([str(error) for error in errors], "; "))
    first = headers[0]
    different = [
        f"{path} is {_describe(header)}"
        for path, header in zip(paths, headers, strict=True)
        if (header.width, header.height, header.bits) != (first.width, first.height, first.bits)
    ]
    if different:
        listed = _join_first(different, ", ")
        raise ValueError(f"all images must have one size and depth: {listed}, {paths[0]} is {_describe(first)}")
    return headers


def _notes(headers: Sequence[ImageHeader], other_files: Sequence[str]) -> Iterator[str]:
    if other_files:
        yield f"{len(other_files)} files that are not images were left out: {_join_first(other_files, ', ')}"
    for note in dict.fromkeys(note for header in headers for note in header.notes):
        yield f"images: {note}"
    if any(header.frames > 1 for header in headers):
        yield "only the first frame of each animated image is used"
    if len({header.profile for header in headers}) > 1:
        yield "the images have different colour profiles; that of the first is kept"


def _join_first(texts: Sequence[str], separator: str) -> str:
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return separator.join(texts[:_MAX_LISTED]) + more


def _describe(header: ImageHeader) -> str:
    return f"{header.width}x{header.height} with {header.bits} bits per channel"
