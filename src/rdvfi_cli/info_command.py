"""The commands ``rdvfi models`` and ``rdvfi info``."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdvfi_cli.completion import described_names

if TYPE_CHECKING:
    from rdvfi.info import EntryInfo, ModelInfo, RecipeInfo

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def models(as_json: AsJson = False) -> None:
    """List models with weights, recipes, and all registered components."""
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
            autocompletion=described_names,
        ),
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of a model or a recipe, or parameters of an entry."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model, a recipe or a registered component; nothing is downloaded."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the client of the hub is imported
    from rdvfi.info import find

    found = find(name, *(values or []))
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    for entry in found:
        typer.echo("\n".join(_format(entry)))


def _format(entry: "EntryInfo | ModelInfo | RecipeInfo") -> list[str]:
    from rdvfi.info import ModelInfo, RecipeInfo

    if isinstance(entry, RecipeInfo):
        return [f"recipe {entry.name}: {entry.summary}", *_table(entry.choices)]
    return _format_model(entry) if isinstance(entry, ModelInfo) else _format_component(entry)


def _format_model(model: "ModelInfo") -> list[str]:
    from rdvfi.saved_models.model_card import format_specification

    parts = {p.part: f"{format_specification(p.specification)}, {p.state}" for p in model.parts}
    counts = {f"weights of {p.part}": f"{p.weights:,}" for p in model.parts}
    properties = {"motion area": model.motion_area, **model.properties}
    card = ["", model.card] if model.card else []
    return [f"model {model.name}", *_table(parts), *_table(counts), *_table(properties), *card]


def _format_component(entry: "EntryInfo") -> list[str]:
    about = {
        "package": entry.package,
        "licence of the code": entry.licence,
        "trained weights": entry.about.weights,
        "licence of the weights": entry.about.weights_licence,
        "citation": entry.about.citation,
        "more": entry.about.url,
    }
    if entry.properties.get("weights") == 0:  # nothing could have been trained
        del about["trained weights"], about["licence of the weights"]
    about = {key: "not stated" if value is None else value for key, value in about.items()}
    parameters = [f"    {parameter}" for parameter in entry.parameters or ("none",)]
    lines = [f"{entry.group} {entry.name}: {entry.summary}", *_table(about), "  parameters:", *parameters]
    return [*lines, *(_table(entry.properties) if entry.missing is None else [f"  not built: {entry.missing}"])]


def _table(values: dict[str, Any]) -> list[str]:
    return [f"  {key}: {_format_value(value)}" for key, value in values.items()]


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_format_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
