"""Print the lowest versions that pyproject.toml allows, one pin a line, for ``pip install -r``:

    python tools/lowest_versions.py metrics train > out/lowest.txt

Arguments are extras whose packages are included. torch is not pinned: its CPU build is not on the default index, and
its oldest version is tested on a GPU.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
UNPINNED = ("torch",)


def pins(requirements: list[str]) -> list[str]:
    """``name==version`` for each ``name>=version``.

    Raises:
        ValueError: If a requirement states no lower bound.
    """
    pinned = []
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=|==)\s*([\w.]+)", requirement)
        if not match:
            raise ValueError(f"a requirement needs a lower bound, as in name>=1.0; got {requirement!r}")
        if match[1] not in UNPINNED:
            pinned.append(f"{match[1]}=={match[2]}")
    return pinned


def main(extras: list[str]) -> None:
    """Print the pins of the package and of these extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    print("\n".join(pin for group in groups for pin in pins(group)))


if __name__ == "__main__":
    main(sys.argv[1:])
