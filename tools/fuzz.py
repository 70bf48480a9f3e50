"""Run the commands with damaged files and invalid arguments: `make fuzz`.

Media files, images, arguments, model folders, recipes, masks and curves are changed at random from a seed, and
each case runs in its own process. The result must be a complete output, or a one-line message and
exit code 2: no traceback, crash, hang, incomplete file or leftover.

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

from fuzz_cases import CHEAP, OVERRIDES, create_case, make_seeds
from rdvfi_cli.main import main as command

TIME_LIMIT_SECONDS, MEMORY_LIMIT_BYTES = 60, 12 << 30


def run(arguments: list[str], log: Path, folder: Path) -> tuple[str, str]:
    """Run the command in a child process with working directory ``folder``; return the outcome and its output."""
    pid = os.fork()
    if pid == 0:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
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
    end = time.monotonic() + TIME_LIMIT_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            output = log.read_text(errors="replace")
            if os.WIFSIGNALED(status):
                return f"crash by signal {os.WTERMSIG(status)}", output
            code = os.WEXITSTATUS(status)
            failed = code not in (0, 2) or "Traceback" in output or "internal error" in output
            return (f"traceback ({code})" if failed else "done" if code == 0 else "refused"), output
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang", log.read_text(errors="replace")


def find_faults(ending: str, out: Path) -> list[str]:
    """Faults of the outcome of a case and of the files in its output folder."""
    problems = [] if ending in ("done", "refused") else [ending]
    for path in out.iterdir():
        if path.name.startswith(".") and path.name != ".mp4":
            problems.append(f"leftover {path.name}")
        elif ending != "done" and not path.is_dir():
            problems.append(f"file without success {path.name}")
        elif path.suffix in (".mp4", ".mkv", ".webm", ".gif") and path.is_file():
            try:
                with av.open(f"file:{path}") as container:
                    if not any(True for _ in container.decode(video=0)):
                        problems.append("empty output")
            except av.error.FFmpegError as error:
                problems.append(f"half file: {error}")
    return problems


def fuzz(minutes: float, seed: int, only: int | None) -> int:
    """Run cases for some minutes and return the number of failures."""
    counts, failures, number = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        seeds = make_seeds(workspace)
        preload_modules(
            workspace, ["interpolate", str(seeds["a.mp4"]), str(workspace / "warm.mkv"), *CHEAP, *OVERRIDES]
        )
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end and number != only:
            number = number + 1 if only is None else only
            case, prepare = create_case(number, seed, seeds)
            work = workspace / str(number)
            (work / "out").mkdir(parents=True)
            ending, output = run(prepare(work), workspace / "log.txt", work / "out")
            counts[ending] += 1
            if problems := find_faults(ending, work / "out"):
                failures += 1
                print(f"case {number} ({case[:300]}): {'; '.join(problems)}\n    {output.strip()[-600:]}", flush=True)
            shutil.rmtree(work)
            if only is not None:
                print(case, ending, output)
    print(f"seed {seed}: {sum(counts.values())} tries, {dict(counts)}, {failures} bad")
    return failures


def preload_modules(workspace: Path, command_line: list[str]) -> None:
    """Import the modules that a command imports, so that child processes start faster.

    The command itself runs in a child: it would start OpenCV's threads, which do not survive a fork, and
    ``cv2.setNumThreads`` would wait for them forever.
    """
    names = workspace / "modules.txt"
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            command(command_line)
        names.write_text("\n".join(sys.modules))
        os._exit(0)
    os.waitpid(child, 0)
    for name in names.read_text().split():
        with contextlib.suppress(ImportError):  # modules that cannot be imported by name
            importlib.import_module(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, default=None, help="run one case of a seed alone")
    arguments = parser.parse_args()
    sys.exit(1 if fuzz(arguments.minutes, arguments.seed, arguments.case) else 0)
