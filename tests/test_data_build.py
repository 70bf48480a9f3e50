"""Building the training data, from tiny packages in the layout of the real ones."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data as photographs

from rdvfi.data.datasets import build as module
from rdvfi.data.datasets.build import FILM_MEMBER, PHOTOGRAPHS, build_training_data
from rdvfi.data.manifest import check_manifest
from rdvfi_cli.main import main

FRAMES = 12


def _video(frames: int = FRAMES) -> bytes:
    stream_of_bytes = io.BytesIO()
    with av.open(stream_of_bytes, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(frames):
            picture = np.full((96, 128, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return stream_of_bytes.getvalue()


def _tar(files: dict[str, bytes], path: Path | None = None, mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    if path is not None:
        path.write_bytes(target.getvalue())
    return target.getvalue()


def _deb(files: dict[str, bytes]) -> bytes:
    """An ``ar`` archive of the three members of deb(5)."""
    members = {
        b"debian-binary": b"2.0\n",
        b"control.tar.xz": b"odd",
        b"data.tar.xz": _tar(files, mode="w:xz"),
    }
    content = b"!<arch>\n"
    for name, body in members.items():
        content += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(body))
        content += body + b"\n" * (len(body) % 2)
    return content


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("resources/bbb.mp4", _video())
    _tar({FILM_MEMBER: inner.getvalue()}, folder / "moviepy-2.2.1.tar.gz")
    _, picture = cv2.imencode(".jpg", photographs.coffee()[:60, :80, ::-1])
    files = {f"./usr/share/backgrounds/{name}": picture.tobytes() for name in PHOTOGRAPHS}
    (folder / "lomiri-wallpapers-16.04_1.0-2_all.deb").write_bytes(_deb(files))
    return folder


def test_the_build_writes_frames_photographs_and_where_they_come_from(packages: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    main_exit(["data", "build", str(packages), str(data)])
    film = np.load(data / "film.npy", mmap_mode="r")
    assert film.shape == (FRAMES, 48, 64, 3)
    assert np.abs(film.mean((1, 2, 3)) - 10.0 * np.arange(FRAMES)).max() < 3.0
    with np.load(data / "photographs.npz") as archive:
        assert set(archive.files) == set(PHOTOGRAPHS)
        assert archive["life_by_Aitzol_Berasategi.jpg"].shape == (1200, 1600, 3)
    manifest = json.loads((data / "manifest.json").read_text())
    for item in manifest.values():
        assert {"source", "version", "sha256", "attribution", "split"} <= item.keys()
        assert {"licence", "licences"} & item.keys()
    assert manifest["film.npy"]["frames"] == FRAMES
    assert manifest["photographs.npz"]["version"] == "1.0-2"
    assert sorted(path.name for path in data.iterdir()) == [
        "film.npy",
        "manifest.json",
        "photographs.npz",
    ]


def main_exit(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert not done.value.code


def test_the_same_packages_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_training_data(packages, tmp_path / name)
    for file in ("film.npy", "photographs.npz", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_interrupted_build_continues_with_the_missing_files(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, lines = tmp_path / "data", []

    def stop(source: Path, partial: Path) -> None:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_photographs", stop)
        with pytest.raises(KeyboardInterrupt):
            build_training_data(packages, data)
    assert not (data / "photographs.npz").exists()
    before = (data / "film.npy").stat().st_mtime_ns
    build_training_data(packages, data, report=lines.append)
    assert lines[0] == "film.npy is up to date"
    assert (data / "film.npy").stat().st_mtime_ns == before
    assert (data / "photographs.npz").exists()
    assert not list(data.glob("*.partial"))


def test_a_manifest_of_an_older_version_is_named_and_completed(packages: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    build_training_data(packages, data)
    file = data / "manifest.json"
    whole, made = file.read_bytes(), (data / "film.npy").stat().st_mtime_ns
    manifest = json.loads(whole)
    del manifest["film.npy"]["attribution"], manifest["film.npy"]["version"]
    file.write_text(json.dumps(manifest))
    message = r"manifest\.json lacks version, attribution of film\.npy; rdvfi data build"
    with pytest.raises(ValueError, match=message):
        check_manifest(data)
    build_training_data(packages, data)
    assert file.read_bytes() == whole
    assert (data / "film.npy").stat().st_mtime_ns == made
    for content, message in (("{", "is damaged, delete it"), ("[1]", "is not a manifest")):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            build_training_data(packages, data)
    file.write_bytes(whole)
    (data / "film.npy").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"film\.npy is damaged, delete it and build again"):
        build_training_data(packages, data)
    with pytest.raises(ValueError, match=r"lacks source, .* of film\.npy"):
        check_manifest(tmp_path)


def test_missing_and_damaged_packages_are_named(packages: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match=r"no moviepy-2\.2\.1\.tar\.gz in"):
        build_training_data(tmp_path, data)
    film = packages / "moviepy-2.2.1.tar.gz"
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged, download it again"):
        build_training_data(packages, data)
    _tar({"moviepy-2.2.1/README": b"empty"}, film)
    with pytest.raises(FileNotFoundError, match="has no moviepy"):
        build_training_data(packages, data)
    film.write_bytes(whole)
    deb = next(packages.glob("*.deb"))
    content = deb.read_bytes()
    deb.write_bytes(content[:-500])
    with pytest.raises(ValueError, match=r"has no complete data\.tar"):
        build_training_data(packages, data)
    deb.write_bytes(_deb({"./usr/share/none.jpg": b""}))
    with pytest.raises(FileNotFoundError, match="has no aitzgorri"):
        build_training_data(packages, data)
    assert not (data / "photographs.npz").exists()
