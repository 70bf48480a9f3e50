"""Runs of a job in processes of their own, which can be interrupted like those of users."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import rdvfi
from rdvfi.interfaces import Motion, Renderer
from rdvfi.types import Image, Times, Video
from rdvfi.video import interpolate_video
from rdvfi_cli.main import main

SMALL = ("backbone=ends", "coarse=dis", "trajectory=straight", "renderer=warp")
"""Real motion and real warping, without networks."""


def save_model(folder: Path) -> Path:
    """A model that works fast, as a user has it: in a folder."""
    model = rdvfi.build("rdvfi_s", *SMALL)
    model.mark_trained("backbone", "trajectory", "renderer")
    model.save_pretrained(folder)
    return folder


def run_job(source: Path, destination: Path, options: dict[str, Any]) -> None:
    """What such a process does."""
    interpolate_video(source, destination, **options)


def run_command(arguments: list[str], errors: Path) -> None:
    """The same by the command; what it says goes to a file."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup lets it be ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 2)
        main(arguments)


def warm_context() -> ForkServerContext:
    """Its processes are new, and start fast: one in which everything is imported is held ready to be copied."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warmed"])
    with pytest.MonkeyPatch.context() as patch:  # what is preloaded is looked for there alone
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[BaseProcess]:
    """A process that runs a function."""
    child = warm_context().Process(target=target, args=arguments, daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def end(child: BaseProcess, number: int) -> int | None:
    """Send a signal, and wait; the exit code."""
    assert child.pid is not None
    if child.is_alive():
        os.kill(child.pid, number)
    child.join(60)
    return child.exitcode


def wait_for(path: Path, child: BaseProcess) -> None:
    """Wait until a file appears."""
    wait_for_path(path, child.is_alive)


def wait_for_path(path: Path, alive: Callable[[], bool]) -> None:
    """Wait until a file appears that a process writes which has to be alive meanwhile."""
    until = time.monotonic() + 120
    while not path.exists():
        assert alive(), f"{path} never appeared"
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.005)


class Deadly(Renderer):
    """A renderer that kills its process, without a word, at its first so many calls.

    Args:
        inner: Draws, once it has survived.
        folder: Where it counts its deaths.
        times: How often it kills.
    """

    def __init__(self, inner: Renderer, folder: Path, times: int) -> None:
        super().__init__()
        self.inner, self.folder, self.times = inner, folder, times

    def forward(self, img0: Image, img1: Image, motion: Motion, timesteps: Times) -> Video:
        """See `Renderer.forward`."""
        for k in range(self.times):
            try:
                (self.folder / f"death {k}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(img0, img1, motion, timesteps)


def deadly_model(folder: Path, deaths: Path, *, times: int) -> rdvfi.Interpolator:
    """The model of a folder, with such a renderer."""
    deaths.mkdir()
    model = rdvfi.create_model(folder)
    return rdvfi.Interpolator(model.generator, model.trajectory, Deadly(model.renderer, deaths, times))
