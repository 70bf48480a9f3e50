"""Standard input and output as sources and sinks of video: y4m and Matroska, streamed.

A pipe can be read once and written once. Its format is that of what comes in where that is y4m, and
Matroska else, which keeps the time of every frame.
"""

import io
import os
import sys
from pathlib import Path
from typing import cast

FORMATS = ("mkv", "y4m")
_STANDARD_OUTPUT = Path("/dev/stdout")
_Y4M = b"YUV4MPEG2"


class Incoming:
    """Bytes of a stream as they come: nobody waits for more than there are."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end."""
        return self._stream.read1(size)

    def starts_with(self, mark: bytes) -> bool:
        """Whether these are the first bytes; they are not taken."""
        return self._stream.peek(len(mark))[: len(mark)] == mark


class Outgoing:
    """Bytes of a stream as they are written."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Write all; raises BrokenPipeError if nobody reads any more."""
        self._stream.write(data)
        self._stream.flush()
        return len(data)


def standard_input() -> Incoming:
    """What comes in; raises ValueError if it is a terminal."""
    if sys.stdin.isatty():
        raise ValueError("- is the terminal; pipe y4m or Matroska into it, or name a file")
    return Incoming(cast(io.BufferedReader, sys.stdin.buffer))


def standard_output() -> Outgoing:
    """What goes out; raises ValueError if it is a terminal."""
    if sys.stdout.isatty():
        raise ValueError("- is the terminal; pipe it into a program, or name a file")
    return Outgoing(cast(io.BufferedIOBase, sys.stdout.buffer))


def pipe_destination(destination: Path, source: object, form: str | None) -> Path:
    """A name with the suffix of what is written, where the destination is ``-``; others as they are.

    Args:
        destination: What was asked for.
        source: What is read: ``-`` is standard input.
        form: ``mkv`` or ``y4m``; by default what comes in.

    Raises:
        ValueError: If there is no such form, or it is for files.
    """
    if form is not None and form not in FORMATS:
        raise ValueError(f"pipe_format is {form!r}; it must be one of {', '.join(FORMATS)}")
    if str(destination) != "-":
        if form is not None:
            raise ValueError(f"pipe_format is for -, standard output; the suffix of {destination} says its format")
        return destination
    if form is None:
        form = "y4m" if str(source) == "-" and standard_input().starts_with(_Y4M) else "mkv"
    return _STANDARD_OUTPUT / f"-.{form}"


def is_pipe(destination: Path) -> bool:
    """Whether a destination is standard output."""
    return destination.parent == _STANDARD_OUTPUT


def silence_stdout() -> None:
    """Let nothing more be written to an output that nobody reads, not even when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
