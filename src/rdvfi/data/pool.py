"""A pool of training samples on disk: generated once, read by every stage of training.

Each sample has frames at the nine knots and at three free times, the coarse flow between its ends,
and, for procedural scenes, exact flows (see `rdvfi.data.synthetic.procedural_source`, which also makes them on the
fly). A teacher may add its flows and mask at the free times (`rdvfi.training.teacher`). A pool is
a folder of plain arrays that are memory-mapped, so it may be larger than memory.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rdvfi._atomic import atomic
from rdvfi.data.samples import Film, film_sample, load_textures
from rdvfi.data.sources import Batch, check
from rdvfi.data.synthetic.procedural_source import KNOTS, MovingTextures
from rdvfi.data.synthetic.sampler import SceneRecipe
from rdvfi.geometry import resize_flow
from rdvfi.ops import fill_occluded

FREE = 3
"""Free times of a sample, beside its knots."""
STRIDE = 8
SIZE = (160, 256)
REACH = 90.0
COARSE_STRIDE = 2

KINDS = ("procedural", "film")

Sample = dict[str, np.ndarray]
"""Arrays of one sample by name, in the types in which they are kept."""
MakeSample = Callable[[int], Sample]
"""Makes a sample by its number."""


def classical_flows(first: UInt8[np.ndarray, "h w 3"], last: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "2 2 h w"]:
    """The flow of `sift-dis` from each picture to the other, in pixels."""
    import cv2

    from rdvfi.motion.flow.similarity_hypotheses import DIS, Keypoints, similarity_flow

    dis, find = DIS("medium"), Keypoints()
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    fields = [similarity_flow(dis, a, b, find) for a, b in (gray, gray[::-1])]
    return torch.from_numpy(np.stack(fields)).permute(0, 3, 1, 2).contiguous()


def _coarse(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Coarse flow both ways, (2, 2, h / 2, w / 2), in pixels of that half-size grid.

    As the compact backbone estimates it: occluded points have the flow of their surroundings.
    """
    flows = classical_flows(first, last).split(1)
    h, w = first.shape[:2]
    half = (h // COARSE_STRIDE, w // COARSE_STRIDE)
    small = [resize_flow(flow, half) for flow in fill_occluded(*flows)]
    return torch.cat(small).numpy().astype(np.float16)


def stored(batch: Batch) -> Sample:
    """A sample in stored form: frames (t, h, w, 3) in 8 bits, flows in half precision."""
    sample = {name: value[0].numpy() for name, value in batch.items()}
    frames = (255.0 * sample["frames"].transpose(0, 2, 3, 1)).round().astype(np.uint8)
    kept = {"times": np.float32, "visible": bool}
    halves = {name: kept.get(name, np.float16) for name, value in sample.items() if value.dtype != bool}
    return {name: value.astype(halves.get(name, bool)) for name, value in sample.items()} | {"frames": frames}


def _maker(data: Path, kind: str, size: tuple[int, int], seed: int) -> MakeSample:
    if kind == "film":
        film = Film(data / "film.npy")

        def make(number: int) -> Sample:
            return film_sample(np.random.default_rng([seed, number]), film, size, free=FREE)
    else:
        pictures = torch.from_numpy(load_textures(data))
        moving = MovingTextures(pictures, size, free=FREE, stride=STRIDE, recipe=SceneRecipe(reach=REACH))

        def make(number: int) -> Sample:
            return stored(moving.samples([number], seed))

    def with_coarse(number: int) -> Sample:
        sample = make(number)
        return {**sample, "coarse": _coarse(sample["frames"][0], sample["frames"][KNOTS - 1])}

    return with_coarse


def build_pool(
    data: Path, folder: Path, kind: str, count: int, *, size: tuple[int, int] = SIZE, seed: int = 1, workers: int = 2
) -> None:
    """Make ``count`` samples of one kind in ``folder``; nothing is done if they are there.

    Args:
        data: Folder made by ``rdvfi data build``.
        folder: Where the samples go; it appears when all are made.
        kind: "procedural" or "film".
        count: Number of samples.
        size: (height, width) of their frames, multiples of 16.
        seed: Another seed gives other samples.
        workers: Processes.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"no samples of kind {kind!r}; expected one of {KINDS}")
    fill_folder(folder, partial(_maker, data, kind, size, seed), count, workers)


def fill_folder(folder: Path, maker: Callable[[], MakeSample], count: int, workers: int) -> None:
    """Generate a folder of samples in several processes, unless it exists; it appears when it is complete.

    Args:
        folder: Where the arrays go, as ``name.npy``; their first axis counts samples.
        maker: Called in every process; what it returns makes the samples.
        count: Number of samples.
        workers: Processes.
    """
    if folder.exists():
        return
    arrays = maker()(0)  # its shapes and types are those of all
    unfinished = folder.with_name(folder.name + ".partial")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, value in arrays.items():
        shape = (count, *value.shape)
        np.lib.format.open_memmap(unfinished / f"{name}.npy", mode="w+", dtype=value.dtype, shape=shape)
    edges = np.linspace(0, count, 4 * workers + 1).astype(int).tolist()
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(maker,)) as pool:
        jobs = [pool.submit(_fill, unfinished, range(a, b)) for a, b in itertools.pairwise(edges)]
        for job in jobs:
            job.result()
    os.replace(unfinished, folder)


_make: MakeSample
"""In each of these processes: makes its samples."""


def _begin(maker: Callable[[], MakeSample]) -> None:
    """Prepare a process once, on one thread; other processes generate too."""
    global _make
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _make = maker()


def _fill(folder: Path, part: range) -> None:
    """Generate a part of the samples."""
    arrays = {file.stem: np.load(file, mmap_mode="r+") for file in folder.glob("*.npy")}
    for number in part:
        for name, value in _make(number).items():
            arrays[name][number] = value


class Pool:
    """Samples of a folder made by `build_pool`, or by `rdvfi.data.pair_pool.build_pairs`."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no samples; make them with build_pool")
        self._arrays = {file.stem: np.load(file, mmap_mode="r") for file in files}
        self.count = len(self._arrays["frames"])

    def cache_latents(self, folder: Path, encode: Callable[[Tensor], Tensor]) -> None:
        """Encode all knots once and keep the latents beside the samples' results in ``folder``.

        They are read from there when they exist; delete the file when the encoder changes.
        """
        file = folder / "latents.npy"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            for start in range(0, self.count, 8):
                # A copy: torch does not take memory that it must not write to.
                frames = torch.from_numpy(self._arrays["frames"][start : start + 8, :KNOTS].copy())
                images = frames.permute(0, 1, 4, 2, 3).float() / 255.0
                latents = encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
                rows.append(latents.to(torch.float16).numpy())
            with atomic(file) as partial:
                np.save(partial, np.concatenate(rows))
        self._arrays["latents"] = np.load(file, mmap_mode="r")

    def batch(self, indices: list[int]) -> Batch:
        """Samples as tensors: frames (b, t, 3, h, w) in [0, 1], the rest float32."""
        rows = sorted(indices)
        batch = {name: torch.from_numpy(a[rows]) for name, a in self._arrays.items()}
        batch = {name: value.float() for name, value in batch.items()}
        batch["frames"] = batch["frames"].permute(0, 1, 4, 2, 3) / 255.0
        return batch

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, each pass over the samples in a new order; see `rdvfi.data.sources`.

        Raises:
            ValueError: If the pool has fewer samples than one batch.
        """
        check(size, start)
        if size > self.count:
            raise ValueError(f"the pool has {self.count} samples, too few for batches of {size}")
        return self._shuffled(size, seed, start)

    def _shuffled(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        whole = self.count // size
        for epoch in itertools.count(start // whole):
            order = np.random.default_rng([seed, epoch]).permutation(self.count)
            for index in range(start % whole, whole):
                yield self.batch(order[index * size : (index + 1) * size].tolist())
            start = 0
