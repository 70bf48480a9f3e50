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
from rdvfi.data.sources import BatchSource, SampleStream, interleave_sources
from rdvfi.data.symmetries import SymmetryAugmentation
from rdvfi.data.synthetic.procedural_source import MovingTextures
from rdvfi.data.synthetic.textures import PicturePyramid
from rdvfi.interpolator import Interpolator
from rdvfi.media.clip import find_clips
from rdvfi.media.image_files.images import list_images
from rdvfi.training.objectives.objective import Batch, Report
from rdvfi.training.stage import DataConfig, SourceKind
from rdvfi.training.teacher import teach

_SEEDS_APART = 100_003
"""Between processes; beside it, sources that take turns use neighbouring seeds."""


@dataclass(frozen=True, eq=False)
class TakingTurns:
    """Sources that take turns, as a `rdvfi.training.objectives.objective.Feed`.

    With ``n`` processes, process ``r`` asks for batches ``r, r + n, ...``: it draws from a seed of
    its own, so that nothing is made that another process uses.
    """

    sources: list[BatchSource]
    size: int
    seed: int

    def batches(self, start: int, step: int = 1) -> Iterator[Batch]:
        rank = start % step
        return interleave_sources(self.sources, self.size, self.seed + _SEEDS_APART * rank, start // step)


def open_feed(
    config: DataConfig, model: Interpolator, cache: Path, report: Report, device: torch.device | None = None
) -> TakingTurns:
    """The batches of a stage.

    Args:
        config: Which.
        model: Its encoder makes the latents that are cached.
        cache: Folder of caches.
        report: Receives progress lines.
        device: Where procedural scenes are made; the CPU by default.

    Raises:
        FileNotFoundError: If the data folder lacks what is needed.
        ValueError: If it holds something unusable.
        ImportError: If the teacher that it names is not installed.
    """
    sources = _sources(config, model, cache, report, device or torch.device("cpu"))
    if config.symmetries:
        sources = [SymmetryAugmentation(source) for source in sources]
    return TakingTurns(sources, config.batch, config.seed)


def _sources(
    config: DataConfig, model: Interpolator, cache: Path, report: Report, place: torch.device
) -> list[BatchSource]:
    check_material(config)
    data = Path(config.folder)
    if config.source in (SourceKind.moving, SourceKind.moving_pairs):
        return _made(data, config, place)
    if config.source is SourceKind.clips:
        clips = find_clips(data)
        drawn = ClipWindows(clips, config.shape, knots=config.knots, free=config.free, held_out=config.held_out)
        windows = drawn.source(workers=config.workers)
        return (
            [PhotometricAugmentation(windows, config.colours, same_for_all_frames=True)]
            if config.colours
            else [windows]
        )
    if config.source is SourceKind.vimeo:
        return [Vimeo90K.find(data, size=config.shape).source(workers=config.workers)]
    if config.source is SourceKind.crops:
        height, width = config.size
        if height != width:
            raise ValueError(f"crops are square; got data.size={config.size}")
        return [SampleStream(crops(_pictures(data), height), workers=config.workers)]
    pools: list[BatchSource] = [
        _pool(data, kind, count, config, model, cache, report, place)
        for kind, count in zip(config.kinds, config.samples, strict=True)
    ]
    return (
        [PhotometricAugmentation(pool, config.colours) for pool in pools]
        if config.source is SourceKind.pairs
        else pools
    )


def _made(data: Path, config: DataConfig, device: torch.device) -> list[BatchSource]:
    """Procedural scenes, drawn on ``device`` from the pictures of a folder."""
    pictures = torch.from_numpy(load_textures(data)).to(device)
    if config.source is SourceKind.moving_pairs:
        pairs = MovingPairs(PicturePyramid(pictures), config.shape)
        return [PhotometricAugmentation(pairs, config.colours) for _ in config.kinds]
    return [MovingTextures(pictures, config.shape, free=config.free) for _ in config.kinds]


def _pool(
    data: Path,
    kind: str,
    count: int,
    config: DataConfig,
    model: Interpolator,
    cache: Path,
    report: Report,
    device: torch.device,
) -> Pool:
    pairs = config.source is SourceKind.pairs
    folder = _pool_folder(data, kind, config)
    if not folder.exists():
        report(f"making {count} {kind} {'pairs' if pairs else 'samples'} in {folder}")
        make = build_pairs if pairs else build_pool
        make(data, folder, kind, count, size=config.shape, workers=max(1, config.workers))
    if pairs:
        return Pool(folder)
    if config.teacher is not None and kind == "film":
        teach(folder, config.teacher, report, device)
    pool = Pool(folder)
    if config.cache_latents:
        name = f"latents-{kind}"
        own = cache / f"{name}-{encoder_digest(model, folder)}"
        for stale in cache.glob(f"{name}-*"):
            if stale != own:
                report(f"{stale} was made by another encoder or from other samples: deleted")
                shutil.rmtree(stale)
        with torch.no_grad():
            pool.cache_latents(own, model.generator.encode)
    return pool


def film_pool(config: DataConfig) -> Path:
    """Where the film of a stage's pools is, or will be."""
    return Path(config.folder) / "pool" / "film"


def _pool_folder(data: Path, kind: str, config: DataConfig) -> Path:
    return data / "pool" / (f"pairs-{kind}" if config.source is SourceKind.pairs else kind)


def encoder_digest(model: Interpolator, folder: Path) -> str:
    """A hash of the weights that make latents, and of which samples they are made from."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    frames = folder / "frames.npy"
    digest.update(str((frames.stat().st_size, frames.stat().st_mtime_ns)).encode())
    network = getattr(model.generator, "denoiser", None)
    trained = set() if network is None else {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
    for name, tensor in model.generator.state_dict(keep_vars=True).items():
        if id(tensor) not in trained and not name.startswith("coarse."):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_material(config: DataConfig) -> None:
    """Check that the source material of a stage exists; nothing is generated.

    Raises:
        FileNotFoundError: If something is missing.
        NotADirectoryError: If ``data.folder`` is no folder.
        ValueError: If a kind of samples is unknown, or the teacher's answers cannot be had.
    """
    data = Path(config.folder)
    if not data.exists():
        raise FileNotFoundError(f"data.folder {data} does not exist")
    if not data.is_dir():
        raise NotADirectoryError(f"data.folder {data} is a file; expected a folder")
    if config.source in (SourceKind.moving, SourceKind.moving_pairs):
        for kind in config.kinds:
            if kind != "procedural":
                raise ValueError(
                    f"data.source={config.source.name} makes no samples of kind {kind!r}; set data.kinds=[procedural]"
                )
    if config.source in (SourceKind.pool, SourceKind.pairs):
        for kind in config.kinds:
            if kind not in SAMPLE_KINDS:
                raise ValueError(f"no samples of kind {kind!r}; expected one of {', '.join(SAMPLE_KINDS)}")
        made = {kind: _pool_folder(data, kind, config).exists() for kind in config.kinds}
        if not made.get("film", True):
            _check_film(data)
        if not made.get("procedural", True):
            _check_pictures(data)
    elif config.source in (SourceKind.crops, SourceKind.moving, SourceKind.moving_pairs):
        _check_pictures(data)


def _check_film(data: Path) -> None:
    if not (data / "film.npy").exists():
        raise FileNotFoundError(
            f"{data} holds no film.npy; make it with rdvfi data build, or do without film: data.kinds=[procedural] "
            "data.samples=[NUMBER]"
        )


def _check_pictures(data: Path) -> None:
    if not any((data / name).exists() for name in ("photographs.npz", PICTURES_FILE)):
        try:
            list_images(data)
        except ValueError as error:
            raise FileNotFoundError(f"{error}; make pictures with rdvfi data build --only procedural") from error


def _pictures(data: Path) -> Callable[[np.random.Generator], np.ndarray]:
    film = Film(data / "film.npy") if (data / "film.npy").exists() else None
    pictures = load_pictures(data, film)

    def choose(rng: np.random.Generator) -> np.ndarray:
        if film is None or rng.random() < 0.5:
            return pictures[rng.integers(len(pictures))]
        return film.frames[film.window(rng, 2)]

    return choose


def crops(
    pictures: Callable[[np.random.Generator], np.ndarray], side: int
) -> Callable[[np.random.Generator], dict[str, np.ndarray]]:
    """A function of a random generator that cuts a square from a picture, reduced at random."""

    def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
        import cv2

        picture = pictures(rng)
        scale = rng.uniform(0.4, 1.0)
        h, w = (max(side, int(n * scale)) for n in picture.shape[:2])
        picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        return {"frames": picture[y : y + side, x : x + side][None]}

    return make
