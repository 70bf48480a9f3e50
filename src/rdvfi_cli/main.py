"""The program ``rdvfi``: its commands, error messages and exit codes.

An error of the user is printed on one line, with exit code 2; ``RDVFI_DEBUG=1`` shows the traceback.
"""

import importlib.metadata
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from rdvfi_cli import convert_command as convert
from rdvfi_cli import data_command as data
from rdvfi_cli import doctor_command as doctor
from rdvfi_cli import evaluate_command as evaluate
from rdvfi_cli import export_command as export
from rdvfi_cli import info_command as info
from rdvfi_cli import interpolate_command as interpolate
from rdvfi_cli import plugin_command as plugin
from rdvfi_cli import serve_command as serve
from rdvfi_cli import train_command as train
from rdvfi_cli import visualize_command as visualize
from rdvfi_cli.interruption import COMMAND_LINE
from rdvfi_cli.messages import one_line, print_warnings, with_option_names

USER_ERRORS = (OSError, ValueError, LookupError, ImportError, MemoryError)
"""Errors that users can correct; others are reported as internal errors."""

_EXIT_SIGNALS = ("SIGTERM", "SIGHUP")


def application() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="rdvfi",
        help="Video frame interpolation by one-step diffusion.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ) -> None:
        """Options of the program itself."""

    app.command()(interpolate.interpolate)
    app.command()(visualize.visualize)
    app.command()(evaluate.evaluate)
    app.command()(convert.convert)
    app.add_typer(export.application, name="export")
    app.command()(train.train)
    app.add_typer(data.application, name="data")
    app.command()(serve.serve)
    app.command()(info.models)
    app.command()(plugin.plugins)
    app.command()(plugin.new_plugin)
    app.command()(info.info)
    app.command()(doctor.doctor)
    return app


def _show_version(requested: bool) -> bool:
    if requested:
        typer.echo(f"rdvfi {importlib.metadata.version('rdvfi')}")
        raise typer.Exit
    return requested


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _let_threads_sleep()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be bytes that are not text
    COMMAND_LINE.set(arguments)
    try:
        with _exit_on_signals(), print_warnings(logging.getLogger("rdvfi")):
            application()(arguments, prog_name="rdvfi")
    except USER_ERRORS as error:
        if os.environ.get("RDVFI_DEBUG") == "1":
            raise
        typer.echo(f"rdvfi: error: {with_option_names(one_line(error))}", err=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("RDVFI_DEBUG") == "1":
            raise
        typer.echo(f"rdvfi: {_failure_message(error)}", err=True)
        sys.exit(2 if _is_out_of_memory(error) else 1)


def _failure_message(error: Exception) -> str:
    if _is_out_of_memory(error):
        return f"error: not enough memory: {one_line(error)[:200]}; use smaller frames, --chunk 1, or another device"
    kind = type(error).__name__
    return f"internal error, a fault of rdvfi: {kind}: {one_line(error)[:400]} (RDVFI_DEBUG=1 shows where)"


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False
    from rdvfi._memory import is_out_of_memory

    return is_out_of_memory(error)


def _let_threads_sleep() -> None:
    """Let waiting threads of torch sleep, unless the user has configured OpenMP.

    Spinning threads take processor time from decoder, encoder and other programs. OpenMP reads the variable
    once, when torch is loaded.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn signals that end the program into exceptions, so that half-written files are removed."""

    def exit_program(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in _EXIT_SIGNALS if hasattr(signal, name)]
    # An ignored signal stays ignored: a program started by nohup must outlive its terminal.
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, exit_program) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
