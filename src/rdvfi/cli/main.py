"""The command line: ``rdvfi interpolate``, ``evaluate``, ``train``, ``convert``, ``info``, ...

A command is a function in a module of its own, imported only when it is the one that was asked
for; here are its name and its summary. What a user got wrong ends as one line and exit code 2;
``RDVFI_DEBUG=1`` shows where it came from.
"""

import importlib
import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import typer

USER_ERRORS = (OSError, ValueError, LookupError, ImportError, MemoryError)
"""What is told in one line: all else is a fault of ours and keeps its traceback."""


@dataclass(frozen=True)
class Command:
    """A command that is loaded when it is used."""

    name: str
    module: str
    function: str
    summary: str

    def load(self) -> Callable[..., None] | typer.Typer:
        """Import the function whose parameters are the options, or the commands below this one."""
        return getattr(importlib.import_module(self.module), self.function)


COMMANDS = (
    Command("interpolate", "rdvfi.cli.interpolate", "interpolate", "Make a video smoother."),
    Command(
        "evaluate",
        "rdvfi.cli.evaluate",
        "evaluate",
        "Measure models and baselines against the true frames of a clip.",
    ),
    Command(
        "convert",
        "rdvfi.cli.convert",
        "convert",
        "Convert published weights to the format that is loaded.",
    ),
    Command("train", "rdvfi.cli.train", "train", "Train a model by a recipe."),
    Command("data", "rdvfi.cli.data", "application", "Build and pack the training data."),
    Command("models", "rdvfi.cli.info", "models", "List models, recipes and components."),
    Command("info", "rdvfi.cli.info", "info", "Tell everything about one of them."),
)


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the one command loaded that ``arguments`` begin with."""
    app = typer.Typer(
        name="rdvfi",
        help="Video frame interpolation by one-step diffusion.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ) -> None:
        """Options of the program itself."""

    for command in COMMANDS:
        if command.name in arguments[:1]:
            loaded = command.load()
            if isinstance(loaded, typer.Typer):
                app.add_typer(loaded, name=command.name)
            else:
                app.command(command.name)(loaded)
        else:
            app.command(command.name, help=command.summary)(_not_loaded)
    return app


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"rdvfi {importlib.metadata.version('rdvfi')}")
        raise typer.Exit
    return wanted


def _not_loaded() -> None:
    """Stands for the other commands in ``rdvfi --help``."""
    raise AssertionError("only the command that was asked for is loaded")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _terminable():
            application(given)(given)
    except USER_ERRORS as error:
        if os.environ.get("RDVFI_DEBUG") == "1":
            raise
        typer.echo(f"rdvfi: error: {one_line(error)}", err=True)
        sys.exit(2)


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    # A KeyError shows its message in quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn a polite request to end into an exception, so that half-written files are removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
