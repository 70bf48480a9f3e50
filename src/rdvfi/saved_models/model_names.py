"""Names of models, and the files that they refer to.

A name is that of a model which ships inside this package, of a folder with a saved model (or of a
training run, which leaves one in it), or of a model on the Hugging Face hub.
"""

import logging
import os
from pathlib import Path

from rdvfi.registry import did_you_mean, normalise
from rdvfi.saved_models.checkpoint import CONFIG_NAME, ModelFiles, load_pretrained, read_config

_log = logging.getLogger(__name__)

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"

TRAINED_MODEL = "model"
"""The folder, in that of a training run, with the model that it has made."""

_SHIPPED = ("rdvfi-s", "rdvfi-s1")
_FORMER = {"rdvfi-s2": "rdvfi-s"}
"""Names that models had, and those that they have now."""
_LONGEST = 4096
"""Characters of a path."""
_TO_BE_TRAINED = ("rdvfi-d", "rdvfi-u")


def list_models() -> list[str]:
    """The names whose weights are installed with this package."""
    return sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))


def find_files(name: str | os.PathLike[str], *, revision: str | None = None) -> ModelFiles:
    """The files of a model by its name.

    Args:
        name: A model of `list_models`, the folder of a saved model or of a training run, or a model
            on the Hugging Face hub as ``owner/name``.
        revision: Of a hub model: a branch, tag or commit.

    Raises:
        ValueError: If no model has this name, or its configuration is damaged.
        FileNotFoundError: If there is no such folder or hub model, or the weights of a named model
            are not installed.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"a model is named by a string or a path; got {name!r}")
    if len(os.fspath(name)) > _LONGEST:
        raise ValueError(f"a model's name has at most {_LONGEST} characters; got {len(os.fspath(name))}")
    key = normalise(name).lower() if isinstance(name, str) else ""
    if key in _FORMER:
        _log.warning("the model %s is called %s now", key, _FORMER[key])
        key = _FORMER[key]
    if key in list_models():
        return bundled_files(key)
    if key in _SHIPPED:
        raise FileNotFoundError(f"the weights of {key!r} are missing from {WEIGHTS_FOLDER}")
    if key in _TO_BE_TRAINED:
        raise FileNotFoundError(
            f"{key!r} has no public weights: the authors of the method published none. Train it "
            "with `rdvfi train` and give the saved folder instead"
        )
    if isinstance(name, str) and "/" not in name and os.sep not in name and not os.path.exists(name):
        known = [*list_models(), *_SHIPPED, *_TO_BE_TRAINED]
        hint = did_you_mean(key, known)
        listed = ", ".join(list_models()) or "none"
        raise ValueError(
            f"no model named {name!r}{hint} (installed: {listed}; a folder or a hub id owner/name is accepted too)"
        )
    return load_pretrained(_of_run(name), revision=revision)


def bundled_files(name: str, folder: Path | None = None) -> ModelFiles:
    """The pair of files ``<name>.json`` and ``<name>.safetensors``, as a model ships."""
    folder = WEIGHTS_FOLDER if folder is None else folder
    config = folder / f"{name}.json"
    return ModelFiles(read_config(config), config, folder / f"{name}.safetensors")


def _of_run(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of the model that a training run left in the folder ``name``, if it is one."""
    folder = Path(name).expanduser()
    made = folder / TRAINED_MODEL
    return made if not (folder / CONFIG_NAME).exists() and (made / CONFIG_NAME).exists() else name
