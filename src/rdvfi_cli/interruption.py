"""Messages after an interrupted run: what is kept, and the command that resumes it."""

import functools
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import ParamSpec

import typer

P = ParamSpec("P")

ARGUMENTS: ContextVar[Sequence[str]] = ContextVar("ARGUMENTS", default=())
"""Of the command line, without the program."""

_INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells know it."""


def resumable(command: Callable[P, None]) -> Callable[P, None]:
    """A command that keeps its finished segments: after an interruption or a failure, it says how to go on."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        given = ARGUMENTS.get()
        try:
            command(*args, **options)
        except (KeyboardInterrupt, SystemExit) as error:
            with suppress(OSError):  # the terminal may be gone
                typer.echo(f"rdvfi: interrupted; {_kept(error)}. To go on: {_command(given)}", err=True)
            if isinstance(error, KeyboardInterrupt):
                raise typer.Exit(_INTERRUPTED) from None
            raise
        except Exception as error:
            if _notes(error):
                typer.echo(f"rdvfi: {_kept(error)}. To go on once the cause is gone: {_command(given)}", err=True)
            raise

    return run


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _kept(error: BaseException) -> str:
    notes = _notes(error)
    return notes[0].split(";")[0] if notes else "no segment was finished, so that nothing is kept"


def _command(given: Sequence[str]) -> str:
    return shlex.join(["rdvfi", *given, *(() if "--resume" in given else ("--resume",))])
