"""Print the lowest versions that pyproject.toml allows, one pin a line, for ``pip install -r``:

    python tools/lowest_versions.py metrics train > out/lowest.txt

Arguments name extras whose packages are pinned, too. torch is left to pip: its CPU build is not where pip looks, and
its oldest version is tried where a GPU is.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
LEFT_OUT = ("torch",)


def pins(requirements: list[str]) -> list[str]:
    """``name==version`` for each ``name>=version``.

    Raises:
        ValueError: If a requirement states no lower bound.
    """
    lines = []
    for requirement in requirements:
        read = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=|==)\s*([\w.]+)", requirement)
        if not read:
            raise ValueError(f"a requirement needs a lower bound, as in name>=1.0; got {requirement!r}")
        if read[1] not in LEFT_OUT:
            lines.append(f"{read[1]}=={read[2]}")
    return lines


def main(extras: list[str]) -> None:
    """Print the pins of the package and of these extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    print("\n".join(pin for group in groups for pin in pins(group)))


if __name__ == "__main__":
    main(sys.argv[1:])
