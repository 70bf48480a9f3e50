"""Saved models: a JSON file of registered names and plain values, and a safetensors file.

Nothing here can run code of a file's choosing: the configuration names registry entries, the
weights are plain tensors, and both are checked key by key before anything is loaded. Files are
written beside their final place and moved there when they are complete.
"""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rdvfi._hub import fetch, is_hub_id
from rdvfi._small_text import check_regular, read_small_text
from rdvfi._tensors import name_difference, tensor_difference
from rdvfi.saved_models.model_card import CARD_NAME, MARK

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

STAGES = {"backbone": "generator", "trajectory": "trajectory", "renderer": "renderer"}
"""The parts of a model, as users call them, and the attributes that hold them."""

PARTS = tuple(STAGES)

REFERENCES = ("source", "revision", "lora", "prompt_embeds", "image_embeds")
"""Parameters of a backbone that say where its weights are; all None if they are in the model."""


def is_referenced(backbone: Mapping[str, Any]) -> bool:
    """Whether a backbone's specification says where its weights are (``source``)."""
    return backbone["config"].get("source") is not None


def without_references(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a backbone whose weights are saved with the model."""
    config = {key: None if key in REFERENCES else v for key, v in backbone["config"].items()}
    return {**backbone, "config": config}


_FLOATS = ("F16", "BF16", "F32", "F64")
_UNREADABLE = ("C64", "F8_E4M3", "F8_E5M2", "F8_E8M0")


@dataclass(frozen=True)
class Pretrained:
    """A model without its weights: the specification of each part (see `rdvfi.registry`)."""

    backbone: dict[str, Any]
    trajectory: dict[str, Any]
    renderer: dict[str, Any]
    motion_area: int
    trained: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    """Those of the trained parts that were trained in another model than the rest."""


@dataclass(frozen=True)
class ModelFiles:
    """A saved model that was found: its configuration, read, and where its weights are."""

    config: Pretrained
    config_path: Path
    weights_path: Path


def write_config(path: Path, config: Pretrained) -> None:
    """Write a configuration file; it appears under its name only when complete."""
    table = {"format": "rdvfi", "format_version": FORMAT_VERSION, **asdict(config)}
    text = json.dumps(table, indent=2, allow_nan=False) + "\n"
    _write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_config(path: Path) -> Pretrained:
    """Read a configuration file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or of another kind or version.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: not a saved rdvfi model")
    try:
        table = json.loads(read_small_text(path))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(table, dict) or table.pop("format", None) != "rdvfi":
        raise ValueError(f"{path} is not the configuration of an rdvfi model")
    version = table.pop("format_version", None)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(f"{path} has format version {version!r}; this version of rdvfi reads {FORMAT_VERSION}")
    table.setdefault("apart", [])  # files of version 0.1 do not say
    renderer = table.get("renderer")
    if isinstance(renderer, dict) and renderer.get("name") == "synthesis" and isinstance(renderer.get("config"), dict):
        renderer["config"].setdefault("one_light", False)  # nor this: their networks saw the frames as they are
    expected = {field.name for field in fields(Pretrained)}
    if table.keys() != expected:
        raise ValueError(f"{path}: {name_difference('keys', expected, table)}")
    area = table["motion_area"]
    if isinstance(area, bool) or not isinstance(area, int) or area < 1:
        raise ValueError(f"{path}: motion_area must be a number of pixels; got {area!r}")
    for part in PARTS:
        if not isinstance(table[part], dict) or not isinstance(table[part].get("config"), dict):
            raise ValueError(f"{path}: a {part} is described by a name and a config; got {str(table[part])[:100]}")
    for key in ("trained", "apart"):
        parts = table[key]
        if not isinstance(parts, list) or not all(part in PARTS for part in parts):
            raise ValueError(f"{path}: {key} must be a list of parts; got {parts!r}")
        table[key] = tuple(parts)
    return Pretrained(**table)


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors; the file appears under its name only when complete."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    _write_atomically(path, lambda beside: safetensors.torch.save_file(tensors, beside))


def load_weights(
    model: nn.Module,
    path: Path,
    *,
    but: str | None = None,
    only: str | None = None,
    names: Collection[str] | None = None,
) -> None:
    """Load every tensor of ``model`` from a file; names and shapes must be the same.

    Args:
        model: Gets the values.
        path: A safetensors file.
        but: A child of the model whose tensors are not in the file.
        only: The one child whose tensors are taken from the file, which may hold others.
        names: Instead: the tensors that are taken.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or of another model. The model is then unchanged.
    """
    check_regular(path, "the weights of this model")
    expected = tensors_of(model, but=but, only=only)
    if names is not None:
        expected = {name: tensor for name, tensor in expected.items() if name in names}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            kept = "" if only is None else f"{only}."
            held = [name for name in file.keys() if name.startswith(kept) and (names is None or name in names)]
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in held}
            check_shapes(path, expected, shapes)
            _check_types(path, expected, file)
            state = {name: file.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: the weights of this model") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{path} is damaged: {broken[0]} holds values that are not finite")
    model.load_state_dict(state, strict=but is None and only is None and names is None)


def stored_shapes(path: Path, stage: str) -> dict[str, tuple[int, ...]]:
    """The shapes of one stage's tensors in a file, by their names below the stage.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    check_regular(path, "the weights of this model")
    prefix = f"{stage}."
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            held = [name for name in file.keys() if name.startswith(prefix)]
            return {name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in held}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: the weights of this model") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def tensors_of(model: nn.Module, *, but: str | None = None, only: str | None = None) -> dict[str, Tensor]:
    """The tensors of a model that are saved: all, all but one child, or one child only."""
    left_out = () if but is None else (f"{but}.",)
    kept = "" if only is None else f"{only}."
    state = model.state_dict()
    return {k: v for k, v in state.items() if k.startswith(kept) and not k.startswith(left_out)}


def _check_types(path: Path, expected: Mapping[str, Tensor], file: Any) -> None:
    """Floats are stored as floats of 16 bits or more, everything else as it is."""
    for name, tensor in expected.items():
        stored = file.get_slice(name).get_dtype()
        if tensor.is_floating_point() != (stored in _FLOATS) or stored in _UNREADABLE:
            raise ValueError(f"{path} holds {name} as {stored}; {tensor.dtype} is expected")


def check_shapes(path: Path, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if shapes.keys() != expected.keys():
        absent = {k.split(".")[0] for k in expected} - {k.split(".")[0] for k in shapes}
        parts = [part for part, stage in STAGES.items() if stage in absent]
        if parts and shapes.keys() <= expected.keys():
            raise ValueError(
                f"{path} holds no weights of {', '.join(parts)}; parts that were saved alone are "
                "taken into a whole model by Interpolator.load_part"
            )
    difference = tensor_difference(expected, shapes)
    if difference:
        raise ValueError(f"{path} holds the weights of another model: {difference}")


def save_pretrained(folder: str | os.PathLike[str], config: Pretrained, state: Mapping[str, Tensor]) -> None:
    """Write both files into ``folder``, which is made if needed."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a model is saved as a folder")
    path.mkdir(parents=True, exist_ok=True)
    write_weights(path / WEIGHTS_NAME, state)
    write_config(path / CONFIG_NAME, config)


def load_pretrained(folder_or_hub_id: str | os.PathLike[str], *, revision: str | None = None) -> ModelFiles:
    """Find a saved model in a folder, or fetch it from the hub, and read its configuration."""
    folder = Path(folder_or_hub_id).expanduser()
    if not folder.is_dir():
        if not is_hub_id(folder_or_hub_id):
            raise FileNotFoundError(f"{folder} is not a folder with a saved model")
        folder = fetch(str(folder_or_hub_id), revision, [CONFIG_NAME, WEIGHTS_NAME])
    config_path = folder / CONFIG_NAME
    return ModelFiles(read_config(config_path), config_path, folder / WEIGHTS_NAME)


def push_folder(save: Callable[[Path], None], repository: str, *, private: bool, message: str) -> str:
    """Save into a temporary folder and upload it; returns the address of the commit.

    Raises:
        PermissionError: If the hub does not let this user write there.
        ConnectionError: If it cannot be reached.
        ValueError: If the name is not one of a repository.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api, failed = HfApi(), f"cannot upload {repository!r}: "
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            card_is_theirs = _has_card_of_others(api, repository)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                ignore_patterns=[CARD_NAME] if card_is_theirs else None,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in (401, 403):
                raise PermissionError(
                    f"{failed}the Hugging Face hub does not let you write there; sign in by `hf auth login`, or set "
                    "HF_TOKEN to a token that may"
                ) from error
            raise ConnectionError(f"{failed}the Hugging Face hub answers: {' '.join(str(error).split())}") from error
        except OfflineModeIsEnabled as error:
            raise ConnectionError(f"{failed}HF_HUB_OFFLINE is set") from error
        except ValueError:
            raise  # not a repository's name: its text is clear
        except Exception as error:
            # The client lets its transport's errors through, whose types change with versions.
            raise ConnectionError(f"{failed}the Hugging Face hub cannot be reached: {error}") from error
    return str(commit.commit_url)


def _has_card_of_others(api: Any, repository: str) -> bool:
    """Whether the repository has a card that was not written by us: it stays."""
    if not api.file_exists(repository, CARD_NAME):
        return False
    page = Path(api.hf_hub_download(repository, CARD_NAME))
    return MARK not in page.read_text(encoding="utf-8", errors="replace")


def plain_values(specification: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The plain values of a specification and of the components in it, as ``flow.radius``."""
    values: dict[str, Any] = {}
    for key, value in specification["config"].items():
        if isinstance(value, Mapping):
            values |= plain_values(value, f"{place}{key}.")
        elif key not in REFERENCES:
            values[f"{place}{key}"] = value
    return values


def check_choice(include_backbone: bool | None, parts: Sequence[str] | None) -> None:
    """Refuse contradictory or empty choices of saved parts.

    Raises:
        ValueError: If it is.
    """
    if parts is None:
        return
    if include_backbone is not None:
        raise ValueError("give include_backbone or parts, not both")
    if isinstance(parts, str) or not parts:
        raise ValueError(f"parts must be a list of parts, at least one; got {parts!r}")
    check_parts(parts)


def check_parts(parts: Sequence[str]) -> None:
    """Refuse names that no part of a model has.

    Raises:
        ValueError: If there is one.
    """
    for part in parts:
        if part not in STAGES:
            raise ValueError(f"a part is one of {', '.join(STAGES)}; got {part!r}")


def _write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        # Temporary files are private to their owner; a saved model is readable like any file.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
