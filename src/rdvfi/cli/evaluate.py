"""The command ``rdvfi evaluate``: options, a progress bar, a table."""

from pathlib import Path
from typing import Annotated

import torch
import typer


def evaluate(
    clip: Annotated[
        str,
        typer.Argument(help="Video, folder of images, or held-out scenes: 'procedural', 'procedural-limbs'."),
    ],
    gap: Annotated[int, typer.Option(help="Distance between input frames.")] = 9,
    models: Annotated[
        str,
        typer.Option(
            help="Models and baselines, separated by commas: rdvfi-s, a saved folder, blend, dis, "
            "dis-448, rife; add +blur1 to blur a method's frames."
        ),
    ] = "rdvfi-s,dis,blend",
    start: Annotated[int, typer.Option(help="Number of the first input frame.")] = 0,
    pairs: Annotated[int | None, typer.Option(help="Number of input pairs; all if unset.")] = None,
    max_size: Annotated[int | None, typer.Option(help="Longest side in pixels; larger frames are reduced.")] = None,
    skip_cuts: Annotated[
        bool | None,
        typer.Option(
            "--skip-cuts/--keep-cuts",
            help="Leave out pairs with a scene cut between them. By default in long clips only.",
        ),
    ] = None,
    perceptual: Annotated[bool, typer.Option(help="Also FSIM, VIF and GMSD (extra 'metrics').")] = False,
    ablate: Annotated[bool, typer.Option(help="Also each model with a learned part replaced.")] = False,
    output: Annotated[Path | None, typer.Option(help="Save the report here, as .json or .csv.")] = None,
    device: Annotated[str, typer.Option(help="Device, such as cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads to use; all cores if unset.")] = None,
) -> None:
    """Measure models and baselines against the true frames of a clip.

    Every GAP-th frame is an input; all frames between are made and compared.
    """
    from rich.console import Console

    from rdvfi.evaluation import protocol
    from rdvfi.evaluation.report import check_output

    if output is not None:
        check_output(output)
    _use_threads(threads)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise ValueError("--models names no method")
    total = protocol.count_windows(clip, gap=gap, start=start, pairs=pairs) if gap > 0 else None
    console = Console()
    with _Progress(total) as progress:
        report = protocol.evaluate(
            clip,
            gap=gap,
            models=names,
            start=start,
            pairs=pairs,
            max_size=max_size,
            skip_cuts=skip_cuts,
            perceptual=perceptual,
            ablate=ablate,
            device=device,
            dtype=_dtype(dtype),
            on_window=progress.advance,
        )
    console.print(report.title(), report.table(), report.environment.line(), sep="\n")
    for loss in report.losses:
        console.print(
            f"{loss.method} with {loss.replaced} loses {loss.psnr_lost:.2f} dB, {loss.ssim_lost:.4f} SSIM",
            soft_wrap=True,
        )
    if output is not None:
        report.save(output)
        console.print(f"saved {output}", soft_wrap=True)


class _Progress:
    """A progress bar on the error stream, gone when the work is done."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("pairs", total=total)

    def __enter__(self) -> "_Progress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        self._progress.advance(self._task)


def _use_threads(threads: int | None) -> None:
    """Limit torch and OpenCV alike, so that times compare."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"--threads is {threads}; it must be at least 1")
    import cv2

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _dtype(name: str) -> torch.dtype:
    known = {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    if name not in known:
        raise ValueError(f"--dtype is {name!r}; it must be one of {', '.join(known)}")
    return known[name]
