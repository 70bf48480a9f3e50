"""Try the commands with damaged files and senseless arguments: `make fuzz`.

Media files, images, arguments, model folders, recipes, masks and curves are changed at random, seeded, and
given to the commands in a process each. Whatever happens must be an output that is whole, or one line and
exit code 2: no traceback, crash, hang, half file or leftover.

    python tools/fuzz.py --minutes 5 --seed 0
"""

import argparse
import collections
import contextlib
import importlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import av.error

from fuzz_cases import CHEAP, OVERRIDES, make_seeds, numbered
from rdvfi_cli.main import main as command

LIMIT, MEMORY = 60, 12 << 30


def run(arguments: list[str], log: Path, folder: Path) -> tuple[str, str]:
    """How the command ends in a child process that works in a folder, and what it says."""
    pid = os.fork()
    if pid == 0:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 99
        try:
            command(arguments)
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
        finally:
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            said = log.read_text(errors="replace")
            if os.WIFSIGNALED(status):
                return f"crash by signal {os.WTERMSIG(status)}", said
            code = os.WEXITSTATUS(status)
            bad = code not in (0, 2) or "Traceback" in said or "internal error" in said
            return (f"traceback ({code})" if bad else "done" if code == 0 else "refused"), said
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang", log.read_text(errors="replace")


def faults_of(ending: str, out: Path) -> list[str]:
    """What is wrong with how a case ended and what it left."""
    found = [] if ending in ("done", "refused") else [ending]
    for path in out.iterdir():
        if path.name.startswith(".") and path.name != ".mp4":
            found.append(f"leftover {path.name}")
        elif ending != "done" and not path.is_dir():
            found.append(f"file without success {path.name}")
        elif path.suffix in (".mp4", ".mkv", ".webm", ".gif") and path.is_file():
            try:
                with av.open(f"file:{path}") as container:
                    if not any(True for _ in container.decode(video=0)):
                        found.append("empty output")
            except av.error.FFmpegError as error:
                found.append(f"half file: {error}")
    return found


def fuzz(minutes: float, seed: int, only: int | None) -> int:
    """Try cases for some minutes; how many ended badly."""
    counts, bad, number = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        seeds = make_seeds(place)
        load_as_commands_do(place, ["interpolate", str(seeds["a.mp4"]), str(place / "warm.mkv"), *CHEAP, *OVERRIDES])
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end and number != only:
            number = number + 1 if only is None else only
            case, prepare = numbered(number, seed, seeds)
            work = place / str(number)
            (work / "out").mkdir(parents=True)
            ending, said = run(prepare(work), place / "log.txt", work / "out")
            counts[ending] += 1
            if found := faults_of(ending, work / "out"):
                bad += 1
                print(f"case {number} ({case[:300]}): {'; '.join(found)}\n    {said.strip()[-600:]}", flush=True)
            shutil.rmtree(work)
            if only is not None:
                print(case, ending, said)
    print(f"seed {seed}: {sum(counts.values())} tries, {dict(counts)}, {bad} bad")
    return bad


def load_as_commands_do(place: Path, line: list[str]) -> None:
    """Import what a command does, so that each child starts warm.

    Nothing is computed here: that would start OpenCV's threads, which a child lacks, and
    ``cv2.setNumThreads`` waits for them for ever.
    """
    names = place / "modules.txt"
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            command(line)
        names.write_text("\n".join(sys.modules))
        os._exit(0)
    os.waitpid(child, 0)
    for name in names.read_text().split():
        with contextlib.suppress(ImportError):  # of modules that others put there
            importlib.import_module(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, default=None, help="run one case of a seed alone")
    given = parser.parse_args()
    sys.exit(1 if fuzz(given.minutes, given.seed, given.case) else 0)
