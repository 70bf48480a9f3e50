"""Reading configuration files from untrusted sources, with limits on size and nesting."""

from pathlib import Path
from typing import Any

MAX_BYTES = 2**20
_MAX_VALUES = 100_000


def check_regular(path: Path, what: str) -> None:
    """Check that a path is a regular file, since reading a pipe or a device may block; ``what`` is for errors.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not a regular file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {what} is expected")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path} is {kind}; {what} is expected")


def read_small_text(path: Path) -> str:
    """The text of a small regular file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not a regular file, too large, or not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return data.decode()


def read_small_yaml(path: Path) -> Any:
    """The content of a small YAML file, anchors resolved.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not valid, or too large with its anchors resolved.
    """
    import yaml

    try:
        text = read_small_text(path)
        _check_duplicate_keys(yaml.compose(text, yaml.SafeLoader), set())
        content = yaml.safe_load(text)
        nodes = _count_values(content, {})
    except RecursionError as error:
        raise ValueError("it is nested too deeply, or in itself") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if nodes > _MAX_VALUES:
        raise ValueError(f"with its anchors followed it has more than {_MAX_VALUES} values")
    return content


def _check_duplicate_keys(node: Any, visited: set[int]) -> None:
    """Raise ValueError if a mapping has a key twice; the loader of YAML silently keeps the last one."""
    if id(node) in visited or not isinstance(getattr(node, "value", None), list):
        return
    visited.add(id(node))
    lines: dict[str, int] = {}
    for item in node.value:
        if not isinstance(item, tuple):
            _check_duplicate_keys(item, visited)
            continue
        key, value = item
        line = key.start_mark.line + 1
        if isinstance(key.value, str) and lines.setdefault(key.value, line) != line:
            raise ValueError(f"it has the key {key.value!r} twice, in lines {lines[key.value]} and {line}")
        _check_duplicate_keys(value, visited)


def _count_values(value: Any, counts: dict[int, int]) -> int:
    """Number of values in a tree; values that are referenced several times count each time."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counts:
        items = value.values() if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(_count_values(item, counts) for item in items)
    return counts[id(value)]
