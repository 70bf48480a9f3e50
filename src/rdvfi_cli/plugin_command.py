"""The commands ``rdvfi plugins`` and ``rdvfi new-plugin``."""

import keyword
import re
import shutil
import warnings
from pathlib import Path
from typing import Annotated

import typer

_TEMPLATE = Path(__file__).parent / "plugin_template"
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "benchmark.py.txt": "benchmark.py",
    "test_plugin.py.txt": "tests/test_PLUGIN_NAME.py",
    "init.py.txt": "src/PLUGIN_NAME/__init__.py",
    "my_backbone.py.txt": "src/PLUGIN_NAME/my_backbone.py",
    "my_flow.py.txt": "src/PLUGIN_NAME/my_flow.py",
    "my_basis.py.txt": "src/PLUGIN_NAME/my_basis.py",
    "recipe.yaml.txt": "src/PLUGIN_NAME/recipe.yaml",
}
"""Files of the template, and their paths in the new package."""


def plugins() -> None:
    """List the installed plug-ins: where they are from, what they register, and why one is left out."""
    from rdvfi._plugins import load_plugins
    from rdvfi.registry import REGISTRIES

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below
        statuses = load_plugins(REGISTRIES)
    if not statuses:
        typer.echo("no plug-ins: no installed package has an entry point in the group rdvfi.plugins")
    for plugin in statuses:
        typer.echo(f"{plugin.name}: {plugin.module}, from {plugin.package}")
        if plugin.failure is not None:
            typer.echo(f"  left out: {plugin.failure}")
        else:
            typer.echo(f"  registers {', '.join(plugin.registered) or 'nothing'}")


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the package, such as my_motion.")],
    folder: Annotated[Path, typer.Option(help="Folder in which the folder of the package is created.")] = Path(),
) -> None:
    """Create a package with a trainable backbone, a flow, a basis, their tests, a benchmark and a recipe."""
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or keyword.iskeyword(module):
        raise ValueError(f"NAME is {name!r}; expected lower-case letters, digits and _, such as my_motion")
    dashed = module.replace("_", "-")
    target = folder / dashed
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another name or --folder")
    partial = folder / f".{dashed}.partial"
    try:
        for file, target_name in _FILES.items():
            path = partial / target_name.replace("PLUGIN_NAME", module)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (_TEMPLATE / file).read_text(encoding="utf-8")
            path.write_text(text.replace("PLUGIN_NAME", module).replace("PLUGIN-DASHED", dashed), encoding="utf-8")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    typer.echo(f"made {target}\nnext: cd {target}; pip install -e .; python -m pytest; rdvfi plugins")
