"""Augmentation by symmetries: mirrored, flipped and time-reversed clips, with their motion.

`SymmetryAugmentation` applies these three transformations at random to the batches of a source, so a pool of
samples has the variety of eight. All arrays of a sample are transformed consistently and exactly:

- a mirrored batch has the opposite horizontal motion, a flipped one the opposite vertical motion;
- in a reversed batch a time t becomes 1 - t, the order of the knots is reversed, and flows to the first and
  the last frame, and to the previous and the next knot, are exchanged; so are the two pictures of a pair and
  the flows that start there.

Latents cannot be mirrored, since an encoder does not commute with a mirror. They are left out of such a batch,
and are computed from its frames where they are needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rdvfi.data.pair_pool import EXACT, FLOWS, VISIBLE
from rdvfi.data.sources import ENDS_ONLY, Batch, BatchSource
from rdvfi.data.synthetic.procedural_source import KNOTS

_RANDOM_STREAM = 8
"""Separates these random numbers from those that a source derives from the same seed."""
_SCALARS = frozenset({"times", EXACT, ENDS_ONLY})
_MAPS = frozenset({"frames", "visible", "teacher_mask", *VISIBLE.values()})
_FLOW_FIELDS = frozenset({"flows", "coarse", "teacher", *FLOWS.values()})
_LATENTS = "latents"
SUPPORTED_KEYS = _SCALARS | _MAPS | _FLOW_FIELDS | {_LATENTS}
"""Keys of a batch that can be transformed; see `rdvfi.training.objectives.clip_batch.ClipBatch` and
`rdvfi.data.pair_pool`."""


@dataclass(frozen=True, eq=False)
class SymmetryAugmentation:
    """A source whose batches are transformed at random, all samples of a batch alike.

    Batch ``i`` depends on ``(size, seed, i)`` alone, as `rdvfi.data.sources` requires.
    """

    source: BatchSource

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.source.batches(size, seed, start), start):
            mirror, flip, reverse = np.random.default_rng([seed, index, _RANDOM_STREAM]).random(3) < 0.5
            yield transform_batch(batch, mirror=bool(mirror), flip=bool(flip), reverse=bool(reverse))


def transform_batch(batch: Batch, *, mirror: bool = False, flip: bool = False, reverse: bool = False) -> Batch:
    """A batch that is mirrored horizontally, flipped vertically, or reversed in time.

    Raises:
        ValueError: If the batch has a key whose transformation is not defined.
    """
    unknown = sorted(batch.keys() - SUPPORTED_KEYS)
    if unknown:
        raise ValueError(f"cannot transform {unknown} of a batch; expected some of {sorted(SUPPORTED_KEYS)}")
    if mirror:
        batch = _flip_axis(batch, axis=-1, component=0)
    if flip:
        batch = _flip_axis(batch, axis=-2, component=1)
    return _reverse_time(batch) if reverse else batch


def _flip_axis(batch: Batch, *, axis: int, component: int) -> Batch:
    """Flip all maps along an axis and negate that component of flows; latents are left out."""
    flipped = {}
    for name, value in batch.items():
        if name == _LATENTS:
            continue
        flipped[name] = value if name in _SCALARS else value.flip(axis)
        if name in _FLOW_FIELDS:
            sign = torch.ones(2, 1, 1, dtype=value.dtype, device=value.device)
            sign[component] = -1.0
            flipped[name] = flipped[name] * sign
    return flipped


def _reverse_time(batch: Batch) -> Batch:
    fixed = 2 if ENDS_ONLY in batch else KNOTS
    reverse_by_key = {
        "frames": lambda frames: _reverse_fixed(frames, fixed),
        "times": lambda times: 1.0 - _reverse_fixed(times, fixed),
        "flows": lambda flows: _swap_targets(_reverse_fixed(flows, fixed)),
        "visible": lambda visible: _swap_targets(_reverse_fixed(visible, fixed)),
        "coarse": lambda coarse: coarse.flip(1),
        _LATENTS: lambda latents: latents.flip(1),
        "teacher": lambda flows: flows.flip(2),
        "teacher_mask": lambda mask: 1.0 - mask,
        EXACT: lambda value: value,
        ENDS_ONLY: lambda value: value,
        **dict.fromkeys((*FLOWS.values(), *VISIBLE.values()), lambda both: both.flip(1)),
    }
    return {name: reverse_by_key[name](value) for name, value in batch.items()}


def _reverse_fixed(value: Tensor, fixed: int) -> Tensor:
    """Reverse the order of the first ``fixed`` frames, the knots or the ends; free frames keep their places."""
    return torch.cat((value[:, :fixed].flip(1), value[:, fixed:]), dim=1)


def _swap_targets(value: Tensor) -> Tensor:
    """Exchange the targets first and last frame, and previous and next knot."""
    return value[:, :, [1, 0, 3, 2]]
