"""What is said of jobs that are done, or failed: lines to read, or lines of JSON."""

from typing import TYPE_CHECKING, Any, TextIO

import typer

from rdvfi_cli.messages import in_words, one_line
from rdvfi_cli.progress import write_line

if TYPE_CHECKING:
    from rdvfi.video.job_report import VideoReport
    from rdvfi.video.many import JobResult


def tell(report: "VideoReport", destination: Any, *, quiet: bool, lines: TextIO | None) -> None:
    """What came out, and what was lost, of a job that is done."""
    made = max(1, report.frames_written - report.frames_read)
    if lines is not None:
        result = {key: value for key, value in report.to_json().items() if key != "pairs"}
        write_line(lines, {"event": "done", "output": str(destination), **result, "warning": report.warning()})
        return
    if not quiet:
        typer.echo(
            f"{destination}: {report.frames_written} frames of {report.width}x{report.height} from "
            f"{report.frames_read} in {report.seconds:.1f} s ({report.seconds / made:.3f} s per new "
            f"frame), mean confidence {report.confidence:.2f}",
            err=str(destination) == "-",
        )
    for line in (*report.notes, report.warning()):
        if line is not None:
            typer.echo(f"warning: {line}", err=True)


def tell_result(result: "JobResult", *, quiet: bool, lines: TextIO | None) -> None:
    """What became of one of many jobs."""
    place = str(result.destination)
    if result.report is not None:
        tell(result.report, result.destination, quiet=quiet, lines=lines)
    elif result.error is not None:
        text, source = in_words(one_line(result.error)), result.source
        source = " ".join(map(str, source)) if isinstance(source, list) else str(source)
        if lines is not None:
            write_line(lines, {"event": "failed", "output": place, "source": source, "error": text})
        typer.echo(f"rdvfi: error: {source}: {text}", err=True)
    else:
        tell_there(place, quiet=quiet, lines=lines)


def tell_there(destination: str, *, quiet: bool, lines: TextIO | None) -> None:
    """That an output was there before."""
    if lines is not None:
        write_line(lines, {"event": "done", "output": destination, "already": True})
    elif not quiet:
        typer.echo(f"{destination} is there already")


def end_many(results: "list[JobResult]") -> None:
    """End the program with code 2 if one of many jobs has failed."""
    failed = sum(result.error is not None for result in results)
    if failed and len(results) > 1:
        typer.echo(f"rdvfi: {failed} of {len(results)} jobs failed; --resume passes over what is done", err=True)
    if failed:
        raise typer.Exit(2)
