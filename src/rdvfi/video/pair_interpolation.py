"""Interpolation between neighbouring frames of a stream, as tensors.

Each frame is the last one of a pair and then the first one of the next, so its features are used twice. New frames
are rendered a few timesteps at a time, to bound memory.
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

StaticMask = Bool[np.ndarray, "H W"]
"""True at static pixels."""
Mask = StaticMask | Literal["auto"] | None
"""Static pixels: where they are, ``auto`` to detect them, or none."""

_RENDER_BYTES = 2**28
"""About how many bytes of float32 pixels are rendered at once."""


@dataclass(frozen=True, eq=False)
class InterpolatedPair:
    """The new frames between two frames, and how they were made."""

    frames: Iterator[Float[Tensor, "3 H W"]]
    """The new frames, rendered lazily."""
    same_scene: bool
    """Whether both frames belong to one scene."""
    confidence: float
    """Mean confidence of the motion, in (0, 1]."""
    reason: str
    """Why the two frames are taken for one scene, or for two."""
    content: tuple[str, ...] = ()
    """What was handled besides motion; see `rdvfi.content.Content.names`."""
    way: str = "interpolated"
    """How the new frames were made: interpolated, cross-faded or held."""


class PairInterpolator:
    """Interpolates pair after pair of a stream.

    Args:
        model: The model.
        seed: Seed of the noise, the same for every pair.
        chunk: Timesteps rendered at once; None chooses by the frame size.
        scenes: How scene changes are recognised and filled.
        bars: Letterbox bars, which are copied; the model gets the picture between them.
        mask: Static pixels of all frames.

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
        mask: StaticMask | None = None,
    ) -> None:
        if chunk is not None:
            check_count("chunk", chunk)
        read_seed(seed)
        self._model, self._seed, self._chunk = model, seed, chunk
        self._scenes, self._bars = scenes or SceneChanges(), bars or Letterbox()
        self._static = None if mask is None else torch.from_numpy(mask)[None, None]
        self._previous: tuple[Tensor, Motion] | None = None
        self._sums: list[Tensor] = []

    def reset(self) -> None:
        """Forget the previous pair, so that the next one does not depend on it."""
        self._previous = None

    def interpolate(
        self, first: Image, last: Image, timesteps: Sequence[float], *, static: StaticMask | None = None
    ) -> InterpolatedPair:
        """Interpolate between two frames.

        Args:
            first: First frame, (1, 3, H, W) in [0, 1] on the model's device.
            last: Last frame, like the first.
            timesteps: Times of the new frames, in [0, 1].
            static: Static pixels of this pair, without letterbox bars.

        Raises:
            MemoryError: If there is not enough memory, here or while frames are rendered.
        """
        motion = self._estimate(first, last, [static])
        self._previous = (last, motion)
        return self._describe(motion, 0, self._render_or_hold(first, last, motion, timesteps))

    def interpolate_batch(
        self, images: Sequence[Image], timesteps: Sequence[float], statics: Sequence[StaticMask | None]
    ) -> list[InterpolatedPair]:
        """Interpolate between every two neighbours of some frames, in one batch.

        Args:
            images: Successive frames, as of `interpolate`.
            timesteps: Times of the new frames of every pair.
            statics: Static pixels of every pair.

        Raises:
            MemoryError: If there is not enough memory.
        """
        self.reset()
        first, last = torch.cat(list(images[:-1])), torch.cat(list(images[1:]))
        motion = self._estimate(first, last, statics)
        rendered = list(self._render(first, last, motion, timesteps))
        pairs = []
        for k, pair in enumerate(pairwise(images)):
            held = self._hold(*pair, timesteps) if self._is_held(motion, k) else None
            pairs.append(self._describe(motion, k, held or iter([frames[k] for frames in rendered])))
        return pairs

    def _describe(self, motion: Motion, sample: int, frames: Iterator[Float[Tensor, "3 H W"]]) -> InterpolatedPair:
        """The frames of one sample of a batch, with what its motion says of it."""
        scene, content = motion.scene, () if motion.content is None else motion.content.names(sample)
        one_scene = bool(scene.same_scene[sample])
        way = "interpolated" if one_scene else "held" if self._scenes.holds else "cross-faded"
        return InterpolatedPair(frames, one_scene, float(scene.confidence[sample]), scene.reason(sample), content, way)

    def interpolate_alpha(
        self, first: Image, last: Image, timesteps: Sequence[float]
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        """Interpolate the transparency of the latest pair with the motion of its pictures."""
        assert self._previous is not None
        return self._render_or_hold(first, last, self._previous[1], timesteps)

    def _render_or_hold(
        self, first: Image, last: Image, motion: Motion, timesteps: Sequence[float]
    ) -> Iterator[Float[Tensor, "3 H W"]]:
        if self._is_held(motion, 0):
            return self._hold(first, last, timesteps)
        return (frames[0] for frames in self._render(first, last, motion, timesteps))

    def _is_held(self, motion: Motion, sample: int) -> bool:
        return self._scenes.holds and not bool(motion.scene.same_scene[sample])

    def _hold(self, first: Image, last: Image, timesteps: Sequence[float]) -> Iterator[Float[Tensor, "3 H W"]]:
        return ((first if self._scenes.holds_first(t) else last)[0] for t in timesteps)

    def _estimate(self, first: Image, last: Image, statics: Sequence[StaticMask | None]) -> Motion:
        crop = self._bars.crop
        after = self._previous[1] if self._previous is not None and self._previous[0] is first else None
        static = None
        if self._static is not None:
            self._static = self._static.to(first.device)
            static = crop(self._static.float().expand(len(first), -1, -1, -1)) > 0.5
        elif any(mask is not None for mask in statics):
            empty = np.zeros(crop(first).shape[-2:], bool)
            masks = np.stack([empty if mask is None else mask for mask in statics])
            static = torch.from_numpy(masks)[:, None].to(first.device)
        try:
            return self._model.estimate(
                crop(first),
                crop(last),
                seed=self._seed,
                after=after,
                scene_threshold=self._scenes.threshold,
                static=static,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise self._memory_error("estimate the motion between two frames") from error

    def _render(
        self, first: Image, last: Image, motion: Motion, timesteps: Sequence[float]
    ) -> Iterator[Float[Tensor, "b 3 H W"]]:
        """The frames of all pairs of a batch, one timestep after the other."""
        at_most = self._chunk or max(1, _RENDER_BYTES // (4 * first.numel()))
        try:
            crop, times = self._bars.crop, iter(timesteps)
            self.check_finite()
            for part in self._model.render_parts(crop(first), crop(last), motion, timesteps, at_most=at_most):
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
            raise self._memory_error(f"draw a single frame of {width}x{height}") from error

    def check_finite(self) -> None:
        """Check that all frames rendered since the last call are finite; on a GPU this waits for it.

        Raises:
            ValueError: If a frame has a value that is not finite.
        """
        sums, self._sums = self._sums, []
        if not all(math.isfinite(float(total)) for total in sums):
            raise ValueError("the model returned frames with values that are not finite")

    def _memory_error(self, work: str) -> MemoryError:
        return MemoryError(f"not enough memory on {self._model.device} to {work}; free some, or use another device")
