"""What the command says when something is wrong, in its own words."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_OPTIONS = {
    "target_fps": "--fps",
    "multiplier": "--multiplier",
    "slow": "--slow",
    "speed": "--speed",
    "end": "--end",
    "loop": "--loop",
    "dedup": "--dedup",
    "mask": "--mask",
    "pipe_format": "--pipe-format",
    "compare": "--compare",
    "report": "--report",
    "layer": "--layer",
    "point": "--point",
    "image_rate": "--image-rate",
    "on_scene_change": "--on-scene-change",
    "scene_threshold": "--scene-threshold",
    "contact_sheet": "--contact-sheet",
    "allow_untrained": "--allow-untrained",
    "overwrite": "--overwrite (-y)",
    "audio": "--no-audio",
    "max_size": "--max-size",
    "max_gap": "--max-gap",
    "max_pixels": "--max-pixels",
    "background": "--background",
    "keep_start": "--keep-start",
    "pix_fmt": "--pix-fmt",
    "preset": "--preset",
    "bitrate": "--bitrate",
    "odd": "--odd",
    "deinterlace": "--deinterlace",
    "crop_bars": "--crop-bars",
    "strict": "--strict",
    "resume": "--resume",
    "segment_frames": "--segment-frames",
    "skip_cuts": "--skip-cuts",
    "chunk": "--chunk",
    "codec": "--codec",
    "crf": "--crf",
    "device": "--device",
    "dtype": "--dtype",
    "seed": "--seed",
    "gap": "--gap",
    "pairs": "--pairs",
    "start": "--start",
    "revision": "--vae-revision",
}
"""Arguments of the library, and what they are called here."""

_NAMES = "|".join(sorted(_OPTIONS, key=len, reverse=True))
_ARGUMENT = re.compile(rf"\b({_NAMES})(?:=(?:True|False)\b|(?= is ))")
"""An argument that is named with its value; names with an underscore are arguments wherever they stand."""
_UNDERSCORED = re.compile(rf"(?<![\w/.-])({'|'.join(name for name in _OPTIONS if '_' in name)})(?![\w/-]|\.\w)")
"""They are left alone inside the names of files."""


def in_words(message: str) -> str:
    """A message of the library with its arguments named as options: ``crf is 90`` as ``--crf is 90``."""
    for pattern in (_ARGUMENT, _UNDERSCORED):
        message = pattern.sub(lambda match: _OPTIONS[match[1]], message)
    return message


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    # A KeyError shows its message in quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


class _Lines(logging.Handler):
    """Warnings of the library as lines on the error stream."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"warning: {in_words(' '.join(record.getMessage().split()))}", err=True)


@contextmanager
def warnings_as_lines(logger: logging.Logger) -> Iterator[None]:
    """Show what a logger warns of as ``warning: ...``, and only once."""
    handler = _Lines(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
