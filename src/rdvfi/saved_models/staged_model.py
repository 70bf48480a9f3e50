"""A model of three stages: its parts, which of them are trained, saving, loading and publishing.

A saved model is ``config.json``, registered names and plain values, and ``model.safetensors``
(`rdvfi.saved_models.checkpoint`). Its parts (backbone, trajectory, renderer) may be saved, published and loaded
separately; a backbone whose weights are published elsewhere is saved by reference.
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
from rdvfi.saved_models.exchange import Fit, component_names, fit_stage, learned_parameters, shapes_of
from rdvfi.saved_models.model_bounds import check_size_and_shapes
from rdvfi.saved_models.model_card import CARD_NAME, is_generated_card, model_card, shipped_card
from rdvfi.saved_models.model_names import WEIGHTS_FOLDER, find_files
from rdvfi.saved_models.publishing import push_folder
from rdvfi.saved_models.weight_files import STAGES, load_weights, stored_shapes, tensors_of
from rdvfi.saved_models.weight_record import WeightRecord

MOTION_AREA = 448 * 256
"""Default number of pixels of the frames at motion size."""
MAX_MOTION_AREA = 2**26
SHIPPED_LICENCE = "apache-2.0"
"""Licence of the weights that ship with rdvfi, in the spelling of the hub."""

Model = TypeVar("Model", bound="StagedModel")

_log = logging.getLogger(__name__)


class StagedModel(nn.Module):
    """Three stages that fit together, and a record of their weights; for the arguments see `rdvfi.Interpolator`."""

    def __init__(
        self,
        generator: KeyframeGenerator,
        trajectory: TrajectoryModel,
        renderer: Renderer,
        *,
        motion_area: int = MOTION_AREA,
    ) -> None:
        super().__init__()
        if not 1 <= motion_area <= MAX_MOTION_AREA:
            raise ValueError(f"motion_area must be a number of pixels; got {motion_area} (1 to {MAX_MOTION_AREA})")
        check_fit(generator, trajectory, renderer)
        self.generator = generator
        self.trajectory = trajectory
        self.renderer = renderer
        self.motion_area = motion_area
        self._record = WeightRecord()

    def __repr__(self) -> str:
        """The three parts by name; ``print(model.generator)`` shows the layers of one part."""
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
        return [part for part, stage in parts.items() if part not in self._record.trained and learned_parameters(stage)]

    def mark_trained(self, *parts: str) -> None:
        """Record that parts are trained; the record is saved with the model.

        Raises:
            ValueError: If a part is not one of 'backbone', 'trajectory', 'renderer'.
        """
        check_parts(parts)
        self._record.mark_trained(parts)

    def parts_trained_apart(self) -> list[str]:
        """Trained parts that `load_part` loaded from another model; they fit, but were not trained together."""
        return [part for part in STAGES if part in self._record.apart]

    def pretrained(self) -> Pretrained:
        """The configuration: registered names and plain values.

        Raises:
            TypeError: If a component was built by hand and not by a registry.
        """
        parts = {part: spec_of(getattr(self, name)) for part, name in STAGES.items()}
        if self._record.backbone_replaced:
            parts["backbone"] = without_references(parts["backbone"])
        return Pretrained(
            **parts,
            motion_area=self.motion_area,
            trained=tuple(part for part in STAGES if part in self._record.trained),
            apart=tuple(self.parts_trained_apart()),
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        include_backbone: bool | None = None,
        parts: Sequence[str] | None = None,
    ) -> None:
        """Save as ``config.json`` and ``model.safetensors``, with a card; the folder is created if needed.

        The card, ``README.md``, describes the model for readers and for the hub. A card that you wrote is kept.

        Args:
            folder: The folder to write.
            include_backbone: Whether the weights of the backbone are saved. If not, only its ``source`` is,
                and they are loaded from there again. By default they are saved if the backbone
                has no source, or was trained since (`mark_trained`).
            parts: Save only the weights of these parts, for `load_part`; not with ``include_backbone``.

        Raises:
            TypeError: If a component was not built by a registry.
            ValueError: If the backbone is excluded but has no source, if a part is not
                one of 'backbone', 'trajectory', 'renderer', or if both choices are given.

        Warns:
            UserWarning: If the backbone was trained and is excluded.
        """
        check_choice(include_backbone, parts)
        config = self.pretrained()
        if parts is not None:
            self._save_parts(folder, config, parts)
            return
        referenced = is_referenced(config.backbone)
        if include_backbone is None:
            include_backbone = not referenced or "backbone" in self._record.trained
        if include_backbone:
            config = replace(config, backbone=without_references(config.backbone))
            save_pretrained(folder, config, tensors_of(self))
        else:
            if not referenced:
                raise ValueError("the backbone has no source to refer to, so it must be included")
            if "backbone" in config.trained:
                warnings.warn(
                    "the backbone was trained, but its trained weights are not saved, only its source "
                    "(include_backbone=False)",
                    stacklevel=2,
                )
                config = replace(config, trained=tuple(part for part in config.trained if part != "backbone"))
            save_pretrained(folder, config, tensors_of(self, exclude=STAGES["backbone"]))
        self._write_card(Path(folder) / CARD_NAME, config)

    def _write_card(self, card: Path, config: Pretrained) -> None:
        """Write the model card, unless the user has written one."""
        if card.exists() and not is_generated_card(card):
            return
        shipped = self._card_as_shipped()
        if shipped is not None:
            text = shipped_card(shipped.read_text(encoding="utf-8"), SHIPPED_LICENCE)
        else:
            parts = {part: getattr(config, part) for part in STAGES}
            count = sum(parameter.numel() for parameter in self.parameters())
            text = model_card(parts, self._part_states(config), motion_area=config.motion_area, parameter_count=count)
        card.write_text(text, encoding="utf-8")

    def _part_states(self, config: Pretrained) -> dict[str, str]:
        apart, untrained = self.parts_trained_apart(), self.untrained_parts()
        return {
            part: "untrained" if part in untrained
            else "trained apart from the others" if part in apart
            else "trained" if part in config.trained
            else "none of its own to train"
            for part in STAGES
        }  # fmt: skip

    def _card_as_shipped(self) -> Path | None:
        """The card of a model that ships with rdvfi, if this is one, unchanged since it was loaded."""
        origins = set(self._record.origins.values())
        if self._record.loaded is None or self._record.origins.keys() != STAGES.keys() or len(origins) != 1:
            return None
        card = origins.pop().with_suffix(".md")
        unchanged = card.parent == WEIGHTS_FOLDER.resolve() and self._record.loaded == self.pretrained()
        return card if unchanged and card.is_file() else None

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
        """Load the weights of one part from a saved model, which may contain only that part.

        Components without weights, such as a basis, and plain values may differ
        (`rdvfi.saved_models.exchange`); a logged warning names the values that do.

        Args:
            part: One of 'backbone', 'trajectory', 'renderer'.
            model: As for `rdvfi.create_model`: a name, a folder or a hub id.
            revision: Branch, tag or commit of a hub model.

        Raises:
            ValueError: If the weights do not fit, or the file is damaged. The model is then unchanged.
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
        self._warn_of_other_values(part, getattr(files.config, part))
        self._record.record_part(part, files)

    def _warn_of_other_values(self, part: str, theirs: dict[str, Any]) -> None:
        if any(registered_name(getattr(self, name)) is None for name in STAGES.values()):
            return  # not built by a registry: there are no values to compare
        own = plain_values(getattr(self.pretrained(), part))
        differing = [
            f"{key}={own[key]} (there {value})"
            for key, value in plain_values(theirs).items()
            if key in own and own[key] != value
        ]
        if differing:
            _log.warning("the weights of the %s were trained with other values: %s", part, ", ".join(differing))

    def take_weights(self, other: "StagedModel") -> dict[str, Fit]:
        """Copy all weights of another model that fit this one, component by component (`rdvfi.saved_models.exchange`).

        A part counts as trained if it is trained in the other model and all its learned components fit. A trained
        part that reads latents counts as trained apart if the networks that compute the latents do not fit.

        Returns:
            For each part, the components that fit and those that do not.
        """
        fits = {}
        for part, name in STAGES.items():
            own, theirs = getattr(self, name), getattr(other, name)
            fit = fits[part] = fit_stage(part, own, shapes_of(theirs), component_names(theirs))
            state = theirs.state_dict()
            own.load_state_dict({tensor: state[tensor] for tensor in fit.tensors}, strict=False)
        self._record.record_fits(fits, other._record)
        return fits

    def kept_parameters(self) -> set[int]:
        """Identities (`id`) of the parameters whose trained weights come from another model, by `take_weights`."""
        kept = self._record.kept_tensors
        stages = {part: dict(getattr(self, STAGES[part]).named_parameters()) for part in kept}
        return {id(stages[part][name]) for part, names in kept.items() for name in names if name in stages[part]}

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
        check_size_and_shapes(files)
        # Fresh weights draw random numbers, which must not advance the caller's generator.
        with torch.random.fork_rng(devices=[]):
            model = cls.from_config(files.config, where=str(files.config_path))
        referenced = is_referenced(files.config.backbone)
        load_weights(model, files.weights_path, exclude=STAGES["backbone"] if referenced else None)
        model._record.origins = dict.fromkeys(STAGES, files.config_path.resolve())
        model._record.loaded = model.pretrained()
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
        model._record.apart = frozenset(config.apart)
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
        """Upload to the Hugging Face hub as ``owner/name``, in one commit; returns its address.

        A card in the repository that was written by hand is kept.

        Args:
            repository: ``owner/name``; created if it does not exist, public unless ``private``.
            include_backbone: As for `save_pretrained`.
            parts: As for `save_pretrained`.
            private: Whether a newly created repository is private.
            message: Commit message.

        Raises:
            PermissionError: If you are not signed in, or may not write there.
            ConnectionError: If the hub cannot be reached; nothing is left half-uploaded.
            ValueError: If the name is not valid for a repository, or both choices of parts are given.
        """
        check_choice(include_backbone, parts)

        def save(folder: Path) -> None:
            self.save_pretrained(folder, include_backbone=include_backbone, parts=parts)

        return push_folder(save, repository, private=private, message=message)
