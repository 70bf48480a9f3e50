"""Run ``pip install`` with progress messages and the elapsed time:

    python tools/install.py -e '.[dev]'

pip prints either nothing for minutes (``--quiet``) or hundreds of lines. This script names large packages when they are
fetched and prints a line at least every ten seconds; pip's warnings and errors are passed on. It runs
before anything is installed, so it uses the standard library only.
"""

import re
import subprocess
import sys
import threading
import time

_FETCH_LINE = re.compile(
    r"\s*(Downloading|Using cached|Processing) (?:\S*/)?([^/\s]+?)-(\d[^-\s]*)\S*(?: \((.*?)\))?( .*)?$"
)
_ERRORS = ("error", "warning", "info: pip is looking", "hint", "note")
_SILENCE_SECONDS = 10.0


def progress_message(line: str) -> str | None:
    """The progress message for a line of pip's output, or None."""
    if match := _FETCH_LINE.match(line):
        action, name, version, size, _ = match.groups()
        large = size is not None and size.endswith(("MB", "GB"))
        local = action == "Processing"
        return f"fetching {name} {version}" + (f" ({size})" if large else "") if large or local else None
    if line.startswith("Installing collected packages"):
        return f"installing {line.count(',') + 1} packages"
    return "installed" if line.startswith("Successfully installed") else None


class _Progress:
    """Prints messages with the elapsed time, and repeats the last one after a silence."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._activity = "finding out which packages are needed"

    def report(self, activity: str) -> None:
        self._activity, self._last = activity, time.monotonic()
        print(f"  {self._last - self._start:4.0f} s  {activity}", flush=True)

    def repeat(self, finished: threading.Event) -> None:
        while not finished.wait(0.5):
            if self._activity != "installed" and time.monotonic() - self._last >= _SILENCE_SECONDS:
                self.report(f"still {self._activity.removeprefix('still ')}")


def main(arguments: list[str]) -> int:
    """Run pip and return its exit code."""
    command = [sys.executable, "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check", *arguments]
    progress, finished = _Progress(), threading.Event()
    progress.report(f"pip install {' '.join(arguments)}")
    threading.Thread(target=progress.repeat, args=(finished,), daemon=True).start()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if message := progress_message(line.rstrip()):
                progress.report(message)
            elif line.lower().lstrip().startswith(_ERRORS):
                print(line, end="", flush=True)
    finished.set()
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
