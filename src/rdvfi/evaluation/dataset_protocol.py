"""Protocols of published data sets: windows, cropping, resizing and scoring.

A protocol is a small YAML file (in `protocols/`, or your own): the layout of the data set, the frames of a window,
crop, size, metrics, the contents of a complete copy, and its source. `read_windows` reads a copy according to it.

========== ==========================================================================================
field      meaning
========== ==========================================================================================
layout     ``clips`` (folders of images, videos), ``list`` (a text file of folders), ``triples`` (a text
           file of first, middle and last frames), ``named`` (all frames in one folder)
clips      a pattern, or names, of the clips; ``{}`` stands for a line of the list
length     frames of a window, both ends included: the gap plus one
stride     frames of the clip from one frame of a window to the next
step       frames of the clip from one window to the next
crop       ``square``, ``aspect`` (that of ``resize``) or [width, height]: the middle of the frame
resize     [width, height], by averaging areas; ``light: linear`` averages linear light (gamma 2.2)
expect     contents of a complete copy: clips, frames, windows, lengths (frames of every clip, or of each by
           name), the size of the frames, sha256 of files
variants   named changes of these; ``snu-film-hard`` is variant ``hard`` of ``snu-film``
========== ==========================================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from rdvfi._small_text import check_regular, read_small_yaml
from rdvfi.evaluation.metrics.metric import metric_class
from rdvfi.registry import did_you_mean

LAYOUTS = ("clips", "list", "triples", "named")
CROPS = ("square", "aspect")
_FOLDER = Path(__file__).with_name("protocols")


@dataclass(frozen=True)
class Protocol:
    """A protocol; the fields are those of its file."""

    name: str
    title: str
    layout: str
    metrics: tuple[str, ...]
    source: str
    citation: str
    clips: str | tuple[str, ...] = ""
    names: str = ""
    list: str = ""
    length: int = 3
    stride: int = 1
    step: int = 1
    count: int = 0
    last: int | None = None
    crop: str | tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    light: str = "coded"
    expect: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; it must be one of {', '.join(LAYOUTS)}")
        if isinstance(self.crop, str) and self.crop not in CROPS:
            raise ValueError(f"crop is {self.crop!r}; it must be square, aspect or [width, height]")
        if self.crop == "aspect" and self.resize is None:
            raise ValueError("crop is 'aspect', which is that of resize; resize is not given")
        if self.light not in ("coded", "linear"):
            raise ValueError(f"light is {self.light!r}; it must be coded or linear")
        if min(self.length - 2, self.stride, self.step) < 1:
            raise ValueError("length must be at least 3, stride and step at least 1")
        for name in self.metrics:
            metric_class(name)

    @property
    def gap(self) -> int:
        """Frames from one input to the next."""
        return self.length - 1

    def with_gap(self, gap: int) -> "Protocol":
        """The protocol with another gap."""
        return replace(self, length=gap + 1, step=gap)


@cache
def protocols() -> dict[str, Protocol]:
    """All bundled protocols by name, variants included."""
    variants = (_read_variants(path) for path in sorted(_FOLDER.glob("*.yaml")))
    return {protocol.name: protocol for group in variants for protocol in group}


def load_protocol(name: str) -> Protocol:
    """Load a bundled protocol by its name, or one from a YAML file.

    Raises:
        ValueError: If there is no protocol of this name, or the file is not a protocol.
        FileNotFoundError: If there is no such file.
    """
    if name.endswith((".yaml", ".yml")):
        check_regular(Path(name), "the file of a protocol")
        variants = _read_variants(Path(name))
        if len(variants) > 1:
            raise ValueError(f"{name} has variants; expected a file of a single protocol")
        return variants[0]
    if name not in protocols():
        known = ", ".join(protocols())
        raise ValueError(f"no protocol {name!r}{did_you_mean(name, protocols())} (known: {known})")
    return protocols()[name]


def _read_variants(path: Path) -> list[Protocol]:
    """The protocol of a file, or all its variants."""
    try:
        content = read_small_yaml(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no protocol: it must be a mapping of fields")
    variants = content.pop("variants", {"": {}})
    return [_build_protocol(path, variant, {**content, **(changes or {})}) for variant, changes in variants.items()]


def _build_protocol(path: Path, variant: str, content: dict[str, Any]) -> Protocol:
    known = {field.name for field in fields(Protocol)}
    for name in content:
        if name not in known:
            raise ValueError(
                f"{path} has a field {name!r}{did_you_mean(name, known)}; known are {', '.join(sorted(known))}"
            )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    name = "-".join(part for part in (path.stem, variant) if part)
    title = " ".join(part for part in (str(values.get("title", path.stem)), variant) if part)
    try:
        return Protocol(**{**values, "name": name, "title": title})
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from error
