"""Selection of a model by name or recipe with overrides, or of one for every point of a sweep."""

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
from rdvfi.video.model_loading import DEFAULT_MODEL, ModelLike, choose_placement


@dataclass(frozen=True)
class ModelSelection:
    """A model by name or by recipe, with overrides of its parts.

    Attributes:
        model: A name or folder for `create_model`, or a model.
        recipe: Instead of a model, a recipe of `rdvfi.config`.
        overrides: Hydra overrides, as ``basis=linear``.
        config_dir: A folder with additional configuration groups.
    """

    model: ModelLike | None = None
    recipe: str | os.PathLike[str] | None = None
    overrides: tuple[str, ...] = ()
    config_dir: str | os.PathLike[str] | None = None

    def build(self, device: str | torch.device | None, dtype: torch.dtype | None, *, seed: int = 0) -> Interpolator:
        """Build the model on its device; parts without trained weights are initialised with the seed."""
        placement = choose_placement(device, dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.recipe is not None:
                model = build(self.recipe, *self.overrides, config_dir=self.config_dir)
            else:
                model = self._load()
                if self.overrides:
                    name = "the model" if isinstance(self.model, Interpolator) else str(self.model or DEFAULT_MODEL)
                    model = exchange_parts(model, *self.overrides, config_dir=self.config_dir, name=name)
        return model.eval().requires_grad_(False).to(*placement)

    def _load(self) -> Interpolator:
        named = self.model or DEFAULT_MODEL
        return named if isinstance(named, Interpolator) else create_model(named)

    @contextmanager
    def open_config(self, *, sweeps: bool) -> Iterator[tuple[Path, Overrides, list[str]]]:
        """Store the configuration for Hydra; yields its folder, the overrides, and Hydra's own settings among them."""
        own = [text for text in self.overrides if not is_hydra_setting(text)]
        settings = [text for text in self.overrides if is_hydra_setting(text)]
        given: dict[str, Any] = {"config_dir": self.config_dir, "sweeps": sweeps}
        opened = (
            recipe_in_store(self.recipe, own, **given)
            if self.recipe is not None
            else model_in_store(self._load(), own, **given)
        )
        with opened as (folder, overrides):
            yield folder, overrides, settings

    def run_sweep(
        self, job: "Callable[[ModelSelection, Path, Sequence[str]], Row]", *, objective: str, into: Path | None = None
    ) -> Sweep:
        """Run a job with the model of every point that the overrides span; see `rdvfi.config.sweeps.sweep`.

        Raises:
            ValueError: If there are no overrides, or one is not valid.
        """
        if not self.overrides:
            raise ValueError(
                "a sweep (--multirun, -m) takes overrides with several values, as basis=linear,cubic; a model is named "
                "by --model"
            )

        def run_point(cfg: Any, folder: Path, overrides: Sequence[str]) -> Row:
            return job(replace(self, overrides=tuple(overrides)), folder, overrides)

        with self.open_config(sweeps=True) as (folder, overrides, settings):
            return sweep(run_point, folder, overrides, settings=settings, into=into, objective=objective)
