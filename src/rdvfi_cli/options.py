"""Options shared by several commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

Threads = Annotated[int | None, typer.Option(help="CPU threads to use; all cores if unset.", min=1)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]

Seed = Annotated[int, typer.Option(help="Seed of the noise.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1...; CUDA if there is one.")]
DType = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; float16 on CUDA, else float32.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")]
AllowUntrained = Annotated[
    bool, typer.Option("--allow-untrained", help="Accept learned parts without trained weights; for development.")
]

Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Sweep: overrides with several values, as basis=linear,cubic (Hydra).")
]
ShowConfig = Annotated[
    str | None, typer.Option("--cfg", help="Print the composed configuration, and stop: job, hydra or all.")
]
ShowInfo = Annotated[bool, typer.Option("--info", help="Print what Hydra knows of the configuration, and stop.")]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder with configuration groups of your own.")]

_DTYPES = ("float32", "float16", "bfloat16")


def use_threads(threads: int | None) -> None:
    """Limit torch and OpenCV alike."""
    if threads is None:
        return
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def parse_dtype(name: str) -> "torch.dtype":
    """A floating point type by its name; raises ValueError if there is no such type."""
    import torch

    if name not in _DTYPES:
        raise ValueError(f"--dtype is {name!r}; it must be one of {', '.join(_DTYPES)}")
    return getattr(torch, name)
