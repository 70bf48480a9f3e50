"""Which parts of a model are trained, and where their weights come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rdvfi.saved_models.checkpoint import ModelFiles, Pretrained
from rdvfi.saved_models.exchange import Fit


@dataclass
class WeightRecord:
    """The state of the weights of a model, part by part."""

    trained: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    """Trained parts that were trained in another model than the rest."""
    origins: dict[str, Path] = field(default_factory=dict)
    """Configuration files of the saved models that the weights were loaded from."""
    kept_tensors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of tensors with trained weights of another model, below their stages."""
    backbone_replaced: bool = False
    """Whether the weights of the backbone are no longer those of its ``source``."""
    loaded: Pretrained | None = None
    """The configuration as it was loaded; None for a model that was not loaded."""

    def mark_trained(self, parts: Iterable[str]) -> None:
        """Record that parts were trained in this model."""
        parts = tuple(parts)
        self.trained = self.trained.union(parts)
        self.apart = self.apart.difference(parts)
        for part in parts:
            self.origins.pop(part, None)

    def record_part(self, part: str, files: ModelFiles) -> None:
        """Record that the weights of one part were loaded from a saved model."""
        self.backbone_replaced = self.backbone_replaced or part == "backbone"
        self.trained, self.apart = self.trained - {part}, self.apart - {part}
        origin = self.origins[part] = files.config_path.resolve()
        if part in files.config.trained:
            self.trained = self.trained | {part}
            together = all(self.origins.get(other) == origin for other in self.trained)
            self.apart = self.trained.intersection(files.config.apart) if together else self.apart | {part}

    def record_fits(self, fits: Mapping[str, Fit], other: "WeightRecord") -> None:
        """Record that all weights that fit were copied from another model."""
        self.trained = frozenset(part for part, fit in fits.items() if part in other.trained and not fit.untrained)
        readers = self.trained.intersection(("trajectory", "renderer"))
        backbone = fits["backbone"]
        new_latents = not backbone.kept or bool({"backbone", "backbone.autoencoder"}.intersection(backbone.fresh))
        self.apart = readers if new_latents else self.trained.intersection(other.apart)
        self.origins = {part: origin for part, origin in other.origins.items() if part in self.trained}
        self.kept_tensors = {part: fit.tensors for part, fit in fits.items() if part in other.trained}
