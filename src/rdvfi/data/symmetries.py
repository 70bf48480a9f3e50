"""Augmentation by symmetries: mirrored, flipped and time-reversed clips, with their motion.

`Symmetric` turns the batches of a source in these three ways at random, so that a pool of samples
made once is worth eight. All arrays of a sample are turned with it, exactly:

- mirrored, the horizontal motion changes its sign; upside down, the vertical one;
- backwards, a time t becomes 1 - t, the knots change their order, and the first frame and the last,
  the knot before and the knot after, change their places; so do the two pictures of a pair, and the
  flows that start there.

Latents are not turned in space: an encoder does not commute with a mirror. They are left out of
such a batch, and whoever needs them encodes its frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rdvfi.data.pair_pool import EXACT, FLOWS, VISIBLE
from rdvfi.data.sources import ENDS_ONLY, Batch, BatchSource
from rdvfi.data.synthetic.procedural_source import KNOTS

_STREAM = 8
"""Sets these random numbers apart from those that a source draws from the same seed."""
_SCALARS = frozenset({"times", EXACT, ENDS_ONLY})
_PLAIN = frozenset({"frames", "visible", "teacher_mask", *VISIBLE.values()})
_VECTORS = frozenset({"flows", "coarse", "teacher", *FLOWS.values()})
_LATENTS = "latents"
KNOWN = _SCALARS | _PLAIN | _VECTORS | {_LATENTS}
"""What of a batch can be turned; see `rdvfi.training.objectives.clip_batch.ClipBatch` and `rdvfi.data.pair_pool`."""


@dataclass(frozen=True, eq=False)
class Symmetric:
    """A source whose batches are turned at random, each as a whole.

    Batch ``i`` depends on ``(size, seed, i)`` alone, as a source's must.
    """

    source: BatchSource

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.source.batches(size, seed, start), start):
            across, down, back = np.random.default_rng([seed, index, _STREAM]).random(3) < 0.5
            yield turned(batch, across=bool(across), down=bool(down), back=bool(back))


def turned(batch: Batch, *, across: bool = False, down: bool = False, back: bool = False) -> Batch:
    """A batch in a mirror (``across``), upside down (``down``) or played backwards (``back``).

    Raises:
        ValueError: If the batch holds an entry whose transformation is not defined.
    """
    unknown = sorted(batch.keys() - KNOWN)
    if unknown:
        raise ValueError(f"cannot turn {unknown} of a batch; expected some of {sorted(KNOWN)}")
    if across:
        batch = _mirrored(batch, axis=-1, component=0)
    if down:
        batch = _mirrored(batch, axis=-2, component=1)
    return _reversed(batch) if back else batch


def _mirrored(batch: Batch, *, axis: int, component: int) -> Batch:
    flipped = {}
    for name, value in batch.items():
        if name == _LATENTS:
            continue
        flipped[name] = value if name in _SCALARS else value.flip(axis)
        if name in _VECTORS:
            sign = torch.ones(2, 1, 1, dtype=value.dtype, device=value.device)
            sign[component] = -1.0
            flipped[name] = flipped[name] * sign
    return flipped


def _reversed(batch: Batch) -> Batch:
    fixed = 2 if ENDS_ONLY in batch else KNOTS
    ways = {
        "frames": lambda frames: _in_time(frames, fixed),
        "times": lambda times: 1.0 - _in_time(times, fixed),
        "flows": lambda flows: _ends_and_neighbours(_in_time(flows, fixed)),
        "visible": lambda visible: _ends_and_neighbours(_in_time(visible, fixed)),
        "coarse": lambda coarse: coarse.flip(1),
        _LATENTS: lambda latents: latents.flip(1),
        "teacher": lambda flows: flows.flip(2),
        "teacher_mask": lambda mask: 1.0 - mask,
        EXACT: lambda value: value,
        ENDS_ONLY: lambda value: value,
        **dict.fromkeys((*FLOWS.values(), *VISIBLE.values()), lambda both: both.flip(1)),
    }
    return {name: ways[name](value) for name, value in batch.items()}


def _in_time(value: Tensor, fixed: int) -> Tensor:
    """The knots, or the two ends, in the other order; the free times stay where they are."""
    return torch.cat((value[:, :fixed].flip(1), value[:, fixed:]), dim=1)


def _ends_and_neighbours(value: Tensor) -> Tensor:
    """To the first, the last, the knot before, the knot after: each pair changes places."""
    return value[:, :, [1, 0, 3, 2]]
