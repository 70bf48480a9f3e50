"""Names of models, and the files that they refer to.

A name refers to a model that ships inside this package, to a folder with a saved model (or of a
training run, which contains one), or to a model on the Hugging Face hub.
"""

import logging
import os
from pathlib import Path

from rdvfi.registry import did_you_mean, normalise
from rdvfi.saved_models.checkpoint import CONFIG_NAME, ModelFiles, load_pretrained, read_config

_log = logging.getLogger(__name__)

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"

TRAINED_MODEL = "model"
"""Subfolder of a training run with the trained model."""

_SHIPPED = ("rdvfi-s", "rdvfi-s1")
_WITHOUT_WEIGHTS = ("rdvfi-d", "rdvfi-u")
"""Models of the paper, for which no weights are published."""
_RENAMED = {"rdvfi-s2": "rdvfi-s"}
"""Former names of models, and their present names."""
_MAX_NAME_LENGTH = 4096
"""Maximum number of characters of a path."""


def list_models() -> list[str]:
    """Names of the models whose weights are installed with this package."""
    return sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))


def find_files(name: str | os.PathLike[str], *, revision: str | None = None) -> ModelFiles:
    """The files of a model by its name.

    Args:
        name: A model of `list_models`, the folder of a saved model or of a training run, or a model
            on the Hugging Face hub as ``owner/name``.
        revision: Branch, tag or commit of a hub model.

    Raises:
        ValueError: If no model has this name, or its configuration is damaged.
        FileNotFoundError: If there is no such folder or hub model, or the weights of a named model are not installed.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"a model is named by a string or a path; got {name!r}")
    if len(os.fspath(name)) > _MAX_NAME_LENGTH:
        raise ValueError(f"a model's name has at most {_MAX_NAME_LENGTH} characters; got {len(os.fspath(name))}")
    key = normalise(name).lower() if isinstance(name, str) else ""
    if key in _RENAMED:
        _log.warning("the model %s has been renamed to %s", key, _RENAMED[key])
        key = _RENAMED[key]
    if key in list_models():
        return bundled_files(key)
    if key in _SHIPPED:
        raise FileNotFoundError(f"the weights of {key!r} are missing from {WEIGHTS_FOLDER}")
    if key in _WITHOUT_WEIGHTS:
        raise FileNotFoundError(
            f"{key!r} has no public weights: the authors of the method published none. Train it "
            "with `rdvfi train` and give the saved folder instead"
        )
    if isinstance(name, str) and "/" not in name and os.sep not in name and not os.path.exists(name):
        known = [*list_models(), *_SHIPPED, *_WITHOUT_WEIGHTS]
        hint = did_you_mean(key, known)
        listed = ", ".join(list_models()) or "none"
        raise ValueError(
            f"no model named {name!r}{hint} (installed: {listed}; a folder or a hub id owner/name is accepted too)"
        )
    return load_pretrained(_model_folder(name), revision=revision)


def bundled_files(name: str, folder: Path | None = None) -> ModelFiles:
    """The files ``<name>.json`` and ``<name>.safetensors`` of a model that ships with this package."""
    folder = WEIGHTS_FOLDER if folder is None else folder
    config = folder / f"{name}.json"
    return ModelFiles(read_config(config), config, folder / f"{name}.safetensors")


def _model_folder(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of the trained model if ``name`` is the folder of a training run, else ``name``."""
    folder = Path(name).expanduser()
    trained = folder / TRAINED_MODEL
    return trained if not (folder / CONFIG_NAME).exists() and (trained / CONFIG_NAME).exists() else name
