"""Install VapourSynth for Python 3.11, for which PyPI has its source alone:

    python tools/vapoursynth_for_311.py

The library of the package for newer Pythons, which depends on no Python, goes beside the packages of this one; the
Python module is then built from the source package against it. Needs a C compiler. Versions differ on purpose: the
last source package speaks the API of the newer library.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

LIBRARY, MODULE = "vapoursynth==81", "vapoursynth==73"


def main() -> None:
    """Download the one, build the other."""
    if sys.version_info[:2] != (3, 11):
        sys.exit("this is for Python 3.11; elsewhere: pip install vapoursynth")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    place = Path(sysconfig.get_path("purelib")) / "vapoursynth_library"
    with tempfile.TemporaryDirectory() as folder:
        newer = ["--python-version", "3.12", "--only-binary=:all:"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", folder, *newer, LIBRARY], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(place)
    library = place / "vapoursynth"
    link = library / "libvapoursynth.so"
    link.unlink(missing_ok=True)
    link.symlink_to("libvapoursynth.so.4")
    flags = {"CFLAGS": f"-O1 -I{library}/include", "LDFLAGS": f"-L{library} -Wl,-rpath,{library}"}
    built = [*pip, "install", "--no-deps", "--no-cache-dir", "--no-binary", "vapoursynth", MODULE]
    subprocess.run(built, check=True, env={**os.environ, **flags})


if __name__ == "__main__":
    main()
