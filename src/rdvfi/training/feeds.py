"""Batches for the training engine, from the data configuration of a stage."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rdvfi.data.datasets.build import PICTURES_FILE
from rdvfi.data.datasets.clip_folder import ClipWindows
from rdvfi.data.datasets.vimeo import Vimeo90K
from rdvfi.data.pair_pool import MovingPairs, build_pairs
from rdvfi.data.photometric_augmentation import PhotometricAugmentation
from rdvfi.data.pool import SAMPLE_KINDS, Pool, build_pool
from rdvfi.data.samples import Film, load_pictures, load_textures
from rdvfi.data.sources import BatchSource, SampleFunction, SampleStream, interleave_sources
from rdvfi.data.symmetries import SymmetryAugmentation
from rdvfi.data.synthetic.procedural_source import MovingTextures
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.interpolator import Interpolator
from rdvfi.media.clip import find_clips
from rdvfi.media.image_files.images import list_images
from rdvfi.training.objectives.objective import Batch, Report
from rdvfi.training.stage import DataConfig, SourceKind
from rdvfi.training.teacher import add_teacher_maps

_SEED_STRIDE = 100_003
"""Difference of the seeds of neighbouring processes; interleaved sources use consecutive seeds."""
_GENERATED = (SourceKind.moving, SourceKind.moving_pairs)


@dataclass(frozen=True, eq=False)
class MixedFeed:
    """Interleaved sources, as a `rdvfi.training.objectives.objective.Feed`.

    Process ``r`` of ``n`` asks for the batches ``r, r + n, ...``. It uses a seed of its own, so that no process
    generates batches of another.
    """

    sources: list[BatchSource]
    size: int
    seed: int

    def batches(self, start: int, stride: int = 1) -> Iterator[Batch]:
        rank = start % stride
        return interleave_sources(self.sources, self.size, self.seed + _SEED_STRIDE * rank, start // stride)


def open_feed(
    config: DataConfig, model: Interpolator, cache: Path, report: Report, device: torch.device | None = None
) -> MixedFeed:
    """The batches of a stage; the model's encoder computes the latents in the folder ``cache``.

    Procedural scenes are generated on ``device``, by default the CPU.

    Raises:
        FileNotFoundError: If something is missing in the data folder.
        ValueError: If something in it cannot be used.
        ImportError: If the teacher is not installed.
    """
    check_source_material(config)
    device = device or torch.device("cpu")
    if config.source in (SourceKind.pool, SourceKind.pairs):
        pools = _Pools(config, model, cache, report, device)
        sources = [pools.open(kind, count) for kind, count in zip(config.kinds, config.samples, strict=True)]
    else:
        sources = _unpooled_sources(config, device)
    if config.symmetries:
        sources = [SymmetryAugmentation(source) for source in sources]
    return MixedFeed(sources, config.batch, config.seed)


def _unpooled_sources(config: DataConfig, device: torch.device) -> list[BatchSource]:
    """Sources of samples that are generated or read during training."""
    data = Path(config.folder)
    if config.source in _GENERATED:
        pictures = torch.from_numpy(load_textures(data)).to(device)
        if config.source is SourceKind.moving:
            return [MovingTextures(pictures, config.shape, free=config.free) for _ in config.kinds]
        pairs = MovingPairs(PicturePyramid(pictures), config.shape)
        return [PhotometricAugmentation(pairs, config.colours) for _ in config.kinds]
    if config.source is SourceKind.clips:
        windows = ClipWindows(
            find_clips(data), config.shape, knots=config.knots, free=config.free, held_out=config.held_out
        )
        source = windows.source(workers=config.workers)
        if config.colours:
            return [PhotometricAugmentation(source, config.colours, per_clip=True)]
        return [source]
    if config.source is SourceKind.vimeo:
        return [Vimeo90K.find(data, size=config.shape).source(workers=config.workers)]
    height, width = config.shape
    if height != width:
        raise ValueError(f"crops are square; got data.size={config.size}")
    return [SampleStream(random_crops(_picture_sampler(data), height), workers=config.workers)]


@dataclass(frozen=True, eq=False)
class _Pools:
    """The pools of a stage, which are built when they are first opened; arguments as for `open_feed`."""

    config: DataConfig
    model: Interpolator
    cache: Path
    report: Report
    device: torch.device

    def open(self, kind: str, count: int) -> BatchSource:
        """The pool of one kind of samples, with teacher maps, latents and augmentation as configured."""
        folder = _pool_folder(self.config, kind)
        if not folder.exists():
            self._build(folder, kind, count)
        if self.config.source is SourceKind.pairs:
            return PhotometricAugmentation(Pool(folder), self.config.colours)
        if self.config.teacher is not None and kind == "film":
            add_teacher_maps(folder, self.config.teacher, self.report, self.device)
        pool = Pool(folder)
        if self.config.cache_latents:
            self._cache_latents(pool, folder, kind)
        return pool

    def _build(self, folder: Path, kind: str, count: int) -> None:
        pairs = self.config.source is SourceKind.pairs
        self.report(f"making {count} {kind} {'pairs' if pairs else 'samples'} in {folder}")
        build, workers = build_pairs if pairs else build_pool, max(1, self.config.workers)
        build(Path(self.config.folder), folder, kind, count, size=self.config.shape, workers=workers)

    def _cache_latents(self, pool: Pool, folder: Path, kind: str) -> None:
        prefix = f"latents-{kind}"
        current = self.cache / f"{prefix}-{encoder_digest(self.model, folder)}"
        for stale in self.cache.glob(f"{prefix}-*"):
            if stale != current:
                self.report(f"{stale} was made by another encoder or from other samples: deleted")
                shutil.rmtree(stale)
        with torch.no_grad():
            pool.cache_latents(current, self.model.generator.encode)


def _pool_folder(config: DataConfig, kind: str) -> Path:
    name = f"pairs-{kind}" if config.source is SourceKind.pairs else kind
    return Path(config.folder) / "pool" / name


def encoder_digest(model: Interpolator, folder: Path) -> str:
    """A hash of the weights of the encoder, and of the identity of the samples in ``folder``."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    frames = folder / "frames.npy"
    digest.update(str((frames.stat().st_size, frames.stat().st_mtime_ns)).encode())
    denoiser = getattr(model.generator, "denoiser", None)
    denoiser_ids = set() if denoiser is None else {id(t) for t in denoiser.state_dict(keep_vars=True).values()}
    for name, tensor in model.generator.state_dict(keep_vars=True).items():
        if id(tensor) not in denoiser_ids and not name.startswith("coarse."):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_source_material(config: DataConfig) -> None:
    """Check that the source material of a stage exists; nothing is generated.

    Raises:
        FileNotFoundError: If something is missing.
        NotADirectoryError: If ``data.folder`` is not a folder.
        ValueError: If a kind of samples is unknown.
    """
    data = Path(config.folder)
    if not data.exists():
        raise FileNotFoundError(f"data.folder {data} does not exist")
    if not data.is_dir():
        raise NotADirectoryError(f"data.folder {data} is a file; expected a folder")
    if config.source in (SourceKind.pool, SourceKind.pairs):
        unknown = [kind for kind in config.kinds if kind not in SAMPLE_KINDS]
        if unknown:
            raise ValueError(f"no samples of kind {unknown[0]!r}; expected one of {', '.join(SAMPLE_KINDS)}")
        missing = {kind for kind in config.kinds if not _pool_folder(config, kind).exists()}
        if "film" in missing and not (data / "film.npy").exists():
            raise FileNotFoundError(
                f"{data} contains no film.npy; make it with rdvfi data build, or train without film: "
                "data.kinds=[procedural] data.samples=[NUMBER]"
            )
        if "procedural" in missing:
            _check_pictures(data)
        return
    if config.source in _GENERATED and (unknown := [kind for kind in config.kinds if kind != "procedural"]):
        raise ValueError(
            f"data.source={config.source.name} makes no samples of kind {unknown[0]!r}; set data.kinds=[procedural]"
        )
    if config.source in (SourceKind.crops, *_GENERATED):
        _check_pictures(data)


def _check_pictures(data: Path) -> None:
    if not any((data / name).exists() for name in ("photographs.npz", PICTURES_FILE)):
        try:
            list_images(data)
        except ValueError as error:
            raise FileNotFoundError(f"{error}; make pictures with rdvfi data build --only procedural") from error


def _picture_sampler(data: Path) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that returns a random picture, half of the time from the film if there is one."""
    film = Film(data / "film.npy") if (data / "film.npy").exists() else None
    pictures = load_pictures(data, film)

    def sample(rng: np.random.Generator) -> np.ndarray:
        if film is None or rng.random() < 0.5:
            return pictures[rng.integers(len(pictures))]
        return film.frames[film.window(rng, 2)]

    return sample


def random_crops(sample_picture: Callable[[np.random.Generator], np.ndarray], side: int) -> SampleFunction:
    """A function that cuts a random square of ``side`` pixels from a random picture at a random scale."""

    def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
        import cv2

        picture = sample_picture(rng)
        scale = rng.uniform(0.4, 1.0)
        h, w = (max(side, int(n * scale)) for n in picture.shape[:2])
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        return {"frames": picture[y : y + side, x : x + side][None]}

    return make
