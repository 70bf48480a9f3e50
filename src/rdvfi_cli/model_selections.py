"""Models that ``rdvfi evaluate`` builds with parts exchanged: ``--model``, ``--recipe`` and overrides."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdvfi.video.model_selection import ModelSelection


def split_list(text: str) -> list[str]:
    """The names in a text, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_selections(
    models: Sequence[str], recipes: Sequence[str], overrides: Sequence[str], config_dir: Path | None
) -> "dict[str, ModelSelection]":
    """The selected models by their names in the report; raises ValueError if a selection is not valid.

    Further overrides are those of the only model or recipe, or of RDVFI-S if there is none.
    """
    from rdvfi.video.model_selection import ModelSelection

    selections: dict[str, ModelSelection] = {}
    for kind, texts in (("model", models), ("recipe", recipes)):
        for text in texts:
            name, source, own = parse_selection(kind, text)
            if name in selections:
                raise ValueError(f"--{kind} is {text!r}; there is another one named {name!r}")
            model, recipe = (source, None) if kind == "model" else (None, source)
            selections[name] = ModelSelection(model, recipe, own, config_dir)
    if not overrides:
        return selections
    if len(selections) > 1:
        raise ValueError(
            f"{overrides[0]} could be meant for each of {', '.join(selections)}; write it inside --model '...'"
        )
    selections = selections or {" ".join(("rdvfi-s", *overrides)): ModelSelection("rdvfi-s", None)}
    ((name, chosen),) = selections.items()
    return {name: replace(chosen, overrides=(*chosen.overrides, *overrides), config_dir=config_dir)}


def parse_selection(kind: str, text: str) -> tuple[str, str, tuple[str, ...]]:
    """The name, the model or recipe, and the overrides of ``NAME=SOURCE KEY=VALUE...``.

    Without ``NAME=`` the whole text is the name. A name may contain spaces. ``kind`` is the option, for errors.
    """
    from rdvfi.config.overrides import is_override

    before, equals, after = text.partition("=")
    words = before.split()
    named = bool(equals and words) and not (len(words) > 1 and is_override(f"{words[-1]}="))
    wrong = f"--{kind} is {text!r}; expected NAME={kind.upper()} [KEY=VALUE]..., as a shell reads what follows NAME"
    try:
        source, *own = shlex.split(after if named else text) or [""]
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error
    if not source:
        raise ValueError(wrong)
    return before.strip() if named else text, source, tuple(own)
