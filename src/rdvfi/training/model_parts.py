"""The trainable parts of a model by name: selecting, freezing, loading and saving."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from rdvfi.config import build
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model
from rdvfi.saved_models.exchange import learned_parameters
from rdvfi.saved_models.weight_files import STAGES, write_weights
from rdvfi.training.engine.checkpoints import check_tensor_names
from rdvfi.training.objectives.objective import Report
from rdvfi.training.stage import Stage

PARTS = ("autoencoder", "coarse", "denoiser", "trajectory", "renderer")
_RENAMED_PARTS = {"backbone": "denoiser"}
"""Names of parts in version 0.1.0, and their names now."""


def get_part(model: Interpolator, name: str) -> nn.Module:
    """A part of a model.

    Parts are ``autoencoder``, ``coarse`` and ``denoiser`` of the generator, ``trajectory`` (phi_1 and phi_2) and
    ``renderer`` (phi_s).

    Raises:
        ValueError: If there is no such part, or it has no parameters.
    """
    if name in _RENAMED_PARTS:
        raise ValueError(f"the part {name!r} of version 0.1.0 is called {_RENAMED_PARTS[name]!r} now")
    if name not in PARTS:
        raise ValueError(f"no part {name!r} of a model; expected one of {', '.join(PARTS)}")
    part = getattr(model if name in ("trajectory", "renderer") else model.generator, name, None)
    if not isinstance(part, nn.Module) or not any(True for _ in part.parameters()):
        raise ValueError(f"the {name} of this model has nothing to train")
    return part


def train_only(model: Interpolator, names: Sequence[str]) -> None:
    """Freeze all parameters except those of some parts."""
    model.requires_grad_(False)
    for name in names:
        get_part(model, name).requires_grad_(True)


def prepare_model(stage: Stage, report: Report = lambda line: None) -> Interpolator:
    """The model of a stage, with the results of earlier stages.

    Raises:
        FileNotFoundError: If the result of an earlier stage is missing.
        ValueError: If no part of the model to start from fits the recipe with its overrides.
    """
    if stage.model.start is not None and not stage.model.overrides:
        model = create_model(stage.model.start).train().requires_grad_(True)
    else:
        model = _build_model(stage, report)
    for earlier in stage.after:
        load_parts(model, Path(stage.out) / f"{earlier}.safetensors")
    return model


def _build_model(stage: Stage, report: Report) -> Interpolator:
    """The model of the stage's recipe, with those parts of ``model.start`` that fit."""
    config = stage.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.engine.seed)
        model = build(config.recipe, *config.overrides, config_dir=config.config_dir)
    if config.start is None:
        return model
    fits = model.take_weights(create_model(config.start)).values()
    kept, fresh = [p for fit in fits for p in fit.kept], [p for fit in fits for p in fit.fresh]
    if not kept:
        raise ValueError(
            f"no part of model.start={config.start} fits model.recipe={config.recipe} with "
            f"model.overrides={config.overrides}"
        )
    report(f"{stage.stage}: from {config.start}: {', '.join(kept)}; fresh: {', '.join(fresh) or '-'}")
    return model


def mark_trained(model: Interpolator, names: Sequence[str], folder: Path) -> None:
    """Mark the components of a model as trained whose parameters have all been trained.

    ``names`` are trained parts, and stages whose result files in ``folder`` contain other trained parts.
    """
    trained = {name for name in names if name in PARTS}
    for name in names:
        file = folder / f"{name}.safetensors"
        if name not in PARTS and file.exists():
            with safe_open(file, framework="pt") as tensors:
                prefixes = {str(key).split(".")[0] for key in tensors.keys()}
            trained |= {_RENAMED_PARTS.get(prefix, prefix) for prefix in prefixes}
    trained_ids = {id(parameter) for name in trained for parameter in get_part(model, name).parameters()}
    trained_ids |= model.kept_parameters()
    for component, attribute in STAGES.items():
        learned = learned_parameters(getattr(model, attribute))
        if learned and learned <= trained_ids:
            model.mark_trained(component)


def save_parts(model: Interpolator, names: Sequence[str], file: Path) -> None:
    """Write the weights of some parts to a file."""
    state: dict[str, Tensor] = {}
    for name in names:
        weights = get_part(model, name).state_dict()
        state |= {f"{name}.{key}": value for key, value in weights.items()}
    write_weights(file, state)


def load_parts(model: Interpolator, file: Path) -> None:
    """Load a file of `save_parts`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged or of another model.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: the result of stage {file.stem!r}; train that stage first")
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    for old, new in _RENAMED_PARTS.items():
        stored = {f"{new}.{k.removeprefix(f'{old}.')}" if k.startswith(f"{old}.") else k: v for k, v in stored.items()}
    names = dict.fromkeys(key.split(".", 1)[0] for key in stored)
    for name in names:
        part = get_part(model, name)
        prefix = f"{name}."
        state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
        check_tensor_names(str(file), part.state_dict(), state)
        part.load_state_dict(state)
