"""A pool of training samples on disk, generated once and read by every stage of training.

Each sample has frames at the nine knots and at three free times, the coarse flow between its ends,
and, for procedural scenes, exact flows (`rdvfi.data.synthetic.procedural_source` generates the same without a
pool). A teacher may add its flows and mask at the free times (`rdvfi.training.teacher`). A pool is
a folder of memory-mapped arrays, so it may be larger than memory.
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
from rdvfi.data.samples import Film, load_textures, sample_film
from rdvfi.data.sources import Batch, check_batch_request
from rdvfi.data.synthetic.procedural_source import KNOTS, MovingTextures
from rdvfi.data.synthetic.sampler import SceneRecipe
from rdvfi.geometry import resize_flow
from rdvfi.ops import fill_occluded

FREE_FRAMES = 3
"""Free frames of a sample in addition to its knots."""
FLOW_STRIDE = 8
"""Exact flow is stored at the centres of cells of this many pixels."""
FRAME_SIZE = (160, 256)
MAX_DISPLACEMENT = 90.0
"""`SceneRecipe.reach` of procedural scenes of `FRAME_SIZE`, in pixels."""
COARSE_STRIDE = 2
POOL_SEED = 1

SAMPLE_KINDS = ("procedural", "film")

Sample = dict[str, np.ndarray]
"""Arrays of one sample by name, with the dtypes in which they are stored."""
MakeSample = Callable[[int], Sample]
"""Makes the sample with a given number."""


def classical_flows(first: UInt8[np.ndarray, "h w 3"], last: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "2 2 h w"]:
    """The flow of `sift-dis` in both directions, in pixels."""
    import cv2

    from rdvfi.motion.flow.similarity_hypotheses import DIS, Keypoints, similarity_flow

    dis, keypoints = DIS("medium"), Keypoints()
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    fields = [similarity_flow(dis, a, b, keypoints) for a, b in (gray, gray[::-1])]
    return torch.from_numpy(np.stack(fields)).permute(0, 3, 1, 2).contiguous()


def _coarse_flow(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Coarse flow in both directions, (2, 2, h / 2, w / 2), in pixels of that half-size grid.

    As in the compact backbone, occluded points get the flow of their surroundings.
    """
    flows = classical_flows(first, last).split(1)
    h, w = first.shape[:2]
    half = (h // COARSE_STRIDE, w // COARSE_STRIDE)
    small = [resize_flow(flow, half) for flow in fill_occluded(*flows)]
    return torch.cat(small).numpy().astype(np.float16)


def to_storage(batch: Batch) -> Sample:
    """The sample of a batch of one, as stored: frames (t, h, w, 3) in 8 bits, flows in half precision."""
    sample = {name: value[0].numpy() for name, value in batch.items()}
    frames = (255.0 * sample["frames"].transpose(0, 2, 3, 1)).round().astype(np.uint8)
    dtypes = {name: bool if value.dtype == bool else np.float16 for name, value in sample.items()}
    dtypes |= {"times": np.float32, "visible": bool}
    return {name: value.astype(dtypes[name]) for name, value in sample.items()} | {"frames": frames}


def _create_sample_maker(data: Path, kind: str, size: tuple[int, int]) -> MakeSample:
    if kind == "film":
        film = Film(data / "film.npy")

        def make(number: int) -> Sample:
            return sample_film(np.random.default_rng([POOL_SEED, number]), film, size, free=FREE_FRAMES)
    else:
        pictures = torch.from_numpy(load_textures(data))
        moving = MovingTextures(
            pictures, size, free=FREE_FRAMES, stride=FLOW_STRIDE, recipe=SceneRecipe(reach=MAX_DISPLACEMENT)
        )

        def make(number: int) -> Sample:
            return to_storage(moving.samples([number], POOL_SEED))

    def with_coarse(number: int) -> Sample:
        sample = make(number)
        return {**sample, "coarse": _coarse_flow(sample["frames"][0], sample["frames"][KNOTS - 1])}

    return with_coarse


def build_pool(
    data: Path, folder: Path, kind: str, count: int, *, size: tuple[int, int] = FRAME_SIZE, workers: int = 2
) -> None:
    """Generate ``count`` samples in ``folder`` from the folder ``data`` of ``rdvfi data build``.

    Nothing is done if the folder exists; it appears when all samples are complete. ``kind`` is one of `SAMPLE_KINDS`;
    ``size``, (height, width), must be multiples of 16.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    if kind not in SAMPLE_KINDS:
        raise ValueError(f"no samples of kind {kind!r}; expected one of {SAMPLE_KINDS}")
    fill_folder(folder, partial(_create_sample_maker, data, kind, size), count, workers)


def fill_folder(folder: Path, create_maker: Callable[[], MakeSample], count: int, workers: int) -> None:
    """Generate a folder of arrays, ``name.npy``, of ``count`` samples, unless it exists; it appears when complete.

    ``create_maker`` is called once in each of the ``workers`` processes and returns the function that makes samples.
    """
    if folder.exists():
        return
    arrays = create_maker()(0)  # all samples have the same shapes and dtypes
    unfinished = folder.with_name(folder.name + ".partial")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, value in arrays.items():
        shape = (count, *value.shape)
        np.lib.format.open_memmap(unfinished / f"{name}.npy", mode="w+", dtype=value.dtype, shape=shape)
    bounds = np.linspace(0, count, 4 * workers + 1).astype(int).tolist()
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(create_maker,)) as pool:
        jobs = [pool.submit(_write_samples, unfinished, range(a, b)) for a, b in itertools.pairwise(bounds)]
        for job in jobs:
            job.result()
    os.replace(unfinished, folder)


_make_sample: MakeSample
"""Makes the samples of this worker process."""


def _start_worker(create_maker: Callable[[], MakeSample]) -> None:
    global _make_sample
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _make_sample = create_maker()


def _write_samples(folder: Path, numbers: range) -> None:
    arrays = {file.stem: np.load(file, mmap_mode="r+") for file in folder.glob("*.npy")}
    for number in numbers:
        for name, value in _make_sample(number).items():
            arrays[name][number] = value


class Pool:
    """The samples of a folder of `build_pool` or `rdvfi.data.pair_pool.build_pairs`."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder} contains no samples; make them with build_pool")
        self._arrays = {file.stem: np.load(file, mmap_mode="r") for file in files}
        self.count = len(self._arrays["frames"])

    def cache_latents(self, folder: Path, encode: Callable[[Tensor], Tensor]) -> None:
        """Encode the frames at the knots and store the latents in ``folder``, unless they exist.

        Batches then contain ``latents``. The folder must be deleted when the encoder changes.
        """
        file = folder / "latents.npy"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            for start in range(0, self.count, 8):
                # torch warns of read-only memory, so the frames are copied.
                frames = torch.from_numpy(self._arrays["frames"][start : start + 8, :KNOTS].copy())
                images = frames.permute(0, 1, 4, 2, 3).float() / 255.0
                latents = encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
                rows.append(latents.to(torch.float16).numpy())
            with atomic(file) as partial:
                np.save(partial, np.concatenate(rows))
        self._arrays["latents"] = np.load(file, mmap_mode="r")

    def batch(self, indices: list[int]) -> Batch:
        """The samples with these indices, in ascending order: ``frames`` (b, t, 3, h, w) in [0, 1], all float32."""
        rows = sorted(indices)
        batch = {name: torch.from_numpy(array[rows]).float() for name, array in self._arrays.items()}
        batch["frames"] = batch["frames"].permute(0, 1, 4, 2, 3) / 255.0
        return batch

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; every pass over the samples has a new order. See `rdvfi.data.sources`.

        Raises:
            ValueError: If the pool has fewer samples than one batch.
        """
        check_batch_request(size, start)
        if size > self.count:
            raise ValueError(f"the pool has {self.count} samples, too few for batches of {size}")
        return self._shuffled_batches(size, seed, start)

    def _shuffled_batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        batches_per_epoch = self.count // size
        for epoch in itertools.count(start // batches_per_epoch):
            order = np.random.default_rng([seed, epoch]).permutation(self.count)
            for index in range(start % batches_per_epoch, batches_per_epoch):
                yield self.batch(order[index * size : (index + 1) * size].tolist())
            start = 0
