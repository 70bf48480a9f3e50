"""The command ``rdvfi doctor``."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

_MARKS = {"ok": "ok", "missing": "--", "broken": "!!"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Check the installation: packages, devices, encoders, and what is missing. Works even if torch does not.

    Exits with code 1 if something that rdvfi needs is broken or missing.
    """
    from rdvfi_cli.doctor_checks import run_checks

    findings, section = [], ""
    for finding in run_checks():
        findings.append(finding)
        if as_json:
            continue
        if finding.section != section:
            section = finding.section
            typer.echo(f"{section}:")
        typer.echo(f"  {_MARKS[finding.state]} {finding.name}: {finding.detail}")
        if finding.cost:
            typer.echo(f"       {finding.cost}")
    broken = [finding.name for finding in findings if finding.state == "broken"]
    if as_json:
        typer.echo(json.dumps({"fine": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2))
    elif broken:
        typer.echo(f"not in order: {', '.join(broken)}")
    else:
        typer.echo("all that rdvfi needs is there; lines with -- are optional")
    if broken:
        raise typer.Exit(1)
