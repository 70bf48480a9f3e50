"""A training pack: pictures and film windows in one small file that needs no decoder.

The file is an ``.npz`` of plain arrays: packed pictures (`rdvfi.data.codec`), their shapes, and the
manifest of what they were made from. It is made on a machine that has the full data, and read where
only torch and numpy are: pictures become the textures of `MovingTextures`, windows become batches
of real frames. The order of windows is drawn at random when the pack is made, so any head of it is
a fair sample.
"""

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from rdvfi.data.codec import compress, expand
from rdvfi.data.manifest import check_manifest
from rdvfi.data.samples import Film, load_pictures
from rdvfi.data.sources import Batch, check
from rdvfi.data.synthetic.moving import KNOTS
from rdvfi.data.synthetic.textures import same_size

WINDOW = 17
"""Frames of a window: two intervals to each knot, so that times between knots are real frames."""
WINDOW_SIZE = (192, 320)
PICTURE_SIZE = (352, 640)
QUALITY = 75
FORMAT = 1


def make_pack(data: Path, file: Path, *, limit: int = 24_000_000, seed: int = 1) -> int:
    """Write a pack of at most ``limit`` bytes from the training data; returns its size.

    Pictures (pieces of the photographs, and stills of the film) take at most 40 % of it; windows of
    the film, never of its held-out minutes and never across a cut, fill the rest.

    Args:
        data: Folder made by ``rdvfi data build``.
        file: The pack, ``.npz``; it appears when it is whole.
        limit: Largest size in bytes.
        seed: Another seed draws other stills and windows.

    Raises:
        ValueError: If the manifest of the data lacks something, or if not even one picture and one
            window fit.
    """
    manifest = check_manifest(data)
    film = Film(data / "film.npy")
    rng = np.random.default_rng(seed)
    pieces = same_size(load_pictures(data), PICTURE_SIZE)
    stills = same_size([np.array(film.frames[film.window(rng, 2)]) for _ in range(80)], PICTURE_SIZE)
    pictures = rng.permutation(np.concatenate((pieces, stills)))
    room = limit - 100_000  # the manifest, names and shapes
    packed = _fill((pictures[i : i + 1] for i in range(len(pictures))), 0.4 * room)
    windows = _fill(_windows(film, rng), float(room - sum(len(p) for p in packed)))
    if not packed or not windows:
        raise ValueError(f"no picture and window fit into {limit} bytes")
    arrays = {
        "format": np.array([FORMAT, QUALITY]),
        "pictures": np.concatenate(packed),
        "picture_ends": np.cumsum([len(p) for p in packed]),
        "picture_size": np.array(PICTURE_SIZE),
        "windows": np.concatenate(windows),
        "window_ends": np.cumsum([len(p) for p in windows]),
        "window_shape": np.array((WINDOW, *WINDOW_SIZE)),
        "manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(partial, file)
    return file.stat().st_size


def _fill(pictures: Iterator[UInt8[np.ndarray, "_ 3 _ _"]], room: float) -> list[UInt8[np.ndarray, " _"]]:
    """Packed pictures, as many as there is room for."""
    packed = []
    for group in pictures:
        one = compress(torch.from_numpy(np.ascontiguousarray(group)), QUALITY)
        room -= len(one)
        if room < 0:
            break
        packed.append(one)
    return packed


def _windows(film: Film, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "n 3 h w"]]:
    import cv2

    h, w = WINDOW_SIZE
    fh, fw = film.frames.shape[1:3]
    while True:
        start = film.window(rng, WINDOW)
        scale = rng.uniform(max(h / fh, w / fw), min(1.0, 2.0 * max(h / fh, w / fw)))
        sh, sw = max(h, round(fh * scale)), max(w, round(fw * scale))
        y, x = int(rng.integers(0, sh - h + 1)), int(rng.integers(0, sw - w + 1))
        frames = [
            cv2.resize(film.frames[i], (sw, sh), interpolation=cv2.INTER_AREA) for i in range(start, start + WINDOW)
        ]
        yield np.stack(frames)[:, y : y + h, x : x + w].transpose(0, 3, 1, 2)


class Pack:
    """A pack on a device; pictures and windows are unpacked once.

    Attributes:
        pictures: For `MovingTextures`, (n, 3, h, w), 8-bit.
        windows: Film, (n, t, 3, h, w), 8-bit.
        manifest: Sources, licences, hashes and split of the material.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or not a pack.
    """

    pictures: UInt8[Tensor, "n 3 h w"]
    windows: UInt8[Tensor, "m t 3 hw ww"]

    def __init__(self, file: Path, device: torch.device | str = "cpu") -> None:
        if not file.is_file():
            raise FileNotFoundError(f"there is no pack {file}; make it with rdvfi data pack")
        place = torch.device(device)
        try:
            with np.load(file) as archive:
                arrays = {name: archive[name] for name in archive.files}
            version, quality = arrays["format"].tolist()
            if version != FORMAT:
                raise ValueError(f"it has format {version}, and this version reads {FORMAT}")
            self.manifest = json.loads(arrays["manifest"].tobytes())
            picture = (1, 3, *arrays["picture_size"].tolist())
            t, h, w = arrays["window_shape"].tolist()
            groups = _parts(arrays["pictures"], arrays["picture_ends"])
            self.pictures = torch.cat([expand(g, picture, quality, place) for g in groups])
            groups = _parts(arrays["windows"], arrays["window_ends"])
            self.windows = torch.stack([expand(g, (t, 3, h, w), quality, place) for g in groups])
        except (KeyError, ValueError, OSError, EOFError) as error:
            raise ValueError(f"{file} is no readable pack: {error}") from error


def _parts(packed: UInt8[np.ndarray, " bytes"], ends: np.ndarray) -> list[UInt8[np.ndarray, " _"]]:
    return np.split(packed, ends[:-1])


class PackedFilm:
    """Batches of real frames from a pack's windows, cut and turned on their device.

    Half of the samples span 16 frames, so that the free frames between knots are real; the others
    span 8, where every frame is a knot. Times and frames are those of `MovingTextures`; there is no
    flow. Windows are cropped, mirrored, played backwards, all frames alike.
    """

    def __init__(self, pack: Pack, size: tuple[int, int] = (160, 256), *, free: int = 3) -> None:
        t, _, h, w = pack.windows.shape[1:]
        if size[0] > h or size[1] > w:
            raise ValueError(f"size is {size}; the windows of the pack have {(h, w)}")
        if t < WINDOW:
            raise ValueError(f"the windows of the pack have {t} frames; {WINDOW} are needed")
        self._windows, self._size, self._free = pack.windows, size, free

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches; sample ``j`` of batch ``i`` is drawn from ``(seed, i size + j)``."""
        check(size, start)
        return (self._batch(range(i * size, (i + 1) * size), seed) for i in count(start))

    def _batch(self, numbers: range, seed: int) -> Batch:
        samples = [self._sample(np.random.default_rng([seed, number])) for number in numbers]
        frames, times = zip(*samples, strict=True)
        stacked = torch.stack(frames).float() / 255.0
        return {"frames": stacked, "times": torch.stack(times).to(stacked.device)}

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        window = self._windows[int(rng.integers(len(self._windows)))]
        h, w = self._size
        y = int(rng.integers(window.shape[-2] - h + 1))
        x = int(rng.integers(window.shape[-1] - w + 1))
        window = window[:, :, y : y + h, x : x + w]
        step = int(rng.integers(1, 3))
        span = step * (KNOTS - 1)
        first = int(rng.integers(0, len(window) - span))
        if step == 2:
            between = rng.choice(np.arange(1, span, 2), self._free, replace=False)
        else:
            between = rng.choice(np.arange(1, span), self._free, replace=False)
        order = np.concatenate((np.arange(0, span + 1, step), np.sort(between)))
        times = torch.from_numpy(order / span).float()
        if rng.random() < 0.5:
            order = span - order
        frames = window[torch.from_numpy(order + first).to(window.device)]
        return (frames.flip(-1) if rng.random() < 0.5 else frames), times
