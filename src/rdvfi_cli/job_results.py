"""Messages about finished and failed jobs: lines of text, or lines of JSON."""

from typing import TYPE_CHECKING, Any, TextIO

import typer

from rdvfi_cli.messages import one_line, with_option_names
from rdvfi_cli.progress import write_line

if TYPE_CHECKING:
    from rdvfi.video.job_report import VideoReport
    from rdvfi.video.many import JobResult


def print_report(report: "VideoReport", destination: Any, *, quiet: bool, lines: TextIO | None) -> None:
    """Print the summary and the warnings of a finished job, or lines of JSON to the stream ``lines``."""
    new_frames = max(1, report.frames_written - report.frames_read)
    if lines is not None:
        result = {key: value for key, value in report.to_json().items() if key != "pairs"}
        write_line(lines, {"event": "done", "output": str(destination), **result, "warning": report.warning()})
        return
    if not quiet:
        typer.echo(
            f"{destination}: {report.frames_written} frames of {report.width}x{report.height} from "
            f"{report.frames_read} in {report.seconds:.1f} s ({report.seconds / new_frames:.3f} s per new "
            f"frame), mean confidence {report.confidence:.2f}",
            err=str(destination) == "-",
        )
    for line in (*report.notes, report.warning()):
        if line is not None:
            typer.echo(f"warning: {line}", err=True)


def print_job_result(result: "JobResult", *, quiet: bool, lines: TextIO | None) -> None:
    """Print the result of one of many jobs: finished, failed, or not needed since its output exists."""
    destination = str(result.destination)
    if result.report is not None:
        print_report(result.report, result.destination, quiet=quiet, lines=lines)
    elif result.error is not None:
        text, source = with_option_names(one_line(result.error)), result.source
        source = " ".join(map(str, source)) if isinstance(source, list) else str(source)
        if lines is not None:
            write_line(lines, {"event": "failed", "output": destination, "source": source, "error": text})
        typer.echo(f"rdvfi: error: {source}: {text}", err=True)
    else:
        print_existing(destination, quiet=quiet, lines=lines)


def print_existing(destination: str, *, quiet: bool, lines: TextIO | None) -> None:
    """Print that an output exists already, so that its job was not run."""
    if lines is not None:
        write_line(lines, {"event": "done", "output": destination, "already": True})
    elif not quiet:
        typer.echo(f"{destination} exists already")


def exit_if_failed(results: "list[JobResult]") -> None:
    """Exit with code 2 if a job has failed."""
    failed = sum(result.error is not None for result in results)
    if failed and len(results) > 1:
        typer.echo(f"rdvfi: {failed} of {len(results)} jobs failed; --resume skips finished ones", err=True)
    if failed:
        raise typer.Exit(2)
