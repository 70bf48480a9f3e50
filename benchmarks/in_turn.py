"""Methods timed in turn on one pair: ``python benchmarks/in_turn.py OUT.json rdvfi-s rdvfi-s1 rife``.

Every round calls each method once with each number of frames, so that other load and the temperature of the machine
affect all methods equally. The file has the format of the other benchmarks, and `report.py` shows it.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import counting
import inputs
import machine
from rdvfi.evaluation.methods import create_method
from rdvfi.media.clip import open_clip

Durations = dict[tuple[str, int], list[float]]


def main() -> None:
    """Time the methods and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="+", help="names for rdvfi evaluate; the others are compared with the first")
    parser.add_argument("--clip", type=Path, help="clip whose frames are used; the example clip if unset")
    parser.add_argument("--at", type=int, nargs=2, default=(0, 1), help="numbers of the two frames of the clip")
    parser.add_argument("--size", default="1024x576")
    parser.add_argument("--frames", default="1,7", help="numbers of interpolated frames")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--note", default="", help="remark for readers of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    device = torch.device(arguments.device)
    width, height = map(int, arguments.size.split("x"))
    if arguments.clip is None:
        pair = inputs.real_pair((height, width), device, torch.float32)
    else:
        pair = inputs.resize_frames(
            open_clip(arguments.clip).read(arguments.at), (height, width), device, torch.float32
        )
    durations = time_methods(arguments.methods, pair, [int(n) for n in arguments.frames.split(",")], arguments.rounds)
    shared = {
        "size": arguments.size,
        "dtype": "float32",
        "ours": arguments.methods[0],
        "device": machine.device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "versions": machine.package_versions(),
        "commit": machine.source_commit() or "unknown",
        "note": arguments.note,
        "copy_bytes_per_second": counting.copy_bandwidth(device),
    }
    entries = [benchmark_entry(*key, values, shared) for key, values in durations.items()]
    content = {"benchmarks": entries, "datetime": datetime.now(UTC).isoformat()}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def time_methods(names: list[str], pair: list[Tensor], counts: list[int], rounds: int) -> Durations:
    """Seconds for the whole pair, by method and number of frames, after one round that is not counted."""
    device = pair[0].device
    methods = {name: create_method(name, device=device) for name in names}
    durations: Durations = {(name, count): [] for count in counts for name in names}
    for number in range(rounds + 1):
        for (name, count), values in durations.items():
            times = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)
            machine.synchronise(device)
            start = time.perf_counter()
            methods[name](*pair, times)
            machine.synchronise(device)
            if number:
                values.append(time.perf_counter() - start)
    return durations


def benchmark_entry(name: str, count: int, durations: list[float], shared: dict[str, Any]) -> dict[str, Any]:
    """One measurement in the format of pytest-benchmark."""
    lower, median, upper = np.quantile(durations, (0.25, 0.5, 0.75)).tolist()
    stats = {
        "median": median,
        "iqr": upper - lower,
        "min": min(durations),
        "max": max(durations),
        "rounds": len(durations),
    }
    description = {"operation": f"whole pair, {count} new, in turn", "implementation": name, "frames": count}
    return {"name": f"{name}, {count} new", "stats": stats, "extra_info": {**description, **shared}}


if __name__ == "__main__":
    main()
