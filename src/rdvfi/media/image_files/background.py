"""The background colour on which transparent pictures are shown."""

import numpy as np

from rdvfi.media.pixels import Pixels, composite, with_alpha

NAMED_COLOURS = {"black": (0, 0, 0), "white": (255, 255, 255), "gray": (128, 128, 128)}


def parse_colour(text: str) -> tuple[int, int, int]:
    """8-bit RGB of a CSS colour: ``black``, ``teal``, ``#rrggbb``, ...

    Raises:
        ValueError: If it is none.
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ValueError(f"background is {text!r}; expected a colour such as black, white or #rrggbb") from None
    return red, green, blue


class BackgroundCompositor:
    """Gives all frames the channels of the output: RGBA, or RGB on a background of 8-bit RGB ``colour``."""

    def __init__(self, keep_alpha: bool, colour: tuple[int, int, int]) -> None:
        self._keep_alpha, self._colour, self._saw_transparency = keep_alpha, colour, False

    def compose(self, pixels: Pixels) -> Pixels:
        """An RGB or RGBA frame with the channels of the output."""
        if self._keep_alpha:
            return with_alpha(pixels)
        if pixels.shape[2] == 4 and not self._saw_transparency:
            self._saw_transparency = bool(pixels[..., 3].min() < np.iinfo(pixels.dtype).max)
        return composite(pixels, self._colour)

    def notes(self, name: str) -> list[str]:
        """A sentence on the background, if any frame of the source ``name`` so far was transparent."""
        if not self._saw_transparency:
            return []
        colour_name = next((known for known, value in NAMED_COLOURS.items() if value == self._colour), None)
        return [
            f"transparent parts of {name} are shown on {colour_name or '#{:02x}{:02x}{:02x}'.format(*self._colour)}"
        ]
