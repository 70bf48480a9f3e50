"""Error messages of the library in terms of the command line."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_SAME = (
    "multiplier slow speed end loop dedup mask pipe_format compare report layer point image_rate on_scene_change "
    "scene_threshold contact_sheet allow_untrained max_size max_gap max_pixels background keep_start pix_fmt preset "
    "bitrate odd deinterlace crop_bars strict resume segment_frames skip_cuts chunk batch codec crf device devices "
    "dtype seed gap pairs start threads"
)
_OTHERS = {"target_fps": "--fps", "overwrite": "--overwrite (-y)", "audio": "--no-audio", "revision": "--vae-revision"}
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _SAME.split()} | _OTHERS
"""Arguments of the library, and what they are called here."""

_NAMES = "|".join(sorted(_OPTIONS, key=len, reverse=True))
_ARGUMENT = re.compile(rf"(?<![\w-])({_NAMES})(?:=(?:True|False)\b|(?= (?:is|must be) ))")
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
