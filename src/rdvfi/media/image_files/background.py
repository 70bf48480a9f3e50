"""The background colour of transparent images, as users name it."""

import numpy as np

from rdvfi.media.pixels import Pixels, composite, with_alpha

NAMED = {"black": (0, 0, 0), "white": (255, 255, 255), "gray": (128, 128, 128)}


def parse_colour(text: str) -> tuple[int, int, int]:
    """8-bit RGB of a colour as CSS names it: ``black``, ``teal``, ``#rrggbb``, ...

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
    """Frames as the output holds them: RGBA, or RGB on a background.

    Args:
        keep: Whether the output holds what is transparent.
        colour: 8-bit RGB behind it otherwise.
    """

    def __init__(self, keep: bool, colour: tuple[int, int, int]) -> None:
        self._keep, self._colour, self._used = keep, colour, False

    def show(self, pixels: Pixels) -> Pixels:
        """A frame, RGB or RGBA, in the one form that all have."""
        if self._keep:
            return with_alpha(pixels)
        if pixels.shape[2] == 4 and not self._used:
            self._used = bool(pixels[..., 3].min() < np.iinfo(pixels.dtype).max)
        return composite(pixels, self._colour)

    def notes(self, name: str) -> list[str]:
        """What was done to the frames seen so far."""
        colour = next((known for known, value in NAMED.items() if value == self._colour), None)
        shown = colour or "#{:02x}{:02x}{:02x}".format(*self._colour)
        return [f"what is transparent in {name} is shown on {shown}"] if self._used else []
