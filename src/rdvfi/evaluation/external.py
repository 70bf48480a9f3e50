"""External programs as methods: a command that makes the frames, or a folder of frames.

``name=CMD`` runs a command for every pair. Both inputs are PNG files, and the frames are read from a folder,
as images in natural order or as one video. In the command stand

    {first} {last}   the two inputs            {count}   how many frames to make between them
    {out}            an empty folder for them  {pair}    a folder that holds just the inputs, 0.png and 1.png
    {width} {height} the size of the frames    {work}    an empty folder for anything else
    {time} {frame}   of one frame, where the command makes one at a time: it is run once for each
    {levels}         how often the interval is halved, where ``count`` is 2^levels - 1

A program may write the two inputs as well, before and after the frames. The command is split as a shell would,
but no shell runs it. ``name@FOLDER`` runs a documented command (`templates`) in the folder of its program.
``name=FOLDER`` reads frames that were made elsewhere; see `rdvfi.evaluation.external_frames`.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from rdvfi.evaluation.baselines import Method
from rdvfi.evaluation.clip_evaluation import as_images
from rdvfi.evaluation.external_frames import FramesFolder, between_inputs, read_frames
from rdvfi.media.image_files.images import write_png
from rdvfi.media.pixels import Picture, to_pixels
from rdvfi.registry import did_you_mean
from rdvfi.types import Image, Times, Video

PLACES = ("first", "last", "count", "out", "pair", "width", "height", "work", "time", "frame", "levels")
TIMEOUT = 3600.0
"""Seconds that a program may take for one pair."""
_WATCH = """
import os, sys
_, status, used = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
print(used.ru_maxrss, file=open(sys.argv[1], "a"))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a program from a small process: the system counts what started a program to the program's peak memory."""


@dataclass(frozen=True)
class Template:
    """A command of one or more steps, and where its frames lie."""

    steps: tuple[str, ...]
    frames: str = "{out}"
    recursive: bool = False
    """It makes the middle frame only; it is run again on both halves."""
    about: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        text = " ".join(self.steps)
        unknown = [name for name in re.findall(r"\{(\w+)\}", text) if name not in PLACES]
        if unknown:
            raise ValueError(f"the command has {{{unknown[0]}}}, which means nothing; known are {_shown(PLACES)}")
        if not ({"{pair}"} & _used(text) or {"{first}", "{last}"} <= _used(text)):
            raise ValueError("the command must name its inputs, {first} and {last} or {pair}: " + text)
        if not {"{out}", "{frame}", "{pair}"} & _used(text):
            raise ValueError("the command must say where the frames go, {out}, or {frame} with {time}: " + text)


class ExternalCommand(Method):
    """Frames that a program makes."""

    warm_up = False
    outside = True

    def __init__(self, name: str, template: Template, *, folder: Path | None = None) -> None:
        self.name, self.template, self.folder = name, template, folder
        self._watch: list[str] = []

    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        """Frames at evenly spaced ``times``.

        Raises:
            ValueError: If the program cannot make so many, or wrote others than asked for.
            RuntimeError: If it failed.
        """
        first, last = (to_pixels(image[0].cpu(), deep=False) for image in (img0, img1))
        frames = self._halved(first, last, len(times)) if self.template.recursive else self._made(first, last, times)
        return as_images(np.stack(frames))[None].to(img0.device)

    def _halved(self, first: Picture, last: Picture, count: int) -> list[Picture]:
        """The middle frame, and those of both halves around it."""
        self._levels(count)
        middle = self._made(first, last, torch.tensor([0.5]))[0]
        if count == 1:
            return [middle]
        return [*self._halved(first, middle, count // 2), middle, *self._halved(middle, last, count // 2)]

    def _levels(self, count: int) -> int:
        levels = (count + 1).bit_length() - 1
        if 2**levels != count + 1:
            raise ValueError(f"{self.name} halves the interval: it makes 1, 3, 7, 15, ... frames, not {count}")
        return levels

    def _made(self, first: Picture, last: Picture, times: Times) -> list[Picture]:
        with tempfile.TemporaryDirectory() as place:
            pair, out, work = (Path(place) / name for name in ("pair", "out", "work"))
            for folder in (pair, out, work):
                folder.mkdir()
            for number, picture in enumerate((first, last)):
                write_png(pair / f"{number}.png", picture)
            values = {"first": pair / "0.png", "last": pair / "1.png", "count": len(times), "out": out, "pair": pair}
            values |= {"work": work, "height": first.shape[0], "width": first.shape[1]}
            if any("{levels}" in step for step in self.template.steps):
                values["levels"] = self._levels(len(times))
            texts = {name: str(value) for name, value in values.items()}
            for step in self.template.steps:
                for moment in self._moments(step, times, out):
                    self._run(_filled(step, {**texts, **moment}))
            found = read_frames(Path(_replaced(self.template.frames, texts)), self.name)
            return between_inputs(found, len(times), first.shape, self.name)

    @staticmethod
    def _moments(step: str, times: Times, out: Path) -> list[dict[str, str]]:
        """What {time} and {frame} stand for, each time that the step is run."""
        if "{time}" not in step and "{frame}" not in step:
            return [{}]
        return [{"time": f"{t:.6g}", "frame": str(out / f"{i:05d}.png")} for i, t in enumerate(times.tolist())]

    def _run(self, arguments: list[str]) -> None:
        try:
            command = [*self._watch, *arguments]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=TIMEOUT, check=False)
        except FileNotFoundError as error:
            where = "" if self.folder is None else f" in {self.folder}"
            raise RuntimeError(f"there is no program {arguments[0]}{where}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"{arguments[0]} cannot be run: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{arguments[0]} ended with code {done.returncode}: {said[-1]}")

    def memory_of(self, call: Callable[[], object]) -> float | None:
        """Peak memory of the largest program that ``call`` has this method run."""
        if not hasattr(os, "wait4"):
            return None
        with tempfile.NamedTemporaryFile("r") as peaks:
            self._watch = [sys.executable, "-I", "-S", "-c", _WATCH, peaks.name]
            try:
                call()
            finally:
                self._watch = []
            unit = 1.0 if sys.platform == "darwin" else 1024.0
            return max(float(line) for line in peaks) * unit / 1e6


def external_method(text: str) -> Method:
    """The method that ``name=CMD``, ``name=FOLDER`` or ``name@FOLDER`` describes.

    Raises:
        ValueError: If it is none of these, or the command lacks what it needs.
        FileNotFoundError: If there is no such folder.
    """
    name, mark, rest = _described(text)
    if mark == "@":
        if name not in templates():
            raise ValueError(f"there is no template {name!r}{did_you_mean(name, templates())}; {_shown(templates())}")
        if not Path(rest).is_dir():
            raise FileNotFoundError(f"--external {text}: there is no folder {rest}")
        return ExternalCommand(name, templates()[name], folder=Path(rest))
    if Path(rest).is_dir():
        return FramesFolder(name, Path(rest))
    return ExternalCommand(name, Template((rest,)))


def external_name(text: str) -> str:
    """What the method that ``text`` describes is called; raises as `external_method` where it describes none."""
    return _described(text)[0]


def _described(text: str) -> tuple[str, str, str]:
    """Name, mark and what stands behind it."""
    found = re.fullmatch(r"\s*([^=@]*[^=@\s])\s*([=@])\s*(.*\S)\s*", text, re.DOTALL)
    if found is None:
        raise ValueError(f"--external is {text!r}; expected name=COMMAND, name=FOLDER or name@FOLDER")
    return found[1], found[2], found[3]


@cache
def templates() -> dict[str, Template]:
    """The documented commands by name."""
    import yaml

    read = yaml.safe_load(Path(__file__).with_name("external_templates.yaml").read_text(encoding="utf-8"))
    return {name: Template(**{**fields, "steps": tuple(fields["steps"])}) for name, fields in read.items()}


def _used(text: str) -> set[str]:
    return set(re.findall(r"\{\w+\}", text))


def _filled(step: str, values: dict[str, str]) -> list[str]:
    """The arguments of a step; a file name with spaces stays one argument."""
    return [_replaced(argument, values) for argument in shlex.split(step)]


def _replaced(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], text)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(names)
