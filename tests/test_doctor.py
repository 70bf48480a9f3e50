"""rdvfi doctor says what is there and what is not, also where torch or a plug-in is broken."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rdvfi_cli import doctor_checks as checks
from rdvfi_cli.main import application


def _by_name(findings: list[checks.Finding]) -> dict[str, checks.Finding]:
    return {finding.name: finding for finding in findings}


def test_a_sound_installation_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = CliRunner().invoke(application(), ["doctor", "--json"])
    table = json.loads(result.output)
    found = {(each["section"], each["name"]): each for each in table["findings"]}
    assert result.exit_code == (0 if table["fine"] else 1)
    assert found["torch", "torch"]["state"] == "ok"
    assert found["video", "libx264"]["state"] == "ok"
    assert found["models", "rdvfi-s"]["state"] == "ok"
    assert "HF_HUB_OFFLINE is set" in found["files", "hub cache"]["detail"]
    assert all(each["cost"] for each in table["findings"] if each["state"] != "ok"), "each absence says what it costs"
    sections = [each["section"] for each in table["findings"]]
    assert list(dict.fromkeys(sections)) == [
        "machine", "torch", "packages", "video", "extras", "models", "plug-ins", "files",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ImportError('libtorch_cpu.so: cannot open')", "libtorch_cpu.so: cannot open"),
        ("import os; os.abort()", "ended with code -6"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_a_broken_torch_is_one_line_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    (tmp_path / "torch.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checks, "TIMEOUT", 3.0 if "sleep" in source else 60.0)
    monkeypatch.setattr(checks, "_check_plugins", lambda: iter(()))  # it imports rdvfi, whose torch is broken too
    (torch,) = checks._check_torch()
    assert (torch.state, "nothing but this report works" in torch.cost) == ("broken", True)
    assert told in torch.detail
    monkeypatch.setattr(checks, "_check_media", lambda: iter(()))
    result = CliRunner().invoke(application(), ["doctor"])
    assert result.exit_code == 1
    assert "not in order: torch" in result.output
    assert "hub cache" in result.output, "the rest is still told"
    assert "Traceback" not in result.output


def test_encoders_are_tried_and_not_looked_up_in_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ENCODERS", {"libx264": "no H.264", "h264_v4l2m2m": "no camera chip", "nonsense": "?"})
    monkeypatch.setattr(checks, "HARDWARE_ENCODERS", ("no_such_encoder",))
    found = _by_name(list(checks._check_media()))
    assert found["libx264"].state == "ok"
    assert found["nonsense"].detail == "not in this build"
    assert found["hardware encoders"].state == "missing"
    assert found["hardware decoding"].detail.startswith("no device opens (")


def test_a_plug_in_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "harmful-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmful\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rdvfi.plugins]\nharmful = harmful_module\n")
    (tmp_path / "harmful_module.py").write_text("import nothing_of_this_name\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = _by_name(list(checks._check_plugins()))
    assert found["harmful"].state == "broken"
    assert "nothing_of_this_name" in found["harmful"].detail


def test_versions_that_are_too_old_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=2.0", "torch>=99; python_version >= '3'", "nothing-here>=1", "piq>=0.1; extra == 'metrics'"]
    monkeypatch.setattr(checks.importlib.metadata, "requires", lambda _: needed)
    found = _by_name(list(checks._check_packages()))
    assert set(found) == {"torch", "nothing-here"}
    assert "torch>=99 is needed" in found["torch"].detail
    assert found["nothing-here"].detail.startswith("not installed")
    monkeypatch.setattr(checks, "_installed_version", lambda _: "99.0")
    (fine,) = checks._check_packages()
    assert fine.state == "ok"
