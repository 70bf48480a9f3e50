"""What mkdocs asks the package itself for, when it builds a page, so that pages cannot fall behind the code.

- ``::: rdvfi.backbones.*`` on a page of the API becomes one entry for each public module below that package, so that
  every public class is there. Modules that a page names, or that a longer such line covers, are left to that.
- ``<!-- commands -->`` becomes the reference of the command line, from the commands' own help.
- ``<!-- components -->`` becomes the table of what is registered.
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
    """The page with its marks replaced; mkdocs calls it for every page."""
    for mark, make in (("<!-- commands -->", commands), ("<!-- components -->", components)):
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return _ENTRY.sub(lambda entry: entry[0] if entry[2] is None else _entries_below(entry[1]), markdown)


def _entries_below(package: str) -> str:
    """One entry for each module below a package that no other entry of the API covers."""
    entries = [x for page in (ROOT / "docs" / "api").glob("*.md") for x in _ENTRY.findall(page.read_text("utf-8"))]
    named = {name for name, below in entries if not below}
    covered = tuple(f"{name}." for name, below in entries if below and name.startswith(f"{package}."))
    modules = [name for name in public_modules(package) if name not in named and not name.startswith(covered)]
    return "\n".join(f"::: {name}" for name in modules)


def public_modules(package: str) -> list[str]:
    """Modules below a package whose names begin with no underscore, and packages that say something of their own."""
    folder = SOURCE.joinpath(*package.split("."))
    found: list[str] = []
    for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda x: (x.ispkg, x.name)):
        name = f"{package}.{module.name}"
        if module.name.startswith("_"):
            continue
        found += public_modules(name) if module.ispkg else [name]
    return found


def commands() -> str:
    """Markdown of every command: its summary, its arguments and its options."""
    _import_from_source()
    from typer.main import get_command

    from rdvfi_cli.main import application

    program: Any = get_command(application())
    return "\n\n".join(part for name, inner in program.commands.items() for part in _command(inner, f"rdvfi {name}"))


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
    """Make ``import rdvfi`` find this tree's package."""
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


def _command(command: Any, name: str) -> list[str]:
    """A command's section, and those of the commands below it."""
    below = getattr(command, "commands", None) or {}
    parts = [f"## `{name}`\n\n{command.help or ''}"]
    if not below:
        parts.append(_table(command, name))
    for word, inner in below.items():
        parts += _command(inner, f"{name} {word}")
    return parts


def _table(command: Any, name: str) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in filter(None, records)]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows])


def _cell(text: str) -> str:
    """Text that stays within one cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
