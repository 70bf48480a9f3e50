"""Options shared by several commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdvfi_cli.completion import model_names

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A name of `rdvfi models`, a folder or a hub id; rdvfi-s if unset.",
        autocompletion=model_names,
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads to use; all cores if unset.", min=1)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]

Seed = Annotated[int, typer.Option(help="Seed of the noise.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; CUDA if available.")]
DType = Annotated[
    str | None,
    typer.Option(
        help="float32, float16 or bfloat16; float16 on CUDA, else float32, if unset.", autocompletion=lambda: DTYPES
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")]
AllowUntrained = Annotated[
    bool, typer.Option("--allow-untrained", help="Accept learned parts without trained weights; for development.")
]

Multirun = Annotated[
    bool,
    typer.Option("--multirun", "-m", help="Sweep over overrides with several values, such as basis=linear,cubic."),
]
ShowConfig = Annotated[
    str | None, typer.Option("--cfg", help="Print the composed configuration and exit: job, hydra or all.")
]
ShowInfo = Annotated[bool, typer.Option("--info", help="Print Hydra's information on the configuration and exit.")]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder with your own configuration groups.")]


def use_threads(threads: int | None) -> None:
    """Limit the CPU threads of torch and OpenCV; None leaves them unchanged."""
    if threads is None:
        return
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def parse_dtype(name: str) -> "torch.dtype":
    """The floating-point type of a name; raises ValueError for an unknown name."""
    import torch

    if name not in DTYPES:
        raise ValueError(f"--dtype is {name!r}; it must be one of {', '.join(DTYPES)}")
    return getattr(torch, name)
