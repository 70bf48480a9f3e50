"""A model of three stages: its parts, which of them are trained, saving, loading and publishing.

A saved model is ``config.json``, registered names and plain values, and ``model.safetensors``
(`rdvfi.saved_models.checkpoint`). Its parts (backbone, trajectory, renderer) may be saved, published and loaded
apart; a backbone whose weights are published elsewhere is saved by reference.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdvfi._fit import check_fit
from rdvfi.interfaces import KeyframeGenerator, Renderer, TrajectoryModel
from rdvfi.registry import backbones, create_from_spec, registered_name, renderers, spec_of, trajectories
from rdvfi.saved_models.checkpoint import (
    ModelFiles,
    Pretrained,
    check_choice,
    check_parts,
    is_referenced,
    load_pretrained,
    plain_values,
    save_pretrained,
    without_references,
)
from rdvfi.saved_models.exchange import Fit, component_places, fit_stage, learned_parameters, shapes_of
from rdvfi.saved_models.model_bounds import check_described
from rdvfi.saved_models.model_card import CARD_NAME, MARK, card, shipped_card
from rdvfi.saved_models.model_names import WEIGHTS_FOLDER, find_files
from rdvfi.saved_models.publishing import push_folder
from rdvfi.saved_models.weight_files import STAGES, load_weights, stored_shapes, tensors_of

MOTION_AREA = 448 * 256
"""Pixels of the small frames on which motion is estimated."""
MOST_MOTION_AREA = 2**26
SHIPPED_LICENCE = "apache-2.0"
"""Of the weights that ship with rdvfi, as the hub spells it."""

Model = TypeVar("Model", bound="Staged")

_log = logging.getLogger(__name__)


class Staged(nn.Module):
    """Three stages that fit together, and the state of their weights (trained, loaded from where).

    Args:
        generator: Makes keyframes between two small frames.
        trajectory: Turns keyframes into a continuous motion.
        renderer: Draws full-size frames along it.
        motion_area: Pixels of the small frames, about; larger frames are shrunk to it.

    Raises:
        ValueError: If the stages do not fit together.
    """

    def __init__(
        self,
        generator: KeyframeGenerator,
        trajectory: TrajectoryModel,
        renderer: Renderer,
        *,
        motion_area: int = MOTION_AREA,
    ) -> None:
        super().__init__()
        if not 1 <= motion_area <= MOST_MOTION_AREA:
            raise ValueError(f"motion_area must be a number of pixels; got {motion_area} (1 to {MOST_MOTION_AREA})")
        check_fit(generator, trajectory, renderer)
        self.generator = generator
        self.trajectory = trajectory
        self.renderer = renderer
        self.motion_area = motion_area
        self._trained: frozenset[str] = frozenset()
        self._apart: frozenset[str] = frozenset()
        self._origins: dict[str, Path] = {}
        self._kept: dict[str, tuple[str, ...]] = {}
        self._replaced = False
        self._loaded: Pretrained | None = None

    def __repr__(self) -> str:
        """The three parts by name; ``print(model.generator)`` shows the layers of one."""
        parts = []
        for part, name in STAGES.items():
            stage = getattr(self, name)
            parts.append(f"{part}={registered_name(stage) or type(stage).__name__}")
        millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        return f"{type(self).__name__}({', '.join(parts)}, {millions:.1f} M parameters)"

    def untrained_parts(self) -> list[str]:
        """The learned parts that have not been trained: of 'backbone', 'trajectory', 'renderer'.

        Components whose weights come trained from elsewhere (``pretrained``) do not count.
        """
        parts = {part: getattr(self, name) for part, name in STAGES.items()}
        return [p for p, stage in parts.items() if p not in self._trained and learned_parameters(stage)]

    def mark_trained(self, *parts: str) -> None:
        """Record that parts are trained; the record is saved with the model.

        Raises:
            ValueError: If a part is not one of 'backbone', 'trajectory', 'renderer'.
        """
        check_parts(parts)
        self._trained = self._trained.union(parts)
        self._apart = self._apart.difference(parts)
        for part in parts:
            self._origins.pop(part, None)

    def parts_trained_apart(self) -> list[str]:
        """Trained parts that `load_part` took from another model than the rest is from.

        They fit, but they were not trained together: evaluate before you rely on the result.
        """
        return [part for part in STAGES if part in self._apart]

    def pretrained(self) -> Pretrained:
        """The configuration: registered names and plain values.

        Raises:
            TypeError: If a component was built by hand and not by a registry.
        """
        parts = {part: spec_of(getattr(self, name)) for part, name in STAGES.items()}
        if self._replaced:  # its weights are no longer those of its source
            parts["backbone"] = without_references(parts["backbone"])
        return Pretrained(
            **parts,
            motion_area=self.motion_area,
            trained=tuple(part for part in STAGES if part in self._trained),
            apart=tuple(self.parts_trained_apart()),
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        include_backbone: bool | None = None,
        parts: Sequence[str] | None = None,
    ) -> None:
        """Save as ``config.json`` and ``model.safetensors``, with a card; the folder is made if needed.

        The card, ``README.md``, tells people and the hub what the model is; one that you wrote stays.

        Args:
            folder: Where to.
            include_backbone: Whether the backbone's weights are copied, or stay where its
                ``source`` says and are loaded from there again. By default they are copied if it
                has no source, or if it was trained since (`mark_trained`).
            parts: Instead: the parts whose weights are written, for `load_part`.

        Raises:
            TypeError: If a component was built by hand.
            ValueError: If the backbone shall not be included and has no source, if a part is not
                one of 'backbone', 'trajectory', 'renderer', or if both choices are made.

        Warns:
            UserWarning: If the backbone was trained and shall not be included.
        """
        check_choice(include_backbone, parts)
        config = self.pretrained()
        if parts is not None:
            self._save_parts(folder, config, parts)
            return
        referenced = is_referenced(config.backbone)
        if include_backbone is None:
            include_backbone = not referenced or "backbone" in self._trained
        if not include_backbone and not referenced:
            raise ValueError("the backbone has no source to refer to, so it must be included")
        if not include_backbone and "backbone" in self._trained:
            warnings.warn(
                "the backbone was trained, and what it learned is not saved: only its source is "
                "(include_backbone=False)",
                stacklevel=2,
            )
            config = replace(config, trained=tuple(p for p in config.trained if p != "backbone"))
        if include_backbone:
            config = replace(config, backbone=without_references(config.backbone))
        but = None if include_backbone else STAGES["backbone"]
        save_pretrained(folder, config, tensors_of(self, but=but))
        self._write_card(Path(folder), config)

    def _write_card(self, folder: Path, config: Pretrained) -> None:
        """Write the model card, unless the user has written one."""
        page = folder / CARD_NAME
        if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
            return
        own = self._shipped_as()
        if own is not None:
            page.write_text(shipped_card(own.read_text(encoding="utf-8"), SHIPPED_LICENCE), encoding="utf-8")
            return
        apart, untrained = self.parts_trained_apart(), self.untrained_parts()
        states = {
            part: "untrained" if part in untrained
            else "trained apart from the others" if part in apart
            else "trained" if part in config.trained
            else "none of its own to train"
            for part in STAGES
        }  # fmt: skip
        count = sum(parameter.numel() for parameter in self.parameters())
        parts = {part: getattr(config, part) for part in STAGES}
        page.write_text(card(parts, states, motion_area=config.motion_area, weights=count), encoding="utf-8")

    def _shipped_as(self) -> Path | None:
        """The card of the model that ships with rdvfi, if this is one as it was loaded."""
        origins = set(self._origins.values())
        if self._loaded is None or self._origins.keys() != STAGES.keys() or len(origins) != 1:
            return None
        page = origins.pop().with_suffix(".md")
        as_loaded = page.parent == WEIGHTS_FOLDER.resolve() and self._loaded == self.pretrained()
        return page if as_loaded and page.is_file() else None

    def _save_parts(self, folder: str | os.PathLike[str], config: Pretrained, parts: Sequence[str]) -> None:
        state: dict[str, Tensor] = {}
        for part in parts:
            state |= tensors_of(self, only=STAGES[part])
        if "backbone" in parts:
            config = replace(config, backbone=without_references(config.backbone))
        trained = tuple(part for part in config.trained if part in parts)
        apart = tuple(part for part in config.apart if part in parts)
        save_pretrained(folder, replace(config, trained=trained, apart=apart), state)

    def load_part(self, part: str, model: str | os.PathLike[str], *, revision: str | None = None) -> None:
        """Take the weights of one part from a saved model, which may hold that part alone.

        Components without weights, such as a basis, and plain values need not agree
        (`rdvfi.saved_models.exchange`); where values differ, a warning of the log says which.

        Args:
            part: One of 'backbone', 'trajectory', 'renderer'.
            model: As for `rdvfi.create_model`: a name, a folder or a hub id.
            revision: Of a hub model.

        Raises:
            ValueError: If its weights do not fit, or its file is damaged. The model is then unchanged.
            FileNotFoundError: If there is no such folder, file or hub model.
        """
        check_parts([part])
        files, name = find_files(model, revision=revision), STAGES[part]
        fit = fit_stage(part, getattr(self, name), stored_shapes(files.weights_path, name))
        if fit.fresh:
            own, theirs = (getattr(config, part) for config in (self.pretrained(), files.config))
            raise ValueError(
                f"the weights of the {part} in {files.config_path} do not fit this model's {', '.join(fit.fresh)}: "
                f"there it is {theirs}; here {own}"
            )
        load_weights(self, files.weights_path, names=[f"{name}.{tensor}" for tensor in fit.tensors])
        self._note_values(part, getattr(files.config, part))
        self._replaced = self._replaced or part == "backbone"
        self._trained, self._apart = self._trained - {part}, self._apart - {part}
        origin = self._origins[part] = files.config_path.resolve()
        if part in files.config.trained:
            self._trained = self._trained | {part}
            together = all(self._origins.get(other) == origin for other in self._trained)
            theirs_apart = self._trained.intersection(files.config.apart)
            self._apart = theirs_apart if together else self._apart | {part}

    def _note_values(self, part: str, theirs: dict[str, Any]) -> None:
        """Warn of plain values of a part that differ from those that its weights were trained with."""
        if any(registered_name(getattr(self, name)) is None for name in STAGES.values()):
            return  # built by hand: it has no values that could be compared
        own = plain_values(getattr(self.pretrained(), part))
        differing = [
            f"{key}={own[key]} (there {value})"
            for key, value in plain_values(theirs).items()
            if key in own and own[key] != value
        ]
        if differing:
            _log.warning("the weights of the %s were trained with other values: %s", part, ", ".join(differing))

    def take_weights(self, other: "Staged") -> dict[str, Fit]:
        """Take all weights of another model that fit this one, component by component (`rdvfi.saved_models.exchange`).

        A part counts as trained if it is so in the other model and nothing in it stayed fresh. A trained
        part that reads latents counts as trained apart if the networks that make them did not fit.

        Returns:
            For each part, which components were taken and which were not.
        """
        fits = {}
        for part, name in STAGES.items():
            own, theirs = getattr(self, name), getattr(other, name)
            fit = fits[part] = fit_stage(part, own, shapes_of(theirs), component_places(theirs))
            given = theirs.state_dict()
            own.load_state_dict({tensor: given[tensor] for tensor in fit.tensors}, strict=False)
        self._trained = frozenset(part for part, fit in fits.items() if part in other._trained and not fit.untrained)
        kept = self._trained.intersection(("trajectory", "renderer"))
        latents = fits["backbone"]
        moved = not latents.kept or bool({"backbone", "backbone.autoencoder"}.intersection(latents.fresh))
        self._apart = kept if moved else self._trained.intersection(other._apart)
        self._origins = {part: origin for part, origin in other._origins.items() if part in self._trained}
        self._kept = {part: fit.tensors for part, fit in fits.items() if part in other._trained}
        return fits

    def kept_parameters(self) -> set[int]:
        """Identities of the parameters whose trained weights were taken from another model."""
        stages = {part: dict(getattr(self, STAGES[part]).named_parameters()) for part in self._kept}
        return {id(stages[part][name]) for part, names in self._kept.items() for name in names if name in stages[part]}

    @classmethod
    def from_pretrained(
        cls: type[Model],
        folder_or_hub_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Model:
        """Load a model from a folder or from the Hugging Face hub, ready for inference.

        Raises:
            FileNotFoundError: If there is no such folder, file or hub model.
            ValueError: If a file is damaged or of another model.
            ConnectionError: If the hub cannot be reached.
        """
        return cls.from_files(load_pretrained(folder_or_hub_id, revision=revision)).to(device, dtype)

    @classmethod
    def from_files(cls: type[Model], files: ModelFiles) -> Model:
        """A model from its two files, frozen and in eval mode."""
        check_described(files)
        # Fresh weights draw random numbers, which must not move the caller's generator.
        with torch.random.fork_rng(devices=[]):
            model = cls.from_config(files.config, where=str(files.config_path))
        elsewhere = is_referenced(files.config.backbone)
        load_weights(model, files.weights_path, but=STAGES["backbone"] if elsewhere else None)
        model._origins = dict.fromkeys(STAGES, files.config_path.resolve())
        model._loaded = model.pretrained()
        return model.eval().requires_grad_(False)

    @classmethod
    def from_config(cls: type[Model], config: Pretrained, *, where: str = "the configuration") -> Model:
        """A model of this configuration with fresh weights; ``where`` is named in errors.

        Raises:
            ValueError: If it names something that is not registered, or does not fit it.
        """
        try:
            model = cls(
                create_from_spec(backbones, config.backbone),
                create_from_spec(trajectories, config.trajectory),
                create_from_spec(renderers, config.renderer),
                motion_area=config.motion_area,
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{where} does not describe a model: {error}") from error
        model.mark_trained(*config.trained)
        model._apart = frozenset(config.apart)
        return model

    def push_to_hub(
        self,
        repository: str,
        *,
        include_backbone: bool | None = None,
        parts: Sequence[str] | None = None,
        private: bool = False,
        message: str = "Upload rdvfi model",
    ) -> str:
        """Upload to the Hugging Face hub as ``owner/name``; returns the address of the commit.

        All files come in one commit. A card that was written by hand in the repository is kept.

        Args:
            repository: ``owner/name``; made if it does not exist.
            include_backbone: As for `save_pretrained`.
            parts: As for `save_pretrained`.
            private: Whether a repository that is made is private.
            message: Of the commit.

        Raises:
            PermissionError: If you are not signed in, or may not write there.
            ConnectionError: If the hub cannot be reached; nothing is left half-uploaded.
            ValueError: If the name is not one of a repository, or both choices of parts are made.
        """
        check_choice(include_backbone, parts)

        def save(folder: Path) -> None:
            self.save_pretrained(folder, include_backbone=include_backbone, parts=parts)

        return push_folder(save, repository, private=private, message=message)
