"""HDR metadata: mastering display and content light levels (SMPTE ST 2086, CTA-861.3)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.sidedata.sidedata import Type

from rdvfi.media.metadata.side_data import side_data

_DOLBY, _BOXES = "Dolby Vision", (b"dvcC", b"dvvC", b"dvwC")
_LOST = {
    Type.DOVI_RPU_BUFFER: _DOLBY,
    Type.DOVI_METADATA: _DOLBY,
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.A53_CC: "closed caption",
}


@dataclass(frozen=True)
class MasteringDisplay:
    """The display on which a film was graded."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    """Chromaticities (x, y) of the primaries and of white."""
    least: Fraction
    most: Fraction
    """Luminance in candela per square metre."""

    @classmethod
    def parse(cls, data: bytes) -> "MasteringDisplay | None":
        """From FFmpeg's ``AVMasteringDisplayMetadata``; None if it is not complete."""
        numbers = struct.unpack("=22i", data[:88])
        if not (numbers[20] and numbers[21]) or not all(numbers[1:20:2]):
            return None
        values = [Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2)]
        pairs = [(values[i], values[i + 1]) for i in range(0, 8, 2)]
        return cls(pairs[0], pairs[1], pairs[2], pairs[3], values[8], values[9])

    def spelled(self, chromaticity: int, luminance: int) -> str:
        """As encoders read it; the arguments are units of 1, as 50000 and 10000 for x265."""

        def one(value: Fraction, unit: int) -> str:
            return str(round(value * unit)) if unit > 1 else f"{float(value):.5f}"

        points = (("G", self.green), ("B", self.blue), ("R", self.red), ("WP", self.white))
        colours = "".join(f"{name}({one(x, chromaticity)},{one(y, chromaticity)})" for name, (x, y) in points)
        return f"{colours}L({one(self.most, luminance)},{one(self.least, luminance)})"


@dataclass(frozen=True)
class Brightness:
    """What is carried from file to file."""

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """Largest brightness of a pixel, and of a frame's mean (MaxCLL, MaxFALL)."""
    lost: tuple[str, ...] = ()
    """What else there is, and cannot be written."""

    @classmethod
    def of(cls, frame: av.VideoFrame, header: bytes = b"") -> "Brightness":
        """What the first frame of a film says, and of Dolby Vision its header too, in Matroska's form."""

        def said(kind: Type, label: str) -> bool:
            return side_data(frame, kind) is not None or (label == _DOLBY and any(box in header for box in _BOXES))

        display = side_data(frame, Type.MASTERING_DISPLAY_METADATA)
        light = side_data(frame, Type.CONTENT_LIGHT_LEVEL)
        return cls(
            None if display is None else MasteringDisplay.parse(display),
            None if light is None else struct.unpack("=2I", light[:8]),
            tuple(sorted({label for kind, label in _LOST.items() if said(kind, label)})),
        )

    def encoder_options(self, encoder: str, options: dict[str, str]) -> dict[str, str]:
        """The encoder's options with these values added, where it takes them."""
        if encoder not in _WRITERS or (self.display is None and self.light is None):
            return options
        name, keys, units, separator = _WRITERS[encoder]
        parts = list(self._parts(keys, units))
        before = [options[name]] if name in options else []
        return {**options, name: separator.join([*before, *parts])}

    def _parts(self, keys: tuple[str, str], units: tuple[int, int]) -> Iterator[str]:
        if self.display is not None:
            yield f"{keys[0]}={self.display.spelled(*units)}"
        if self.light is not None:
            yield f"{keys[1]}={self.light[0]},{self.light[1]}"

    def notes(self, encoder: str, *, contained: bool) -> list[str]:
        """What of it the output lacks; ``contained`` is whether its container says it in place of the codec."""
        notes = [f"{name} metadata cannot be written and is left out" for name in self.lost]
        if encoder not in _WRITERS and not contained and (self.display is not None or self.light is not None):
            notes.append(f"{encoder} cannot write mastering display and light levels; they are left out")
        return notes


_WRITERS = {
    "libx264": ("x264-params", ("mastering-display", "cll"), (50_000, 10_000), ":"),
    "libx265": ("x265-params", ("master-display", "max-cll"), (50_000, 10_000), ":"),
    "libsvtav1": ("svtav1-params", ("mastering-display", "content-light"), (1, 1), ":"),
}
"""Of encoders: the option that holds parameters, their names, the units, and what separates them."""
