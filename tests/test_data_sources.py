"""Sources of batches: any start index gives what an unbroken run would have seen."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdvfi.data.pool import Pool
from rdvfi.data.sources import Batch, BatchSource, SampleStream, interleave_sources


def _make(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "frames": rng.integers(0, 256, (2, 4, 4, 3), np.uint8),
        "times": rng.random(2, np.float32),
    }


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Eleven samples, each filled with its own number."""
    folder = tmp_path_factory.mktemp("pool")
    numbers = np.arange(11)
    frames = np.broadcast_to(numbers[:, None, None, None, None], (11, 2, 4, 4, 3))
    np.save(folder / "frames.npy", frames.astype(np.uint8))
    np.save(folder / "times.npy", np.broadcast_to(numbers[:, None], (11, 2)).astype(np.float32))
    return Pool(folder)


def _same(one: Iterator[Batch], other: Iterator[Batch], count: int = 4) -> bool:
    pairs = zip(islice(one, count), islice(other, count), strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in pairs)


def _numbers(batches: Iterator[Batch], count: int) -> list[int]:
    return [int(n) for batch in islice(batches, count) for n in batch["times"][:, 0]]


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 11), seed=st.integers(0, 99), start=st.integers(0, 30))
def test_starting_at_an_index_equals_skipping_batches(pool: Pool, size: int, seed: int, start: int) -> None:
    sources: list[BatchSource] = [pool, SampleStream(_make, workers=0)]
    for source in sources:
        skipped = islice(source.batches(size, seed), start, None)
        assert _same(source.batches(size, seed, start), skipped, 2)
    skipped = islice(interleave_sources(sources, size, seed), start, None)
    assert _same(interleave_sources(sources, size, seed, start), skipped, 3)


def test_a_pass_over_a_pool_holds_every_sample_once_in_an_order_of_its_own(pool: Pool) -> None:
    passes = [_numbers(pool.batches(1, 3, start), 11) for start in (0, 11, 22)]
    for order in passes:
        assert sorted(order) == list(range(11))
    assert passes[0] != passes[1] != passes[2]
    drawn = _numbers(pool.batches(4, 3), 2)  # three samples are left over, and none comes twice
    assert len(set(drawn)) == 8


@pytest.mark.parametrize("start", [0, 3])
def test_batches_do_not_depend_on_the_number_of_workers(start: int) -> None:
    alone = SampleStream(_make, workers=0).batches(3, 5, start)
    shared = SampleStream(_make, workers=2).batches(3, 5, start)
    assert _same(alone, shared)


def test_another_seed_or_index_gives_other_samples(pool: Pool) -> None:
    stream = SampleStream(_make, workers=0)
    for source in (pool, stream):
        assert not _same(source.batches(4, 0), source.batches(4, 1))
    first, second = islice(stream.batches(4, 0), 2)
    assert not torch.equal(first["frames"], second["frames"])
    assert len({float(t) for t in first["times"][:, 0]}) == 4


def test_interleaved_sources_use_consecutive_seeds(pool: Pool) -> None:
    streams = [pool.batches(2, 7), pool.batches(2, 8)]
    wanted = [next(streams[i % 2])["times"] for i in range(6)]
    got = [batch["times"] for batch in islice(interleave_sources((pool, pool), 2, 7), 6)]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_invalid_requests_are_refused_at_once(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 11 samples, too few for batches of 12"):
        pool.batches(12, 0)
    with pytest.raises(ValueError, match="batch size is 0"):
        SampleStream(_make).batches(0, 0)
    with pytest.raises(ValueError, match="cannot start at -1"):
        interleave_sources((pool,), 2, 0, -1)
    with pytest.raises(ValueError, match="no sources"):
        interleave_sources((), 2, 0)
    with pytest.raises(FileNotFoundError, match="contains no samples"):
        Pool(tmp_path)
