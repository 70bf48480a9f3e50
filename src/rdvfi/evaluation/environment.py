"""The hardware and software versions of an evaluation, which are stored with its results."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Environment:
    """Hardware and software versions. ``commit`` ends in '+' if there are uncommitted changes."""

    device: str
    threads: int
    torch: str
    rdvfi: str
    commit: str | None

    def line(self) -> str:
        """A one-line summary."""
        commit = "" if self.commit is None else f" ({self.commit})"
        return f"{self.device}, {self.threads} threads, torch {self.torch}, rdvfi {self.rdvfi}{commit}"


def read_environment(device: torch.device) -> Environment:
    """The environment of this process, with computations on ``device``."""
    import rdvfi

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return Environment(
        device=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        rdvfi=rdvfi.__version__,
        commit=_commit(Path(rdvfi.__file__).parent),
    )


def _commit(package: Path) -> str | None:
    """Commit of the git checkout that contains the package; None if there is none."""
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    revision = None if tracked is None else _git(package, "rev-parse", "--short", "HEAD")
    if revision is None:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return revision + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
