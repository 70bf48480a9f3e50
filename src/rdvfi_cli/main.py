"""The program ``rdvfi``: its commands, its errors, and how it ends.

What a user got wrong ends as one line and exit code 2; ``RDVFI_DEBUG=1`` shows where it came from.
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
from rdvfi_cli.interruption import ARGUMENTS
from rdvfi_cli.messages import in_words, one_line, warnings_as_lines

USER_ERRORS = (OSError, ValueError, LookupError, ImportError, MemoryError)
"""What users can do something about; all else is a fault of ours, and said to be one."""

_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")


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


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"rdvfi {importlib.metadata.version('rdvfi')}")
        raise typer.Exit
    return wanted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _share_processors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be bytes that are no text
    ARGUMENTS.set(given)
    try:
        with _terminable(), warnings_as_lines(logging.getLogger("rdvfi")):
            application()(given, prog_name="rdvfi")
    except USER_ERRORS as error:
        if os.environ.get("RDVFI_DEBUG") == "1":
            raise
        typer.echo(f"rdvfi: error: {in_words(one_line(error))}", err=True)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("RDVFI_DEBUG") == "1":
            raise
        typer.echo(f"rdvfi: {_what_went_wrong(error)}", err=True)
        sys.exit(2 if _out_of_memory(error) else 1)


def _what_went_wrong(error: Exception) -> str:
    if _out_of_memory(error):
        return f"error: not enough memory: {one_line(error)[:200]}; use smaller frames, --chunk 1, or another device"
    kind = type(error).__name__
    return f"internal error, a fault of rdvfi: {kind}: {one_line(error)[:400]} (RDVFI_DEBUG=1 shows where)"


def _out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False
    from rdvfi._memory import is_out_of_memory

    return is_out_of_memory(error)


def _share_processors() -> None:
    """Let torch's threads sleep while they wait, unless the user has chosen how they wait.

    Spinning threads take processors from decoder, encoder and other programs. OpenMP reads this
    once, when torch loads.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn a polite request to end into an exception, so that half-written files are removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)]
    # Started by nohup, it is meant to outlive its terminal.
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
