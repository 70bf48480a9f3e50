"""The counts that benchmarks put beside their times, on layers whose cost is known by hand."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import counting


def test_a_linear_layer_reads_its_weights_and_input_and_writes_its_output() -> None:
    layer, x = nn.Linear(16, 8), torch.randn(5, 16)
    found = counting.count(lambda: layer(x))
    read, written = 4 * (16 * 8 + 8 + 5 * 16), 4 * 5 * 8
    assert found.flops == 2 * 5 * 16 * 8
    assert found.moved_bytes == read + written
    assert found.outside_bytes == read


def test_what_is_made_inside_is_not_read_from_outside_and_weights_count_once() -> None:
    layer, x = nn.Linear(16, 16), torch.randn(5, 16)
    twice = counting.count(lambda: layer(layer(x)))
    once = counting.count(lambda: layer(x))
    assert twice.outside_bytes == once.outside_bytes
    assert twice.flops == 2 * once.flops
    assert twice.moved_bytes == 2 * once.moved_bytes


def test_views_move_nothing_and_repetition_is_read_once() -> None:
    x = torch.randn(4, 6)
    assert counting.count(lambda: x.view(3, 8).t()[1:]).moved_bytes == 0
    spread = x[:1].expand(1000, 6)
    assert counting.count(lambda: spread.sum()).moved_bytes == 4 * 6 + 4


def test_attention_is_one_kernel_that_keeps_its_scores_to_itself() -> None:
    q, k, v = torch.randn(3, 1, 2, 64, 8).unbind()
    found = counting.count(lambda: F.scaled_dot_product_attention(q, k, v))
    assert found.moved_bytes == 4 * (4 * 2 * 64 * 8)
    assert found.flops == 2 * (2 * 2 * 64 * 64 * 8)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_alone_suffice(device: str) -> None:
    with torch.device(device):
        layer, x = nn.Conv2d(3, 4, 3), torch.ones(1, 3, 8, 8)
    found = counting.count(lambda: layer(x))
    assert found == counting.Count(2 * 4 * 36 * 27, 4 * (4 * 27 + 4 + 192 + 144), 4 * (4 * 27 + 4 + 192))


def test_the_roofline_is_the_longer_bound() -> None:
    hardware = counting.Hardware(peak=1e12, bandwidth=1e9)
    bounds = hardware.roofline(counting.Count(10**9, 4 * 10**6, 2 * 10**6))
    assert bounds == {
        "roofline_ms": 2.0,
        "compute_ms": 1.0,
        "reading_ms": 2.0,
        "unfused_traffic_ms": 4.0,
    }
