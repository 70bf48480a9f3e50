"""A model chosen by name or recipe with overrides, or one for every point of a sweep."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rdvfi.config import build, exchange_parts, model_in_store, recipe_in_store
from rdvfi.config.overrides import Overrides, is_hydra_setting
from rdvfi.config.sweeps import Row, Sweep, sweep
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model
from rdvfi.video.ready import DEFAULT_MODEL, ModelLike, choose_place


@dataclass(frozen=True)
class Chosen:
    """A model, by name or by recipe, with overrides of its parts, and folders of choices of one's own."""

    model: ModelLike | None = None
    recipe: str | os.PathLike[str] | None = None
    overrides: tuple[str, ...] = ()
    config_dir: str | os.PathLike[str] | None = None

    def built(self, device: str | torch.device | None, dtype: torch.dtype | None, *, seed: int = 0) -> Interpolator:
        """The model on its device; what it learns and has no weights for is fresh, and the seed decides how."""
        place = choose_place(device, dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.recipe is not None:
                made = build(self.recipe, *self.overrides, config_dir=self.config_dir)
            else:
                made = self._start()
                if self.overrides:
                    name = "the model" if isinstance(self.model, Interpolator) else str(self.model or DEFAULT_MODEL)
                    made = exchange_parts(made, *self.overrides, config_dir=self.config_dir, name=name)
        return made.eval().requires_grad_(False).to(*place)

    def _start(self) -> Interpolator:
        named = self.model or DEFAULT_MODEL
        return named if isinstance(named, Interpolator) else create_model(named)

    @contextmanager
    def stored(self, *, sweeps: bool) -> Iterator[tuple[Path, Overrides, list[str]]]:
        """Hydra's primary configuration: its folder, the overrides, and Hydra's own settings among them."""
        own = [text for text in self.overrides if not is_hydra_setting(text)]
        settings = [text for text in self.overrides if is_hydra_setting(text)]
        given: dict[str, Any] = {"config_dir": self.config_dir, "sweeps": sweeps}
        entered = (
            recipe_in_store(self.recipe, own, **given)
            if self.recipe is not None
            else model_in_store(self._start(), own, **given)
        )
        with entered as (folder, overrides):
            yield folder, overrides, settings

    def swept(
        self, job: "Callable[[Chosen, Path, Sequence[str]], Row]", *, objective: str, into: Path | None = None
    ) -> Sweep:
        """Do a job with the model of every point that the overrides span: see `rdvfi.config.sweeps.sweep`.

        Raises:
            ValueError: If there are no overrides, or one is not valid.
        """
        if not self.overrides:
            raise ValueError(
                "a sweep (--multirun, -m) takes overrides with several values, as basis=linear,cubic; a model is named "
                "by --model"
            )

        def one(cfg: Any, own: Path, given: Sequence[str]) -> Row:
            return job(replace(self, overrides=tuple(given)), own, given)

        with self.stored(sweeps=True) as (folder, overrides, settings):
            return sweep(one, folder, overrides, settings=settings, into=into, objective=objective)
