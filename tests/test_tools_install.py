"""What the tools of installation read from pip and from pyproject.toml."""

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of the folder of tools, which is no package, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def test_large_packages_and_steps_are_told_and_the_rest_is_not(tools: Any) -> None:
    progress_message = tools("install").progress_message
    told = {
        "Processing /wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl": "fetching torch 2.13.0+cpu",
        "  Downloading timm-1.0.31-py3-none-any.whl (2.8 MB)": "fetching timm 1.0.31 (2.8 MB)",
        "  Using cached opencv_python-5.0.0.93-cp37-abi3-x.whl (60.0 MB)": "fetching opencv_python 5.0.0.93 (60.0 MB)",
        "Installing collected packages: a, b, c": "installing 3 packages",
        "Successfully installed a-1.0": "installed",
    }
    assert {line: progress_message(line) for line in told} == told
    for line in ("  Downloading timm-1.0.31.whl.metadata (12 kB)", "Collecting timm", "Processing /home/me/rdvfi", ""):
        assert progress_message(line) is None, line


def test_a_failing_install_shows_the_error_and_keeps_the_exit_code(
    tools: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tools("install").main(["--no-index", "no-such-package-as-this"]) == 1
    shown = capfd.readouterr()
    assert "pip install --no-index no-such-package-as-this" in shown.out
    assert "No matching distribution" in shown.err


def test_pins_are_the_lower_bounds(tools: Any) -> None:
    pins = tools("lowest_versions").pins
    assert pins(["torch>=2.11,<3", "av>=18.0", "rdvfi_x[a]>=1.2; python_version < '4'"]) == ["av==18.0", "rdvfi_x==1.2"]
    with pytest.raises(ValueError, match="needs a lower bound"):
        pins(["torchvision"])


def test_every_package_that_is_needed_has_a_lower_bound(tools: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tools("lowest_versions").main(["metrics", "plot", "train", "docs"])
    pinned = capsys.readouterr().out.split()
    assert "opencv-python-headless==5.0.0.93" in pinned
    assert len(pinned) > 15


def test_developers_get_what_the_extras_bring() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # The others are heavy, or want other versions than developers have; they are installed where they are wanted.
    for name in extras.keys() - {"dev", "flow", "demo", "vapoursynth", "ray", "onnx", "generators", "vmaf"}:
        assert set(extras[name]) <= set(extras["dev"]), name
