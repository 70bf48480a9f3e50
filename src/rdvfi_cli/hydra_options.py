"""The options of Hydra, ``--multirun``, ``--cfg`` and ``--info``, of the commands that take overrides."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rdvfi.config.sweeps import Sweep
    from rdvfi.video.model_selection import ModelSelection


@dataclass(frozen=True)
class HydraOptions:
    """The options of Hydra at the command line."""

    multirun: bool = False
    cfg: str | None = None
    info: bool = False
    config_dir: Path | None = None

    @property
    def requested(self) -> bool:
        """Whether a sweep or the configuration is requested."""
        return self.multirun or self.cfg is not None or self.info

    def flags(self) -> list[str]:
        """Flags of Hydra that only show the configuration; none without ``--cfg`` and ``--info``."""
        if self.multirun + (self.cfg is not None) + self.info > 1:
            raise ValueError("give one of --multirun, --cfg and --info")
        if self.cfg is not None:
            return ["--cfg", self.cfg]
        return ["--info", "all"] if self.info else []


def show_config(chosen: "ModelSelection", options: HydraOptions) -> bool:
    """Print the configuration if that is requested; returns whether it is."""
    flags = options.flags()
    if not flags:
        return False
    from rdvfi.config.sweeps import run_hydra

    with chosen.open_config(sweeps=False) as (folder, overrides, settings):
        run_hydra(lambda cfg: None, folder, overrides, flags, settings=settings)
    return True


def show_sweep(result: "Sweep", *, quiet: bool = False) -> None:
    """Print the table of a sweep.

    Raises:
        ValueError: If points failed; the message lists them.
    """
    from rich.console import Console
    from rich.table import Table

    heads, rows = result.table()
    table = Table(*heads)
    for *row, error in rows:
        table.add_row(*row, "failed" if error else "")
    if not quiet:
        Console(soft_wrap=True).print(table)
        typer.echo(f"saved {result.folder / 'results.csv'}")
    if result.failed:
        lines = "; ".join(f"{point}: {point.error}" for point in result.failed)
        raise ValueError(f"{len(result.failed)} of {len(result.points)} points failed: {lines}")
