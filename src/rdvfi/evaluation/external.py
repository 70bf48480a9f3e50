"""External programs as methods: a command that writes the frames, or a folder of frames.

``name=CMD`` runs a command for every pair. Both inputs are PNG files, and the frames are read from a folder,
as images in natural order or as one video. Placeholders in the command:

    {first} {last}   the two inputs            {count}   the number of frames to interpolate
    {out}            an empty folder for them  {pair}    a folder that holds just the inputs, 0.png and 1.png
    {width} {height} the size of the frames    {work}    an empty folder for other files
    {time} {frame}   time and output file of one frame; the command is run once for each
    {levels}         how often the interval is halved, where ``count`` is 2^levels - 1

A program may also write the two inputs, before and after the frames. The command is split as by a shell, but run
without one. ``name@FOLDER`` runs a documented command (`command_templates`) in the folder of its program.
``name=FOLDER`` reads existing frames; see `rdvfi.evaluation.external_frames`.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from rdvfi.evaluation.evaluation_window import as_images
from rdvfi.evaluation.external_frames import FrameFolder, read_frames, select_interpolated
from rdvfi.evaluation.method import Method
from rdvfi.media.image_files.images import write_png
from rdvfi.media.pixels import Picture, to_pixels
from rdvfi.registry import did_you_mean
from rdvfi.types import Image, Times, Video

PLACEHOLDERS = ("first", "last", "count", "out", "pair", "width", "height", "work", "time", "frame", "levels")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
TIMEOUT_SECONDS = 3600.0
"""Time limit of a program for one pair."""
_MEMORY_WATCHER = """
import os, sys
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
print(usage.ru_maxrss, file=open(sys.argv[1], "a"))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a program and appends its peak memory to a file. A separate small process, since the peak of a child process
includes the memory of its parent at the time of the fork."""


@dataclass(frozen=True)
class CommandTemplate:
    """A command of one or more steps, and the folder of the frames that it writes."""

    steps: tuple[str, ...]
    frames: str = "{out}"
    recursive: bool = False
    """Whether it interpolates the middle frame only, and is run again on both halves of the interval."""
    about: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        text = " ".join(self.steps)
        used = set(_PLACEHOLDER.findall(text))
        if unknown := sorted(used.difference(PLACEHOLDERS)):
            known = ", ".join(PLACEHOLDERS)
            raise ValueError(f"the command has the unknown placeholder {{{unknown[0]}}}; known are {known}")
        if "pair" not in used and not {"first", "last"} <= used:
            raise ValueError("the command must name its inputs, {first} and {last} or {pair}: " + text)
        if used.isdisjoint(("out", "frame", "pair")):
            raise ValueError("the command must say where the frames go, {out}, or {frame} with {time}: " + text)


class ExternalCommand(Method):
    """Frames that a program writes."""

    needs_warm_up = False
    is_external = True

    def __init__(self, name: str, template: CommandTemplate, *, folder: Path | None = None) -> None:
        self.name, self.template, self.folder = name, template, folder
        self._command_prefix: list[str] = []

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at evenly spaced ``times``.

        Raises:
            ValueError: If the program does not support this number of frames, or wrote another number or size.
            RuntimeError: If it failed.
        """
        first, last = (to_pixels(image[0].cpu(), deep=False) for image in (img0, img1))
        if self.template.recursive:
            frames = self._interpolate_recursively(first, last, len(times))
        else:
            frames = self._interpolate(first, last, times)
        return as_images(np.stack(frames))[None].to(img0.device)

    def _interpolate_recursively(self, first: Picture, last: Picture, count: int) -> list[Picture]:
        """The middle frame, and those of both halves around it."""
        self._halvings(count)
        middle = self._interpolate(first, last, torch.tensor([0.5]))[0]
        if count == 1:
            return [middle]
        before = self._interpolate_recursively(first, middle, count // 2)
        return [*before, middle, *self._interpolate_recursively(middle, last, count // 2)]

    def _halvings(self, count: int) -> int:
        """How often the interval is halved for ``count`` frames; raises ValueError if it is not 2^n - 1."""
        levels = (count + 1).bit_length() - 1
        if 2**levels != count + 1:
            raise ValueError(f"{self.name} halves the interval: it makes 1, 3, 7, 15, ... frames, not {count}")
        return levels

    def _interpolate(self, first: Picture, last: Picture, times: Times) -> list[Picture]:
        """Run all steps of the command on one pair, and read the frames that it wrote."""
        with tempfile.TemporaryDirectory() as folder:
            pair, out, work = (Path(folder) / name for name in ("pair", "out", "work"))
            for subfolder in (pair, out, work):
                subfolder.mkdir()
            for number, picture in enumerate((first, last)):
                write_png(pair / f"{number}.png", picture)
            values = {"first": pair / "0.png", "last": pair / "1.png", "count": len(times), "out": out, "pair": pair}
            values |= {"work": work, "height": first.shape[0], "width": first.shape[1]}
            if any("{levels}" in step for step in self.template.steps):
                values["levels"] = self._halvings(len(times))
            texts = {name: str(value) for name, value in values.items()}
            for step in self.template.steps:
                for frame_values in _values_per_run(step, times, out):
                    self._run(_build_arguments(step, {**texts, **frame_values}))
            pictures = read_frames(Path(_substitute(self.template.frames, texts)), self.name)
            return select_interpolated(pictures, len(times), first.shape, self.name)

    def _run(self, arguments: list[str]) -> None:
        try:
            command = [*self._command_prefix, *arguments]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
        except FileNotFoundError as error:
            where = "" if self.folder is None else f" in {self.folder}"
            raise RuntimeError(f"there is no program {arguments[0]}{where}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"{arguments[0]} cannot be run: {error}") from error
        if done.returncode:
            lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["no output"]
            raise RuntimeError(f"{arguments[0]} ended with code {done.returncode}: {lines[-1]}")

    def measure_memory(self, call: Callable[[], object]) -> float | None:
        """Run ``call`` and return the peak memory of the largest program that it started, in megabytes."""
        if not hasattr(os, "wait4"):
            return None
        with tempfile.NamedTemporaryFile("r") as peaks:
            self._command_prefix = [sys.executable, "-I", "-S", "-c", _MEMORY_WATCHER, peaks.name]
            try:
                call()
            finally:
                self._command_prefix = []
            unit = 1.0 if sys.platform == "darwin" else 1024.0
            return max(float(line) for line in peaks) * unit / 1e6


def create_external_method(text: str) -> Method:
    """The method that ``name=CMD``, ``name=FOLDER`` or ``name@FOLDER`` describes.

    Raises:
        ValueError: If ``text`` has another form, or the command lacks a placeholder.
        FileNotFoundError: If there is no such folder.
    """
    name, mark, rest = _parse_description(text)
    if mark == "@":
        templates = command_templates()
        if name not in templates:
            raise ValueError(f"there is no template {name!r}{did_you_mean(name, templates)}; {', '.join(templates)}")
        if not Path(rest).is_dir():
            raise FileNotFoundError(f"--external {text}: there is no folder {rest}")
        return ExternalCommand(name, templates[name], folder=Path(rest))
    if Path(rest).is_dir():
        return FrameFolder(name, Path(rest))
    return ExternalCommand(name, CommandTemplate((rest,)))


def external_method_name(text: str) -> str:
    """The name in a description of an external method; raises ValueError as `create_external_method`."""
    return _parse_description(text)[0]


def _parse_description(text: str) -> tuple[str, str, str]:
    """Name, ``=`` or ``@``, and the command or folder."""
    match = re.fullmatch(r"\s*([^=@]*[^=@\s])\s*([=@])\s*(.*\S)\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"--external is {text!r}; expected name=COMMAND, name=FOLDER or name@FOLDER")
    return match[1], match[2], match[3]


@cache
def command_templates() -> dict[str, CommandTemplate]:
    """The documented commands by name."""
    import yaml

    content = yaml.safe_load(Path(__file__).with_name("external_templates.yaml").read_text(encoding="utf-8"))
    return {name: CommandTemplate(**{**fields, "steps": tuple(fields["steps"])}) for name, fields in content.items()}


def _values_per_run(step: str, times: Times, out: Path) -> list[dict[str, str]]:
    """Values of {time} and {frame} for every run of the step; one run without them if it does not use them."""
    if "{time}" not in step and "{frame}" not in step:
        return [{}]
    return [{"time": f"{t:.6g}", "frame": str(out / f"{i:05d}.png")} for i, t in enumerate(times.tolist())]


def _build_arguments(step: str, values: dict[str, str]) -> list[str]:
    """The arguments of a step. It is split before values are inserted, so file names may contain spaces."""
    return [_substitute(argument, values) for argument in shlex.split(step)]


def _substitute(text: str, values: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
