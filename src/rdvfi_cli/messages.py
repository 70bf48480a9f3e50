"""Error messages of the library in terms of the command line."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_SAME_NAMES = (
    "multiplier slow speed end loop dedup mask pipe_format compare report layer point image_rate on_scene_change "
    "scene_threshold contact_sheet allow_untrained max_size max_gap max_pixels background keep_start pix_fmt preset "
    "bitrate odd deinterlace crop_bars strict resume segment_frames skip_cuts chunk batch codec crf device devices "
    "dtype seed gap pairs start threads"
)
_OTHER_NAMES = {
    "target_fps": "--fps",
    "overwrite": "--overwrite (-y)",
    "audio": "--no-audio",
    "revision": "--vae-revision",
}
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _SAME_NAMES.split()} | _OTHER_NAMES
"""Names of arguments of the library, and the options of the command."""

_ANY_NAME = "|".join(sorted(_OPTIONS, key=len, reverse=True))
_ARGUMENT = re.compile(rf"(?<![\w-])({_ANY_NAME})(?:=(?:True|False)\b|(?= (?:is|must be) ))")
"""An argument that is followed by its value, ``is`` or ``must be``."""
_UNDERSCORED_ARGUMENT = re.compile(
    rf"(?<![\w/.-])({'|'.join(name for name in _OPTIONS if '_' in name)})(?![\w/-]|\.\w)"
)
"""An argument whose name has an underscore, anywhere but in the name of a file."""


def with_option_names(message: str) -> str:
    """A message of the library with options instead of arguments: ``--crf is 90`` for ``crf is 90``."""
    for pattern in (_ARGUMENT, _UNDERSCORED_ARGUMENT):
        message = pattern.sub(lambda match: _OPTIONS[match[1]], message)
    return message


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    # str() of a KeyError adds quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


class _WarningPrinter(logging.Handler):
    """Prints logged warnings to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"warning: {with_option_names(' '.join(record.getMessage().split()))}", err=True)


@contextmanager
def print_warnings(logger: logging.Logger) -> Iterator[None]:
    """Print the warnings of a logger as ``warning: ...`` within this context, and do not propagate them."""
    handler = _WarningPrinter(logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
