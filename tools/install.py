"""Run ``pip install`` and say what it is doing, with the time so far:

    python tools/install.py -e '.[dev]'

pip alone says nothing for minutes (``--quiet``), or hundreds of lines. Here large packages are named when they are
fetched, and a line every ten seconds says that work goes on; pip's warnings and errors are shown as they are. It runs
before anything is installed, so it needs Python alone.
"""

import re
import subprocess
import sys
import threading
import time

_FETCHED = re.compile(
    r"\s*(Downloading|Using cached|Processing) (?:\S*/)?([^/\s]+?)-(\d[^-\s]*)\S*(?: \((.*?)\))?( .*)?$"
)
_ERRORS = ("error", "warning", "info: pip is looking", "hint", "note")
_SILENCE = 10.0


def news(line: str) -> str | None:
    """What a line of pip's output says to a person who waits, or None."""
    if fetched := _FETCHED.match(line):
        how, name, version, size, _ = fetched.groups()
        large = size is not None and size.endswith(("MB", "GB"))
        local = how == "Processing"
        return f"fetching {name} {version}" + (f" ({size})" if large else "") if large or local else None
    if line.startswith("Installing collected packages"):
        return f"installing {line.count(',') + 1} packages"
    return "installed" if line.startswith("Successfully installed") else None


class _Progress:
    """Lines with the time since the start; the last one again after a silence."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._doing = "finding out which packages are needed"

    def say(self, doing: str) -> None:
        self._doing, self._last = doing, time.monotonic()
        print(f"  {self._last - self._start:4.0f} s  {doing}", flush=True)

    def repeat(self, finished: threading.Event) -> None:
        while not finished.wait(0.5):
            if self._doing != "installed" and time.monotonic() - self._last >= _SILENCE:
                self.say(f"still {self._doing.removeprefix('still ')}")


def main(arguments: list[str]) -> int:
    """Install, and return pip's exit code."""
    command = [sys.executable, "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check", *arguments]
    progress, finished = _Progress(), threading.Event()
    progress.say(f"pip install {' '.join(arguments)}")
    threading.Thread(target=progress.repeat, args=(finished,), daemon=True).start()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if told := news(line.rstrip()):
                progress.say(told)
            elif line.lower().lstrip().startswith(_ERRORS):
                print(line, end="", flush=True)
    finished.set()
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
