"""The example plug-in, beside this package as if installed: found by its entry point alone.

``make plugin`` installs it with pip and runs its own tests; here only the joint is looked at.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"


PROGRAM = """
import rdvfi, torch
from rdvfi_cli.main import main

chosen = ('backbone=haar', 'coarse=horn-schunck', 'basis=quintic')
model = rdvfi.build('rdvfi_s', *chosen, 'trajectory=straight', 'renderer=warp').eval()
frames = model(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 48), [0.5])
print(model.pretrained().trajectory['config']['basis']['name'], tuple(frames.shape))
main(['info', 'haar'])
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a program says that finds the plug-in's source and its metadata, as pip writes it."""
    place = tmp_path_factory.mktemp("installed")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = place / f"rdvfi_example_plugin-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(f"{head}License-Expression: {project['license']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join([str(place), str(PLUGIN / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_lists_it_and_tells_of_it(told: str) -> None:
    assert "package: rdvfi_example_plugin" in told
    assert "licence of the code: Apache-2.0" in told


def test_a_recipe_takes_its_entries(told: str) -> None:
    assert told.startswith("quintic (1, 1, 3, 32, 48)\n")


def test_its_page_shows_the_metadata_that_it_has() -> None:
    page = (Path(__file__).parents[1] / "docs" / "guides" / "plug-ins.md").read_text()
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    ((group, entries),) = project["entry-points"].items()
    assert f'[project.entry-points."{group}"]' in page
    for name, value in entries.items():
        assert f'{name} = "{value}"' in page
