"""Loading one part of a diffusers pipeline, with strict checks of completeness.

diffusers forgives more than a reproducible model may: a missing tensor stays on the meta device under a message that
calls it newly initialised, a surplus one is dropped, a folder in another format builds the class's default size, an
unknown class name is ignored. `load_part` checks all of that, reads safetensors only (never pickle), and wants a
pinned commit of whatever is on the hub, so that the same name and revision are the same weights tomorrow.

Some parameters have to stay in float32 when a network is cast to half precision; each diffusers
class names them (``_keep_in_fp32_modules``). ``from_pretrained`` keeps these islands,
``module.to(dtype)`` does not; `apply_keeping_float32` does.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdvfi._hub import fetch, is_hub_id
from rdvfi.compat import import_torchvision

Part = TypeVar("Part", bound=nn.Module)

CONFIG_NAME = "config.json"
WEIGHTS = "diffusion_pytorch_model*.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def prepare_diffusers() -> None:
    """Make diffusers' model classes importable; call it before importing them.

    They import torchvision where it is installed, which fails beside a CPU build of torch (see
    `rdvfi.compat`); without torchvision they do without.
    """
    try:
        import_torchvision()
    except ModuleNotFoundError:
        return


def load_part(
    kind: type[Part],
    source: str | os.PathLike[str],
    subfolder: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Part:
    """One model of a diffusers pipeline, whole: in eval mode, on the CPU.

    Args:
        kind: Its class in diffusers.
        source: A folder in diffusers' format, or a hub id ``owner/name``.
        subfolder: Where in it the part is, such as ``"transformer"``.
        revision: For a hub id, and needed there: the full hash of the commit.
        dtype: Type of the parameters, except those that its class keeps in float32.

    Raises:
        FileNotFoundError: If there is no such folder, file or hub model.
        ConnectionError: If it is not in the hub's cache and the hub cannot be reached.
        ValueError: If the revision is not pinned, or the files hold another model or a part of one.
    """
    folder = _folder(source, subfolder, revision)
    where = str(folder / subfolder)
    with _clear_errors(where):
        table = kind.load_config(where)  # pyright: ignore[reportAttributeAccessIssue]
    _check_class(where, kind, table)
    with _clear_errors(where):
        part, loading = kind.from_pretrained(  # pyright: ignore[reportAttributeAccessIssue]
            where, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    _check_whole(where, kind, part, loading)
    return part.eval()


def kept_in_float32(part: nn.Module) -> set[int]:
    """``id`` of every parameter and buffer that the class of ``part`` wants in float32."""
    islands = set(getattr(part, "_keep_in_fp32_modules", None) or ())
    tensors = itertools.chain(part.named_parameters(), part.named_buffers())
    return {id(tensor) for name, tensor in tensors if islands & set(name.split("."))}


def apply_keeping_float32(fn: Callable[[Tensor], Tensor], *parts: nn.Module) -> Callable[[Tensor], Tensor]:
    """``fn`` of `torch.nn.Module._apply`, which moves and casts, without casting the islands.

    Use it in the ``_apply`` of the module that holds the parts.
    """
    islands: set[int] = set().union(*(kept_in_float32(part) for part in parts))

    def keep(tensor: Tensor) -> Tensor:
        moved = fn(tensor)
        if id(tensor) not in islands or moved.dtype == tensor.dtype:
            return moved
        return tensor.to(moved.device, torch.float32)

    return keep


def _folder(source: str | os.PathLike[str], subfolder: str, revision: str | None) -> Path:
    """The folder that holds the part's folder: the given one, or the hub's cache of a commit."""
    folder = Path(source).expanduser()
    if folder.is_dir() or not is_hub_id(source):
        if revision is not None:
            raise ValueError(f"{folder} is a folder and has no revision; got {revision!r}")
    else:
        _check_pinned(str(source), revision)
        wanted = [f"{subfolder}/{CONFIG_NAME}", f"{subfolder}/{WEIGHTS}", f"{subfolder}/{INDEX}"]
        folder = fetch(str(source), revision, wanted, is_complete=lambda at: _holds(at / subfolder))
    _check_folder(folder, subfolder)
    return folder


def _holds(folder: Path) -> bool:
    """Whether it holds a configuration and all weights that it needs."""
    shards = {str(name) for name in _table(folder / INDEX).get("weight_map", {}).values()}
    whole = all((folder / shard).is_file() for shard in shards) and any(folder.glob(WEIGHTS))
    return whole and (folder / CONFIG_NAME).is_file()


def _check_folder(folder: Path, subfolder: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is neither a folder nor a hub id (owner/name)")
    inside = folder / subfolder
    if not (inside / CONFIG_NAME).is_file():
        original = "in_dim" in _table(folder / CONFIG_NAME)
        hint = "; it is in the model's original format: run `rdvfi convert`" if original else ""
        raise FileNotFoundError(f"{inside} holds no {CONFIG_NAME}, so no diffusers model{hint}")
    if not any(inside.glob(WEIGHTS)):
        raise FileNotFoundError(f"{inside} holds no {WEIGHTS}; other formats are not read")


def _table(path: Path) -> dict[str, Any]:
    """A JSON table, or an empty one if there is none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _check_pinned(hub_id: str, revision: str | None) -> None:
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"{hub_id!r} is on the hub, where branches and tags move: give the full hash of a "
            f"commit (40 hexadecimal digits) as revision; got {revision!r}"
        )


def _check_class(where: str, kind: type[nn.Module], table: dict[str, Any]) -> None:
    name = table.get("_class_name")
    if name != kind.__name__:
        raise ValueError(f"{where} holds a {name}; expected a {kind.__name__}")


def _check_whole(where: str, kind: type[nn.Module], part: nn.Module, loading: dict[str, list[Any]]) -> None:
    """Raise an error if weights are missing, unexpected, of another shape, or without values."""
    # diffusers has dropped from these lists what the class itself declares to be ignorable.
    labels = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    empty = [name for name, tensor in part.state_dict().items() if tensor.is_meta]
    problems = {label.split("_")[0]: sorted(map(str, loading.get(label, []))) for label in labels}
    problems["missing"] = sorted({*problems["missing"], *empty})
    if not any(problems.values()):
        return
    details = "; ".join(f"{label} {_some(names)}" for label, names in problems.items() if names)
    raise ValueError(f"{where} is not a whole {kind.__name__}: {details}")


def _some(names: list[str]) -> str:
    """The first three names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    """diffusers' many errors as one kind."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{where} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """The message of diffusers on one line, without its advice to ignore the error."""
    return " ".join(str(error).split()).split(" If you want")[0][:300]
