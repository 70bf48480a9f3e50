"""Operation and byte counts of a computation, and the lower bound on its time (the roofline).

Operations are those of matrix products, convolutions and attention; a multiply-add counts as two.
Moved bytes are those that all operators read and write when each runs separately, weights included: an
upper bound, which fusion reduces. Outside bytes are those of weights, constants and images that exist before, which
must be read at least once. The roofline is the larger of operations over peak and outside bytes over
bandwidth: no implementation of the same operations is faster.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


@dataclass(frozen=True)
class Count:
    """Counts of one call."""

    flops: int
    moved_bytes: int
    outside_bytes: int


@dataclass(frozen=True)
class Hardware:
    """Limits of a device: operations and bytes per second."""

    peak: float
    bandwidth: float

    def roofline(self, count: Count) -> dict[str, float]:
        """Lower bounds on the time of a call in milliseconds, rounded."""
        compute, reading = count.flops / self.peak, count.outside_bytes / self.bandwidth
        bounds = {
            "roofline_ms": max(compute, reading),
            "compute_ms": compute,
            "reading_ms": reading,
            "unfused_traffic_ms": count.moved_bytes / self.bandwidth,
        }
        return {name: round(1e3 * seconds, 4) for name, seconds in bounds.items()}


class _TrafficCounter(TorchDispatchMode):
    """Counts the bytes that operators read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_bytes = 0
        self.outside_bytes = 0
        self._outside_storages: set[int] = set()
        """Addresses of storages that existed before the call, until an address is reused."""
        self._created_storages: set[int] = set()
        self.in_fused_operator = False
        """Whether an operator runs that is a single kernel on GPUs but several operators here."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        sizes = {s._cdata: s.nbytes() for s in map(Tensor.untyped_storage, _tensors(args, kwargs))}
        new = sizes.keys() - self._outside_storages - self._created_storages
        self.outside_bytes += sum(sizes[address] for address in new)
        self._outside_storages |= new
        result = func(*args, **(kwargs or {}))
        created = {tensor.untyped_storage()._cdata for tensor in _tensors(result)} - sizes.keys()
        self._created_storages |= created
        self._outside_storages -= created
        if not func.is_view and not self.in_fused_operator:
            self.add(args, kwargs, result)
        return result

    def add(self, *values: Any) -> None:
        """Count every tensor in ``values`` as moved once."""
        self.moved_bytes += sum(_bytes(tensor) for tensor in _tensors(values))


class _FusedAttention(TorchFunctionMode):
    """Counts attention as a fused kernel, which does not write its matrix of scores, on any device."""

    def __init__(self, traffic: _TrafficCounter) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.traffic.in_fused_operator = True
        result = func(*args, **(kwargs or {}))
        self.traffic.in_fused_operator = False
        self.traffic.add(args, kwargs, result)
        return result


@torch.no_grad()
def count(call: Callable[[], Any]) -> Count:
    """Run a call and count its operations and bytes."""
    # FlopCounterMode has no formula for the CPU's attention kernel.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flops = FlopCounterMode(display=False, custom_mapping={kernel: _attention_flops})
    traffic = _TrafficCounter()
    with flops, traffic, _FusedAttention(traffic):
        call()
    return Count(flops.get_total_flops(), traffic.moved_bytes, traffic.outside_bytes)


def measure_hardware(device: torch.device, dtype: torch.dtype) -> Hardware:
    """Operations per second of a large matrix product and bandwidth of a large copy, each the best of several runs."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return Hardware(2 * side**3 / _fastest_seconds(lambda: a @ b, device), copy_bandwidth(device))


@functools.cache
def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a copy larger than all caches, the best of several runs."""
    source = torch.ones((2048 if device.type == "cuda" else 128) << 18, device=device)
    target = torch.empty_like(source)
    return 2 * _bytes(source) / _fastest_seconds(lambda: target.copy_(source), device)


def to_record(count: Count, hardware: Hardware) -> dict[str, float]:
    """Counts, limits of the hardware and bounds, for the JSON of a benchmark."""
    limits = {"peak_tflops": hardware.peak / 1e12, "bandwidth_gbs": hardware.bandwidth / 1e9}
    rounded = {name: round(value, 3) for name, value in limits.items()}
    return {**asdict(count), **rounded, **hardware.roofline(count)}


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Size in memory; an axis of stride zero counts once."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(length for length, stride in axes if stride != 0) * tensor.element_size()


def _fastest_seconds(call: Callable[[], Any], device: torch.device, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
