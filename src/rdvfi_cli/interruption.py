"""Messages after an interrupted run: the segments that are kept, and the command that resumes it."""

import functools
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import ParamSpec

import typer

P = ParamSpec("P")

COMMAND_LINE: ContextVar[Sequence[str]] = ContextVar("COMMAND_LINE", default=())
"""The arguments of the program."""

_EXIT_CODE_OF_CTRL_C = 130


def resumable(command: Callable[P, None]) -> Callable[P, None]:
    """Decorate a command that keeps finished segments: after an interruption or a failure, it prints how to resume."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        try:
            command(*args, **options)
        except (KeyboardInterrupt, SystemExit) as error:
            with suppress(OSError):  # the terminal may be gone
                typer.echo(f"rdvfi: interrupted; {_kept_segments(error)}. To go on: {_resuming_command()}", err=True)
            if isinstance(error, KeyboardInterrupt):
                raise typer.Exit(_EXIT_CODE_OF_CTRL_C) from None
            raise
        except Exception as error:
            if _notes(error):
                typer.echo(
                    f"rdvfi: {_kept_segments(error)}. To go on once the cause is gone: {_resuming_command()}", err=True
                )
            raise

    return run


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _kept_segments(error: BaseException) -> str:
    """What the job notes on its finished segments."""
    notes = _notes(error)
    return notes[0].split(";")[0] if notes else "no segment was finished, so nothing is kept"


def _resuming_command() -> str:
    arguments = COMMAND_LINE.get()
    return shlex.join(["rdvfi", *arguments, *(() if "--resume" in arguments else ("--resume",))])
