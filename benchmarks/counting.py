"""What a computation needs at least: operations, bytes, and the time that the hardware asks for.

Operations are those of matrix products, convolutions and attention, a multiply-add being two.
Bytes are everything that operators read and write when each runs by itself, weights included: an
upper bound, from which fusion takes away. Weights, constants and images that come from outside have
to be read once at least. The roofline is the longer of operations over peak and that reading over
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
    """Of one call."""

    flops: int
    moved_bytes: int
    outside_bytes: int


@dataclass(frozen=True)
class Hardware:
    """What bounds a device: operations and bytes per second."""

    peak: float
    bandwidth: float

    def roofline(self, count: Count) -> dict[str, float]:
        """The bounds of a call, in milliseconds, rounded."""
        compute, reading = count.flops / self.peak, count.outside_bytes / self.bandwidth
        bounds = {
            "roofline_ms": max(compute, reading),
            "compute_ms": compute,
            "reading_ms": reading,
            "unfused_traffic_ms": count.moved_bytes / self.bandwidth,
        }
        return {name: round(1e3 * seconds, 4) for name, seconds in bounds.items()}


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0
        self.outside = 0
        self._read: set[int] = set()
        """Storages that were there before; their addresses, so until they are given to another."""
        self._made: set[int] = set()
        self.inside = False
        """Within an operator that is one kernel where it is fast, and several where it is not."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {s._cdata: s.nbytes() for s in map(_storage, _tensors(args, kwargs))}
        new = given.keys() - self._read - self._made
        self.outside += sum(given[key] for key in new)
        self._read |= new
        result = func(*args, **(kwargs or {}))
        fresh = {_storage(tensor)._cdata for tensor in _tensors(result)} - given.keys()
        self._made |= fresh
        self._read -= fresh
        if not func.is_view and not self.inside:
            self.add(args, kwargs, result)
        return result

    def add(self, *values: Any) -> None:
        """Every tensor in ``values`` is moved once."""
        self.moved += sum(_bytes(tensor) for tensor in _tensors(values))


class _FusedAttention(TorchFunctionMode):
    """Attention never writes its matrix of scores, whatever this device would do."""

    def __init__(self, traffic: _Traffic) -> None:
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
        self.traffic.inside = True
        result = func(*args, **(kwargs or {}))
        self.traffic.inside = False
        self.traffic.add(args, kwargs, result)
        return result


@torch.no_grad()
def count(call: Callable[[], Any]) -> Count:
    """Count one call."""
    # torch knows the formula of every attention kernel but the CPU's.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flops = FlopCounterMode(display=False, custom_mapping={kernel: _attention_flops})
    traffic = _Traffic()
    with flops, traffic, _FusedAttention(traffic):
        call()
    return Count(flops.get_total_flops(), traffic.moved, traffic.outside)


def measured(device: torch.device, dtype: torch.dtype) -> Hardware:
    """Peak of a large matrix product and bandwidth of a large copy, the best of several."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return Hardware(2 * side**3 / _seconds(lambda: a @ b, device), copy_bandwidth(device))


@functools.cache
def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy beyond every cache: the best of several."""
    source = torch.ones((2048 if device.type == "cuda" else 128) << 18, device=device)
    target = torch.empty_like(source)
    return 2 * _bytes(source) / _seconds(lambda: target.copy_(source), device)


def facts(count: Count, hardware: Hardware) -> dict[str, float]:
    """Counts and bounds, for the record of a benchmark."""
    limits = {"peak_tflops": hardware.peak / 1e12, "bandwidth_gbs": hardware.bandwidth / 1e9}
    rounded = {name: round(value, 3) for name, value in limits.items()}
    return {**asdict(count), **rounded, **hardware.roofline(count)}


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _bytes(tensor: Tensor) -> int:
    """Bytes in memory: what is repeated along an axis of stride zero is there once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side for side, stride in sides if stride != 0) * tensor.element_size()


def _seconds(call: Callable[[], Any], device: torch.device, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
