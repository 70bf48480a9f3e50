"""What `make fuzz` tries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = """
import hashlib, sys
from pathlib import Path

import pytest
sys.path.insert(0, "tools")
from fuzz_cases import create_case, make_seeds
place = Path(sys.argv[1])
place.mkdir()
seeds = make_seeds(place)
for number in map(int, sys.argv[2:]):
    name, prepare = create_case(number, 7, seeds)
    work = place / str(number)
    work.mkdir()
    line = prepare(work)
    files = b"".join(path.read_bytes() for path in sorted((work / "in").rglob("*")) if path.is_file())
    print(number, repr((name, line)).replace(str(place), ""), hashlib.sha256(files).hexdigest())
"""


def listed(place: Path, numbers: range, hash_seed: str) -> list[str]:
    """The cases with these numbers, as a process of its own makes them."""
    line = [sys.executable, "-c", LIST, str(place), *map(str, numbers)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_a_case_is_the_same_in_every_process_whatever_came_before_it(tmp_path):
    all_of_them = listed(tmp_path / "first", range(1, 49), "1")
    later_ones = listed(tmp_path / "second", range(25, 49), "2")
    assert len(all_of_them) == 48
    assert later_ones == all_of_them[24:]
