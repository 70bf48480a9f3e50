"""Vimeo-90K in its published layouts (Xue et al., "Video Enhancement with Task-Oriented Flow").

Triplets: ``tri_trainlist.txt`` names folders of ``sequences/`` with ``im1.png`` to ``im3.png``.
Septuplets: ``sep_trainlist.txt``, with ``im1.png`` to ``im7.png``. Samples have the order of `ClipWindows`
with ``knots=False``: the two ends, then the frames between them at their own times.
"""

from pathlib import Path

import numpy as np

from rdvfi.data.datasets.clip_folder import random_crop
from rdvfi.data.sources import ENDS_ONLY, SampleStream

LAYOUTS = {"triplet": ("tri", 3), "septuplet": ("sep", 7)}
SPLITS = ("train", "test")


class Vimeo90K:
    """Random samples of one split; `source` makes batches of them.

    Args:
        root: Folder of the data set, with the lists and ``sequences/``.
        layout: "triplet" or "septuplet".
        split: "train" or "test".
        size: (height, width) of the crops, at most (256, 448), the size of the frames.

    Raises:
        FileNotFoundError: If the list is missing.
        ValueError: If the layout or split is unknown, or the list is empty.
    """

    def __init__(
        self, root: Path, layout: str = "septuplet", *, split: str = "train", size: tuple[int, int] = (256, 448)
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"no layout {layout!r}; expected one of {tuple(LAYOUTS)}")
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; expected one of {SPLITS}")
        prefix, self._length = LAYOUTS[layout]
        list_file = root / f"{prefix}_{split}list.txt"
        if not list_file.is_file():
            raise FileNotFoundError(f"{list_file} is missing; {root} is no Vimeo-90K {layout} set")
        names = [line.strip() for line in list_file.read_text().splitlines()]
        self._folders = [root / "sequences" / name for name in names if name]
        if not self._folders:
            raise ValueError(f"{list_file} names no sequences")
        self._size = size

    @classmethod
    def find(cls, root: Path, *, size: tuple[int, int]) -> "Vimeo90K":
        """The training split of the data set in ``root``; septuplets are preferred to triplets.

        Raises:
            FileNotFoundError: If there is no data set.
        """
        for layout, (prefix, _) in sorted(LAYOUTS.items()):
            if (root / f"{prefix}_trainlist.txt").is_file():
                return cls(root, layout, size=size)
        raise FileNotFoundError(f"{root} is no Vimeo-90K set: it has neither sep_trainlist.txt nor tri_trainlist.txt")

    def __len__(self) -> int:
        return len(self._folders)

    def frames(self, number: int) -> list[np.ndarray]:
        """The frames of one sequence in order, 8-bit RGB.

        Raises:
            FileNotFoundError: If one is missing.
            ValueError: If one is damaged.
        """
        from rdvfi.media.image_files.images import read_image

        folder = self._folders[number]
        return [read_image(folder / f"im{i}.png") for i in range(1, self._length + 1)]

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A random sequence in random direction, randomly cropped and mirrored."""
        frames = self.frames(int(rng.integers(len(self))))
        last = self._length - 1
        order = np.array([0, last, *range(1, last)])
        times = (order / last).astype(np.float32)
        order = last - order if rng.random() < 0.5 else order
        window = random_crop(rng, [frames[i] for i in order], self._size)
        return {"frames": window, "times": times, ENDS_ONLY: np.array(True)}

    def source(self, *, workers: int = 1) -> SampleStream:
        """Batches of ``frames`` (b, t, 3, h, w), the ends first, and ``times`` (b, t)."""
        return SampleStream(self.sample, workers=workers)
