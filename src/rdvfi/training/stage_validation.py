"""Validation of the values of a composed stage; types are checked by Hydra."""

from rdvfi.training.stage import DataConfig, SourceKind, Stage, StageKind
from rdvfi.training.teacher import check_teacher


def validate_stage(stage: Stage) -> None:
    """Raise a ValueError that names the first field with an invalid value."""
    stage.engine.validate()
    _validate_data(stage.data)
    if stage.data.source is SourceKind.pairs and stage.kind is not StageKind.coarse:
        raise ValueError(
            f"data.source=pairs is for the coarse flow; a stage of kind {stage.kind.name} needs "
            "frames between the two pictures"
        )
    for name in ("reconstruct_from", "fine_from"):
        if not 0 <= getattr(stage, name) <= 1:
            raise ValueError(f"{name} must be in [0, 1]; got {getattr(stage, name)}")
    negative = [name for name, weight in stage.losses.items() if not weight >= 0]
    if negative:
        raise ValueError(f"losses.{negative[0]} must not be negative; got {stage.losses[negative[0]]}")
    if stage.kind is not StageKind.ship and not any(weight > 0 for weight in stage.losses.values()):
        raise ValueError("every loss has weight zero; give one, such as losses.l2=1")


def _validate_data(data: DataConfig) -> None:
    if len(data.size) != 2 or min(data.size) < 16:
        raise ValueError(f"data.size must be a height and a width of at least 16; got {data.size}")
    if len(data.kinds) != len(data.samples):
        raise ValueError(f"data.samples must give a number for each of data.kinds {data.kinds}; got {data.samples}")
    if data.batch < 1:
        raise ValueError(f"data.batch must be at least 1; got {data.batch}")
    if not data.colours >= 0:
        raise ValueError(f"data.colours must not be negative; got {data.colours}")
    if not 0 <= data.held_out < 1 or (data.held_out and data.source is not SourceKind.clips):
        raise ValueError(f"data.held_out must be in [0, 1), and 0 unless data.source is clips; got {data.held_out}")
    if data.teacher is not None:
        check_teacher(data.teacher)
        if data.source not in (SourceKind.pool, SourceKind.crops, SourceKind.pairs):
            raise ValueError(
                f"data.teacher adds maps to the film of a pool; data.source={data.source.name} does not support it"
            )
