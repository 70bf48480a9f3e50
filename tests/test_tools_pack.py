"""A pack keeps its limit, and is training data once it is unpacked."""

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_folder import write_data_folder
from rdvfi.data.datasets.clip_folder import ClipWindows
from rdvfi.data.samples import load_textures
from rdvfi.media.clip import find_clips


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = Path(__file__).parent.parent / "tools" / "pack.py"
    spec = importlib.util.spec_from_file_location("pack", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_pack_keeps_its_limit_and_feeds_training(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "PICTURE_SIZE", (96, 160))
    monkeypatch.setattr(tool, "WINDOW_SIZE", (64, 96))
    monkeypatch.setattr("rdvfi.data.samples.TEXTURE_SIZE", (96, 160))
    data, file, limit = write_data_folder(tmp_path), tmp_path / "pack.zip", 500_000
    assert tool.make_pack(data, file, limit=limit) == file.stat().st_size <= limit
    assert file.stat().st_size > 0.8 * limit
    zipfile.ZipFile(file).extractall(tmp_path / "pack")
    assert json.loads((tmp_path / "pack/manifest.json").read_text()) == json.loads((data / "manifest.json").read_text())
    clips = find_clips(tmp_path / "pack/clips")
    assert len(clips) > 3
    assert {len(clip) for clip in clips.values()} == {17}
    sample = ClipWindows(clips, (48, 64), strides=(1,)).sample(np.random.default_rng(0))
    assert sample["frames"].shape == (12, 48, 64, 3)
    assert load_textures(tmp_path / "pack/photographs").shape[1:] == (3, 96, 160)
    with pytest.raises(ValueError, match="no window of the film fits into 9000 bytes"):
        tool.make_pack(data, file, limit=9000)
