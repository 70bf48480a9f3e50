"""HDR metadata: mastering display and content light levels (SMPTE ST 2086, CTA-861.3)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
from av.sidedata.sidedata import Type

from rdvfi.media.metadata.side_data import side_data

_DOLBY_VISION, _DOLBY_VISION_BOXES = "Dolby Vision", (b"dvcC", b"dvvC", b"dvwC")
_UNSUPPORTED = {
    Type.DOVI_RPU_BUFFER: _DOLBY_VISION,
    Type.DOVI_METADATA: _DOLBY_VISION,
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.A53_CC: "closed caption",
}
"""Side data that cannot be written, by the name that users know."""


@dataclass(frozen=True)
class MasteringDisplay:
    """The display on which a video was graded."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    """Chromaticities (x, y) of the primaries and of the white point."""
    min_luminance: Fraction
    max_luminance: Fraction
    """In candela per square metre."""

    @classmethod
    def parse(cls, data: bytes) -> "MasteringDisplay | None":
        """Read FFmpeg's ``AVMasteringDisplayMetadata``; None if it is incomplete."""
        numbers = struct.unpack("=22i", data[:88])
        has_primaries, has_luminance = numbers[20:]
        if not (has_primaries and has_luminance) or not all(numbers[1:20:2]):
            return None
        values = [Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2)]
        points = [(values[i], values[i + 1]) for i in range(0, 8, 2)]
        return cls(points[0], points[1], points[2], points[3], values[8], values[9])

    def format(self, chromaticity_scale: int, luminance_scale: int) -> str:
        """``G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)``; scales are the units of 1 and of 1 cd/m^2, where 1 is decimals."""

        def scaled(value: Fraction, scale: int) -> str:
            return str(round(value * scale)) if scale > 1 else f"{float(value):.5f}"

        points = (("G", self.green), ("B", self.blue), ("R", self.red), ("WP", self.white))
        x_y = ((name, scaled(x, chromaticity_scale), scaled(y, chromaticity_scale)) for name, (x, y) in points)
        luminances = (scaled(value, luminance_scale) for value in (self.max_luminance, self.min_luminance))
        return "".join(f"{name}({x},{y})" for name, x, y in x_y) + f"L({','.join(luminances)})"


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata of a video."""

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL: the maximum luminance of a pixel, and of the mean of a frame, in cd/m^2."""
    unsupported: tuple[str, ...] = ()
    """Names of other metadata in the source that cannot be written."""

    @classmethod
    def from_frame(cls, frame: av.VideoFrame, header: bytes = b"") -> "HdrMetadata":
        """Read the first frame of a video, and for Dolby Vision the Matroska header of its track."""
        unsupported = {name for kind, name in _UNSUPPORTED.items() if side_data(frame, kind) is not None}
        if any(box in header for box in _DOLBY_VISION_BOXES):
            unsupported.add(_DOLBY_VISION)
        display = side_data(frame, Type.MASTERING_DISPLAY_METADATA)
        light = side_data(frame, Type.CONTENT_LIGHT_LEVEL)
        return cls(
            None if display is None else MasteringDisplay.parse(display),
            None if light is None else struct.unpack("=2I", light[:8]),
            tuple(sorted(unsupported)),
        )

    def encoder_options(self, encoder: str, options: dict[str, str]) -> dict[str, str]:
        """The encoder's options with this metadata added, if the encoder accepts it."""
        syntax = _ENCODER_SYNTAX.get(encoder)
        if syntax is None or (self.display is None and self.light is None):
            return options
        present = [options[syntax.option]] if syntax.option in options else []
        return {**options, syntax.option: ":".join([*present, *self._parameters(syntax)])}

    def _parameters(self, syntax: "_EncoderSyntax") -> Iterator[str]:
        if self.display is not None:
            yield f"{syntax.display_key}={self.display.format(syntax.chromaticity_scale, syntax.luminance_scale)}"
        if self.light is not None:
            yield f"{syntax.light_key}={self.light[0]},{self.light[1]}"

    def notes(self, encoder: str, *, in_container: bool) -> list[str]:
        """One sentence for each kind that the output lacks; ``in_container``: display and light are stored there."""
        notes = [f"{name} metadata cannot be written and is left out" for name in self.unsupported]
        present = self.display is not None or self.light is not None
        if present and encoder not in _ENCODER_SYNTAX and not in_container:
            notes.append(f"{encoder} cannot write mastering display and light levels; they are left out")
        return notes


class _EncoderSyntax(NamedTuple):
    """FFmpeg's option of an encoder that takes HDR metadata, and the keys and units in it."""

    option: str
    display_key: str
    light_key: str
    chromaticity_scale: int = 50_000
    luminance_scale: int = 10_000


_ENCODER_SYNTAX = {
    "libx264": _EncoderSyntax("x264-params", "mastering-display", "cll"),
    "libx265": _EncoderSyntax("x265-params", "master-display", "max-cll"),
    "libsvtav1": _EncoderSyntax("svtav1-params", "mastering-display", "content-light", 1, 1),
}
