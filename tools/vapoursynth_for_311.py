"""Install VapourSynth for Python 3.11, for which PyPI has a source package only:

    python tools/vapoursynth_for_311.py

The shared library is extracted from the wheel for newer Pythons, since it does not depend on the Python version; the
Python module is then built from the source package against it. Needs a C compiler. The versions differ on purpose: the
last source package uses the API of the newer library.
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
    """Download the library and build the module."""
    if sys.version_info[:2] != (3, 11):
        sys.exit("this is for Python 3.11; elsewhere: pip install vapoursynth")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    package_folder = Path(sysconfig.get_path("purelib")) / "vapoursynth_library"
    with tempfile.TemporaryDirectory() as folder:
        wheel_options = ["--python-version", "3.12", "--only-binary=:all:"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", folder, *wheel_options, LIBRARY], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(package_folder)
    library = package_folder / "vapoursynth"
    link = library / "libvapoursynth.so"
    link.unlink(missing_ok=True)
    link.symlink_to("libvapoursynth.so.4")
    variables = {"CFLAGS": f"-O1 -I{library}/include", "LDFLAGS": f"-L{library} -Wl,-rpath,{library}"}
    build_command = [*pip, "install", "--no-deps", "--no-cache-dir", "--no-binary", "vapoursynth", MODULE]
    subprocess.run(build_command, check=True, env={**os.environ, **variables})


if __name__ == "__main__":
    main()
