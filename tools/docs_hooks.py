"""Hooks of mkdocs that generate parts of pages from the package, so that they are always up to date.

- ``::: rdvfi.backbones.*`` on a page of the API becomes one entry for each public module below that package.
  Modules that a page names, or that the line of a subpackage covers, are omitted.
- ``<!-- commands -->`` becomes the reference of the command line, from the help texts.
- ``<!-- components -->`` becomes the table of registered components.
"""

import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
_ENTRY = re.compile(r"^::: (rdvfi[\w.]*?)(\.\*)?$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its placeholders replaced; called by mkdocs."""
    for placeholder, generate in (("<!-- commands -->", commands), ("<!-- components -->", components)):
        if placeholder in markdown:
            markdown = markdown.replace(placeholder, generate())
    return _ENTRY.sub(lambda entry: entry[0] if entry[2] is None else _entries_below(entry[1]), markdown)


def _entries_below(package: str) -> str:
    """One entry for each module below a package that no other entry covers."""
    entries = [x for page in (ROOT / "docs" / "api").glob("*.md") for x in _ENTRY.findall(page.read_text("utf-8"))]
    named_modules = {name for name, covers_submodules in entries if not covers_submodules}
    covered_prefixes = tuple(
        f"{name}." for name, covers_submodules in entries if covers_submodules and name.startswith(f"{package}.")
    )
    modules = [
        name for name in public_modules(package) if name not in named_modules and not name.startswith(covered_prefixes)
    ]
    return "\n".join(f"::: {name}" for name in modules)


def public_modules(package: str) -> list[str]:
    """All public modules below a package."""
    folder = SOURCE.joinpath(*package.split("."))
    modules: list[str] = []
    for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda x: (x.ispkg, x.name)):
        name = f"{package}.{module.name}"
        if module.name.startswith("_"):
            continue
        modules += public_modules(name) if module.ispkg else [name]
    return modules


def commands() -> str:
    """Markdown of every command: its summary, its arguments and its options."""
    _import_from_source()
    from typer.main import get_command

    from rdvfi_cli.main import application

    program: Any = get_command(application())
    return "\n\n".join(
        part for name, subcommand in program.commands.items() for part in _command(subcommand, f"rdvfi {name}")
    )


def components() -> str:
    """A table of the registries and the names in them."""
    _import_from_source()
    import rdvfi

    pages = {"backbones": "backbones.md", "renderers": "render.md"}
    rows = ["| registry | names | written in |", "|---|---|---|"]
    for name in ("backbones", "flows", "bases", "trajectories", "renderers"):
        names = ", ".join(f"`{entry}`" for entry in getattr(rdvfi, name))
        page = pages.get(name, "motion.md")
        rows.append(f"| `rdvfi.{name}` | {names} | [{page.removesuffix('.md').capitalize()}]({page}) |")
    return "\n".join(rows)


def _import_from_source() -> None:
    """Add the source folder to ``sys.path``."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


def _command(command: Any, name: str) -> list[str]:
    """The section of a command, and those of its subcommands."""
    subcommands = getattr(command, "commands", None) or {}
    parts = [f"## `{name}`\n\n{command.help or ''}"]
    if not subcommands:
        parts.append(_table(command, name))
    for name_part, subcommand in subcommands.items():
        parts += _command(subcommand, f"{name} {name_part}")
    return parts


def _table(command: Any, name: str) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in filter(None, records)]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    """Text for a table cell, on one line and with escaped bars."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
