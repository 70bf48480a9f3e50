"""What the commands share that take overrides of a model: sweeps, ``--cfg`` and ``--info``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import torch

    from rdvfi.interpolator import Interpolator
    from rdvfi.overrides import Overrides
    from rdvfi.sweeps import Row, Sweep


@dataclass(frozen=True)
class Hydra:
    """What was asked of Hydra at the command line."""

    multirun: bool = False
    cfg: str | None = None
    info: bool = False
    config_dir: Path | None = None

    def flags(self) -> list[str]:
        """The flags with which nothing but the configuration is shown; none otherwise."""
        if self.multirun + (self.cfg is not None) + self.info > 1:
            raise ValueError("give one of --multirun, --cfg and --info")
        if self.cfg is not None:
            return ["--cfg", self.cfg]
        return ["--info", "all"] if self.info else []


@dataclass(frozen=True)
class Chosen:
    """A model, by name or by recipe, with overrides of its parts."""

    model: str | None
    recipe: str | None
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None

    def built(self, device: str | None, dtype: "torch.dtype | None", *, seed: int) -> "Interpolator":
        """The model on its device; what it learns and has no weights for is fresh, and the seed decides how."""
        import torch

        from rdvfi.config import build, exchanged
        from rdvfi.models import create_model
        from rdvfi.video.ready import DEFAULT_MODEL, choose_place

        place = choose_place(device, dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.recipe is not None:
                made = build(self.recipe, *self.overrides, config_dir=self.config_dir)
            else:
                name = self.model or DEFAULT_MODEL
                made = create_model(name)
                if self.overrides:
                    made = exchanged(made, *self.overrides, config_dir=self.config_dir, name=name)
        return made.eval().requires_grad_(False).to(*place)

    @contextmanager
    def stored(self, *, sweeps: bool) -> "Iterator[tuple[Path, Overrides, list[str]]]":
        """Hydra's primary configuration: its folder, the overrides, and Hydra's own settings among them."""
        from rdvfi.config import stored_model, stored_recipe
        from rdvfi.models import create_model
        from rdvfi.overrides import is_setting
        from rdvfi.video.ready import DEFAULT_MODEL

        own = [text for text in self.overrides if not is_setting(text)]
        settings = [text for text in self.overrides if is_setting(text)]
        given: dict[str, Any] = {"config_dir": self.config_dir, "sweeps": sweeps}
        entered = (
            stored_recipe(self.recipe, own, **given)
            if self.recipe is not None
            else stored_model(create_model(self.model or DEFAULT_MODEL), own, **given)
        )
        with entered as (folder, overrides):
            yield folder, overrides, settings


def shown(chosen: Chosen, asked: Hydra) -> bool:
    """Print the configuration, if that was asked for."""
    flags = asked.flags()
    if not flags:
        return False
    from rdvfi.sweeps import run_hydra

    with chosen.stored(sweeps=False) as (folder, overrides, settings):
        run_hydra(lambda cfg: None, folder, overrides, flags, settings=settings)
    return True


def swept(
    chosen: Chosen,
    job: "Callable[[Chosen, Path, Sequence[str]], Row]",
    *,
    objective: str,
    into: Path | None = None,
    quiet: bool = False,
) -> None:
    """Do a job with the model of every point, and show what came of all."""
    from rdvfi.sweeps import sweep

    if not chosen.overrides:
        raise ValueError(
            "--multirun (-m) takes overrides with several values, as basis=linear,cubic; a model is named by --model"
        )
    with chosen.stored(sweeps=True) as (folder, overrides, settings):

        def one(cfg: Any, own: Path, given: Sequence[str]) -> "Row":
            return job(Chosen(chosen.model, chosen.recipe, tuple(given), chosen.config_dir), own, given)

        result = sweep(one, folder, overrides, settings=settings, into=into, objective=objective)
    show_sweep(result, quiet=quiet)


def show_sweep(result: "Sweep", *, quiet: bool = False) -> None:
    """The table of a sweep.

    Raises:
        ValueError: If points failed; they are listed.
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
