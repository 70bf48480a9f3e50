"""The commands ``rdvfi models`` and ``rdvfi info``."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdvfi_cli.completion import complete_described

if TYPE_CHECKING:
    from rdvfi.info import EntryInfo, ModelInfo, RecipeInfo

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def models(as_json: AsJson = False) -> None:
    """List models with weights, recipes, and everything that is registered."""
    from rdvfi.config import list_recipes
    from rdvfi.info import recipe_summary
    from rdvfi.models import list_models
    from rdvfi.registry import REGISTRIES

    recipes = {name: recipe_summary(name) for name in list_recipes()}
    entries = {
        registry.group: {name: (registry[name].__doc__ or "").split("\n")[0] for name in registry}
        for registry in REGISTRIES
    }
    if as_json:
        table = {"models": list_models(), "recipes": recipes, **entries}
        typer.echo(json.dumps(table, indent=2))
        return
    installed = {name: "weights are installed" for name in list_models()}
    for title, table in (("model", installed), ("recipe", recipes), *entries.items()):
        typer.echo(f"{title}:")
        for name, summary in table.items() or {"none": ""}.items():
            typer.echo(f"  {name:<22} {summary}".rstrip())


def info(
    name: Annotated[
        str,
        typer.Argument(
            help="A name of `rdvfi models`, the folder of a saved model, a hub id, or the file of a recipe.",
            autocompletion=complete_described,
        ),
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of a model or a recipe, or parameters of an entry."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model, a recipe or a registered component; nothing is downloaded."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the hub's client is imported
    from rdvfi.info import find

    found = find(name, *(values or []))
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    for entry in found:
        typer.echo("\n".join(_lines(entry)))


def _lines(found: "EntryInfo | ModelInfo | RecipeInfo") -> list[str]:
    from rdvfi.info import ModelInfo, RecipeInfo
    from rdvfi.saved_models.model_card import format_specification

    if isinstance(found, RecipeInfo):
        return [f"recipe {found.name}: {found.summary}", *_table(found.choices)]
    if isinstance(found, ModelInfo):
        parts = {p.part: f"{format_specification(p.specification)}, {p.state}" for p in found.parts}
        counts = {f"weights of {p.part}": f"{p.weights:,}" for p in found.parts}
        properties = {"motion area": found.motion_area, **found.properties}
        card = ["", found.card] if found.card else []
        return [f"model {found.name}", *_table(parts), *_table(counts), *_table(properties), *card]
    about = {
        "package": found.package,
        "licence of the code": found.licence,
        "trained weights": found.about.weights,
        "licence of the weights": found.about.weights_licence,
        "citation": found.about.citation,
        "more": found.about.url,
    }
    stated = {key: "not stated" if value is None else value for key, value in about.items()}
    if found.properties.get("weights") == 0:  # there is nothing that could have been trained
        del stated["trained weights"], stated["licence of the weights"]
    parameters = [f"    {parameter}" for parameter in found.parameters or ("none",)]
    head = f"{found.group} {found.name}: {found.summary}"
    lines = [head, *_table(stated), "  parameters:", *parameters]
    if found.missing is not None:
        return [*lines, f"  not built: {found.missing}"]
    return [*lines, *_table(found.properties)]


def _table(values: dict[str, Any]) -> list[str]:
    return [f"  {key}: {_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
