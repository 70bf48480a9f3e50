"""Faults on purpose: the n-th file operation of some work fails, or is where its process ends.

Work runs in a child process. Python announces every file operation before it happens (`sys.addaudithook`);
what libraries write themselves is stopped by a limit on the size of files, as a full disk would.
"""

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rdvfi_cli.main import _exit_on_signals

OPERATIONS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link"})

FAULTS: dict[str, Callable[[], None]] = {
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGHUP": lambda: os.kill(os.getpid(), signal.SIGHUP),
    "SIGINT": lambda: os.kill(os.getpid(), signal.SIGINT),
    "full disk": lambda: _fail(errno.ENOSPC),
    "read-only": lambda: _fail(errno.EROFS),
    "broken disk": lambda: _fail(errno.EIO),
}


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def operations(work: Callable[[], object], folder: Path) -> int:
    """File operations in ``folder`` that some work takes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = _hooked(folder, lambda _: None)
        work()
        os.write(write, str(count[0]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    return int(os.read(read, 100))


def run(work: Callable[[], object], folder: Path, *, fault: str, at: int, limit: float = 30.0) -> str:
    """How some work ends whose n-th file operation in ``folder`` meets a fault: done, error, or by signal.

    ``at`` counts operations; for the fault ``"no room"`` it is the number of bytes that a file may have.
    """
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 1
        try:
            with _exit_on_signals():
                if fault == "no room":
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
                else:
                    _hooked(folder, lambda number: FAULTS[fault]() if number == at else None)
                work()
                code = 0
        except (OSError, ValueError):
            code = 2  # what the command says in one line
        except (KeyboardInterrupt, SystemExit):
            code = 3
        os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return _ending(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return {0: "done", 2: "error", 3: "interrupted"}.get(os.WEXITSTATUS(status), "traceback")


def _hooked(folder: Path, meet: Callable[[int], object]) -> list[int]:
    """Call ``meet`` with the number of every file operation in a folder, before it happens."""
    count, inside = [0], [False]
    prefix = str(folder)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS or inside[0]:
            return
        if any(isinstance(a, str | bytes | os.PathLike) and os.fsdecode(a).startswith(prefix) for a in arguments):
            inside[0] = True
            count[0] += 1
            try:
                meet(count[0])
            finally:
                inside[0] = False

    sys.addaudithook(hook)
    return count
