"""Code and documentation speak the field's language: no private words for what has a standard term."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TERMS = {
    r"fill_hidden": "fill_occluded",
    r"\bleads? back\b": "forward-backward consistency",
    r"\bturning[ _](lines?|candidates?)\b": "similarity paths",
    r"\.bends\b|\bbends=|\bthe bends\b|\bbent lines?\b": "residual motion",
    r"\blooks=": "iterations",
    r"(?<!self\.)\bkin\b": "self-similarity",
    r"(?<!self\.)\bcaution\b": "temperature",
    r"\bfacts\b": "inputs, features or properties",
    r"\bdoubts?\b": "uncertainty",
    r"\bDrawn\b": "WarpInputs",
    r"\bstarting_line\b": "straight motion",
    r"\bpriced?\b": "penalty",
    r"\btalked into\b": "a plain statement",
    r"\bgives_end_flows=|\bneeds_end_flows=": "gives_prior, needs_prior",
}
"""Private words, as patterns, and what is written instead. Names of trained tensors stay."""


def _files() -> list[Path]:
    sources = [path for folder in ("src", "examples") for path in (ROOT / folder).rglob("*.py")]
    return [*sources, ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("pattern", TERMS)
def test_private_words_are_not_used(pattern: str) -> None:
    used = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not used, f"write {TERMS[pattern]} instead:\n" + "\n".join(used)


def test_the_search_finds_a_planted_word() -> None:
    assert len(_files()) > 150
    assert re.search(r"\bdoubts?\b", "the point's doubt at that knot")
    assert not re.search(r"(?<!self\.)\bkin\b", "query = self.kin(coarse)")
