"""Standard input and output as sources and sinks of video: y4m and Matroska, streamed.

A pipe can be read or written only once. Its output format is y4m if the input is y4m, else Matroska, which keeps
the time of every frame.
"""

import io
import os
import sys
from pathlib import Path
from typing import cast

FORMATS = ("mkv", "y4m")
_STANDARD_OUTPUT = Path("/dev/stdout")
_Y4M_MAGIC = b"YUV4MPEG2"


class InputPipe:
    """A file-like object that returns the bytes of a stream as they arrive, instead of waiting for a full block."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        return self._stream.read1(size)

    def starts_with(self, prefix: bytes) -> bool:
        """Whether these are the next bytes, which are not consumed."""
        return self._stream.peek(len(prefix))[: len(prefix)] == prefix


class OutputPipe:
    """A file-like object that flushes every write."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Write all bytes; raises BrokenPipeError if the reader has closed the pipe."""
        self._stream.write(data)
        self._stream.flush()
        return len(data)


def standard_input() -> InputPipe:
    """Standard input; raises ValueError if it is a terminal."""
    if sys.stdin.isatty():
        raise ValueError("- is the terminal; pipe y4m or Matroska into it, or name a file")
    return InputPipe(cast(io.BufferedReader, sys.stdin.buffer))


def standard_output() -> OutputPipe:
    """Standard output; raises ValueError if it is a terminal."""
    if sys.stdout.isatty():
        raise ValueError("- is the terminal; pipe it into a program, or name a file")
    return OutputPipe(cast(io.BufferedIOBase, sys.stdout.buffer))


def pipe_destination(destination: Path, source: object, pipe_format: str | None) -> Path:
    """A path whose suffix is the output format if the destination is ``-``; other destinations unchanged.

    Args:
        destination: The output that the user named.
        source: The input; ``-`` is standard input.
        pipe_format: ``mkv`` or ``y4m``; by default that of the input.

    Raises:
        ValueError: If there is no such format, or one is given for a file.
    """
    if pipe_format is not None and pipe_format not in FORMATS:
        raise ValueError(f"pipe_format is {pipe_format!r}; it must be one of {', '.join(FORMATS)}")
    if str(destination) != "-":
        if pipe_format is not None:
            raise ValueError(f"pipe_format is for -, standard output; the suffix of {destination} says its format")
        return destination
    if pipe_format is None:
        pipe_format = "y4m" if str(source) == "-" and standard_input().starts_with(_Y4M_MAGIC) else "mkv"
    return _STANDARD_OUTPUT / f"-.{pipe_format}"


def is_pipe(destination: Path) -> bool:
    """Whether a destination is standard output."""
    return destination.parent == _STANDARD_OUTPUT


def silence_stdout() -> None:
    """Discard further output, also that which Python flushes at exit: the reader has closed the pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
