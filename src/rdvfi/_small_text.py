"""Reading configuration files from untrusted sources, within limits of size, nesting and time."""

from pathlib import Path
from typing import Any

MOST_BYTES = 2**20
_MOST_NODES = 100_000


def check_regular(path: Path, what: str) -> None:
    """Refuse anything but a regular file: reading a pipe or a device may never end.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {what} is expected")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path} is {kind}; {what} is expected")


def read_small_text(path: Path) -> str:
    """The text of a small regular file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no regular file, too large, or no UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    return data.decode()


def read_small_yaml(path: Path) -> Any:
    """The content of a small YAML file, anchors resolved.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or would grow beyond bounds.
    """
    import yaml

    try:
        text = read_small_text(path)
        _check_keys(yaml.compose(text, yaml.SafeLoader), set())
        content = yaml.safe_load(text)
        nodes = _nodes(content, {})
    except RecursionError as error:
        raise ValueError("it is nested too deeply, or in itself") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if nodes > _MOST_NODES:
        raise ValueError(f"with its anchors followed it has more than {_MOST_NODES} values")
    return content


def _check_keys(node: Any, known: set[int]) -> None:
    """Refuse mappings that have a key twice, of which YAML's loader silently keeps the last."""
    if id(node) in known or not isinstance(getattr(node, "value", None), list):
        return
    known.add(id(node))
    seen: dict[str, int] = {}
    for part in node.value:
        if not isinstance(part, tuple):
            _check_keys(part, known)
            continue
        key, value = part
        line = key.start_mark.line + 1
        if isinstance(key.value, str) and seen.setdefault(key.value, line) != line:
            raise ValueError(f"it has the key {key.value!r} twice, in lines {seen[key.value]} and {line}")
        _check_keys(value, known)


def _nodes(value: Any, known: dict[int, int]) -> int:
    """Values in a tree, those that stand in several places counted in each."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_nodes(part, known) for part in parts)
    return known[id(value)]
