"""The parts of a model that stages train, by name."""

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
from rdvfi.training.engine.checkpoints import check_names
from rdvfi.training.objectives.objective import Report
from rdvfi.training.stage import Stage

PARTS = ("autoencoder", "coarse", "denoiser", "trajectory", "renderer")
_RENAMED = {"backbone": "denoiser"}
"""Parts by their names of version 0.1.0."""


def part_of(model: Interpolator, name: str) -> nn.Module:
    """One part: ``autoencoder``, ``coarse`` and ``denoiser`` of the generator, ``trajectory`` (phi_1
    and phi_2), ``renderer`` (phi_s).

    Raises:
        ValueError: If there is no such part, or this model's has nothing to train.
    """
    if name in _RENAMED:
        raise ValueError(f"the part {name!r} of version 0.1.0 is called {_RENAMED[name]!r} now")
    if name not in PARTS:
        raise ValueError(f"no part {name!r} of a model; expected one of {', '.join(PARTS)}")
    part = getattr(model if name in ("trajectory", "renderer") else model.generator, name, None)
    if not isinstance(part, nn.Module) or not any(True for _ in part.parameters()):
        raise ValueError(f"the {name} of this model has nothing to train")
    return part


def only(model: Interpolator, names: Sequence[str]) -> None:
    """Freeze everything but some parts."""
    model.requires_grad_(False)
    for name in names:
        part_of(model, name).requires_grad_(True)


def prepared_model(stage: Stage, report: Report = lambda line: None) -> Interpolator:
    """The stage's model with the results of the stages before it.

    Raises:
        ValueError: If no part of the model to start from fits one that its overrides ask for.
    """
    start = stage.model.start
    if start is not None and not stage.model.overrides:
        model = create_model(start).train().requires_grad_(True)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stage.engine.seed)
            model = build(stage.model.recipe, *stage.model.overrides, config_dir=stage.model.config_dir)
        if start is not None:
            fits = model.take_weights(create_model(start)).values()
            kept, fresh = [p for fit in fits for p in fit.kept], [p for fit in fits for p in fit.fresh]
            if not kept:
                raise ValueError(
                    f"no part of model.start={start} fits model.recipe={stage.model.recipe} with "
                    f"model.overrides={stage.model.overrides}"
                )
            report(f"{stage.stage}: from {start}: {', '.join(kept)}; fresh: {', '.join(fresh) or '-'}")
    for earlier in stage.after:
        load_parts(model, Path(stage.out) / f"{earlier}.safetensors")
    return model


def mark_trained(model: Interpolator, names: Sequence[str], folder: Path) -> None:
    """Mark those parts of a model as trained in which nothing that learns was left out.

    Args:
        model: With the weights of all stages so far.
        names: Parts that were trained, and stages whose results hold others.
        folder: Where these results are.
    """
    trained = {name for name in names if name in PARTS}
    for name in names:
        file = folder / f"{name}.safetensors"
        if name not in PARTS and file.exists():
            with safe_open(file, framework="pt") as stored:
                heads = {str(key).split(".")[0] for key in stored.keys()}
            trained |= {_RENAMED.get(head, head) for head in heads}
    done = {id(parameter) for name in trained for parameter in part_of(model, name).parameters()}
    done |= model.kept_parameters()
    for part, stage in STAGES.items():
        learned = learned_parameters(getattr(model, stage))
        if learned and learned <= done:
            model.mark_trained(part)


def save_parts(model: Interpolator, names: Sequence[str], file: Path) -> None:
    """Write the weights of some parts."""
    state: dict[str, Tensor] = {}
    for name in names:
        held = part_of(model, name).state_dict()
        state |= {f"{name}.{key}": value for key, value in held.items()}
    write_weights(file, state)


def load_parts(model: Interpolator, file: Path) -> None:
    """Load the file that `save_parts` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or of another model.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: the result of stage {file.stem!r}; train that stage first")
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    for old, new in _RENAMED.items():
        stored = {f"{new}.{k.removeprefix(f'{old}.')}" if k.startswith(f"{old}.") else k: v for k, v in stored.items()}
    names = dict.fromkeys(key.split(".", 1)[0] for key in stored)
    for name in names:
        part = part_of(model, name)
        prefix = f"{name}."
        state = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
        check_names(str(file), part.state_dict(), state)
        part.load_state_dict(state)
