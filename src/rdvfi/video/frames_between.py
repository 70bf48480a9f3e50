"""New frames between neighbouring frames of a stream, as tensors.

Each frame is the last one of a pair and then the first one of the next: what the model knows of it
is used twice. New frames are drawn a few timesteps at a time, so that memory holds few of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rdvfi._inputs import check_count, read_seed
from rdvfi._memory import is_out_of_memory
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator
from rdvfi.media.video_files.letterbox import Letterbox
from rdvfi.types import Image
from rdvfi.video.scene_changes import SceneChanges

Static = Bool[np.ndarray, "H W"]
"""Pixels that stand still."""
Mask = Static | Literal["auto"] | None
"""Pixels that stand still: where, ``auto`` to find them, or none."""

_RENDER_BYTES = 2**28
"""New frames that are drawn at once: about this many bytes of float32 pixels."""


@dataclass(frozen=True, eq=False)
class Between:
    """What lies between two frames."""

    frames: Iterator[Float[Tensor, "3 H W"]]
    """The new frames, each as soon as it is drawn."""
    same_scene: bool
    confidence: float
    reason: str
    """Why they are taken for one scene, or for two."""
    content: tuple[str, ...] = ()
    """What else they show: see `rdvfi.content.Content.names`."""
    way: str = "interpolated"
    """What the new frames are: interpolated, cross-faded or held."""


class Pairs:
    """Makes the frames between two frames, pair after pair.

    Args:
        model: Makes them.
        seed: Seed of the noise, the same for every pair.
        chunk: Timesteps drawn at once; None chooses by the frame size.
        scenes: Which frames are of two scenes, and what is shown between those.
        bars: Bars around the picture: they stay as they are, and the model sees what is between them.
        mask: Pixels that stand still whatever moves behind them.

    Raises:
        ValueError: If ``chunk`` is below 1.
    """

    def __init__(
        self,
        model: Interpolator,
        *,
        seed: int = 0,
        chunk: int | None = None,
        scenes: SceneChanges | None = None,
        bars: Letterbox | None = None,
        mask: Static | None = None,
    ) -> None:
        if chunk is not None:
            check_count("chunk", chunk)
        read_seed(seed)
        self._model = model
        self._seed = seed
        self._chunk = chunk
        self._scenes = scenes or SceneChanges()
        self._bars = bars or Letterbox()
        self._static = None if mask is None else torch.from_numpy(mask)[None, None]
        self._previous: tuple[Tensor, Motion] | None = None
        self._sums: list[Tensor] = []

    def forget(self) -> None:
        """Make the next pair as if it were the first: nothing of the one before is used."""
        self._previous = None

    def between(
        self, first: Image, last: Image, timesteps: Sequence[float], *, static: Static | None = None
    ) -> Between:
        """The frames at ``timesteps`` between two frames, (1, 3, H, W) in [0, 1] on the model's device.

        Args:
            first: First frame.
            last: Last frame.
            timesteps: Where new frames are wanted.
            static: Pixels of this pair that stand still, of the picture without its bars.

        Raises:
            MemoryError: If there is not enough memory, here or while frames are drawn.
        """
        motion = self._estimate(first, last, [static])
        self._previous = (last, motion)
        return self._between(motion, 0, self._shown(first, last, motion, timesteps))

    def together(
        self, images: Sequence[Image], timesteps: Sequence[float], statics: Sequence[Static | None]
    ) -> list[Between]:
        """The frames at ``timesteps`` between each two neighbours of some frames, all made at once.

        Pixels that stand still are given for each pair, as of `between`.

        Raises:
            MemoryError: If there is not enough memory.
        """
        self.forget()
        first, last = torch.cat(list(images[:-1])), torch.cat(list(images[1:]))
        motion = self._estimate(first, last, statics)
        drawn = list(self._drawn(first, last, motion, timesteps))
        between = []
        for k, pair in enumerate(pairwise(images)):
            held = self._held(*pair, timesteps) if self._holds(motion, k) else None
            between.append(self._between(motion, k, held or iter([frames[k] for frames in drawn])))
        return between

    def _between(self, motion: Motion, sample: int, frames: Iterator[Float[Tensor, "3 H W"]]) -> Between:
        """What is told of a pair, and its frames."""
        scene, content = motion.scene, () if motion.content is None else motion.content.names(sample)
        one_scene = bool(scene.same_scene[sample])
        way = "interpolated" if one_scene else "held" if self._scenes.holds else "cross-faded"
        return Between(frames, one_scene, float(scene.confidence[sample]), scene.reason(sample), content, way)

    def along(self, first: Image, last: Image, timesteps: Sequence[float]) -> Iterator[Float[Tensor, "3 H W"]]:
        """Other pictures of the two frames of the latest pair, moved as those are: their transparency."""
        assert self._previous is not None
        return self._shown(first, last, self._previous[1], timesteps)

    def _shown(
        self, first: Image, last: Image, motion: Motion, timesteps: Sequence[float]
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        """What is drawn, or held where there are two scenes."""
        if self._holds(motion, 0):
            return self._held(first, last, timesteps)
        return (frames[0] for frames in self._drawn(first, last, motion, timesteps))

    def _holds(self, motion: Motion, sample: int) -> bool:
        return self._scenes.holds and not bool(motion.scene.same_scene[sample])

    def _held(self, first: Image, last: Image, timesteps: Sequence[float]) -> Iterator[Float[Tensor, "3 H W"]]:
        return ((first if self._scenes.holds_first(t) else last)[0] for t in timesteps)

    def _estimate(self, first: Image, last: Image, statics: Sequence[Static | None]) -> Motion:
        inside = self._bars.crop
        after = self._previous[1] if self._previous is not None and self._previous[0] is first else None
        static = None
        if self._static is not None:
            self._static = self._static.to(first.device)
            static = inside(self._static.float().expand(len(first), -1, -1, -1)) > 0.5
        elif any(found is not None for found in statics):
            nowhere = np.zeros(inside(first).shape[-2:], bool)
            found = np.stack([nowhere if found is None else found for found in statics])
            static = torch.from_numpy(found)[:, None].to(first.device)
        try:
            return self._model.estimate(
                inside(first),
                inside(last),
                seed=self._seed,
                after=after,
                scene_threshold=self._scenes.threshold,
                static=static,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise self._no_memory("estimate the motion between two frames") from error

    def _drawn(
        self, first: Image, last: Image, motion: Motion, timesteps: Sequence[float]
    ) -> Iterator[Float[Tensor, "b 3 H W"]]:
        """The frames of all pairs of a batch, time after time."""
        at_most = self._chunk or max(1, _RENDER_BYTES // (4 * first.numel()))
        try:
            inside, times = self._bars.crop, iter(timesteps)
            self.check_finite()
            for part in self._model.render_parts(inside(first), inside(last), motion, timesteps, at_most=at_most):
                self._sums.append(part.sum(dtype=torch.float32))
                if not part.is_cuda:
                    self.check_finite()
                for frames in part.unbind(1):
                    timestep = next(times)
                    yield self._bars.add_bars(frames, first, last, timestep) if self._bars else frames
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            height, width = first.shape[-2:]
            raise self._no_memory(f"draw a single frame of {width}x{height}") from error

    def check_finite(self) -> None:
        """Refuse frames with values that are not finite; those of a GPU later, for that waits for it.

        Raises:
            ValueError: If there are any.
        """
        sums, self._sums = self._sums, []
        if not all(math.isfinite(float(total)) for total in sums):
            raise ValueError("the model made frames that are no pictures (values that are not finite)")

    def _no_memory(self, work: str) -> MemoryError:
        place = self._model.device
        return MemoryError(f"not enough memory on {place} to {work}; free some, or use another device")
