"""Methods timed in turn on one pair: ``python benchmarks/in_turn.py OUT.json rdvfi-s rdvfi-s1 rife``.

Every round calls each method once with each number of new frames, so that what else the machine does, and how warm it
is, falls on all alike. The file is like those of the other benchmarks, and `report.py` shows it.
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
import measure
from rdvfi.evaluation.methods import create_method
from rdvfi.media.clip import open_clip

Seconds = dict[tuple[str, int], list[float]]


def main() -> None:
    """Time, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="+", help="names for rdvfi evaluate; the first is compared with")
    parser.add_argument("--clip", type=Path, help="its frames, resized, instead of those of the example clip")
    parser.add_argument("--at", type=int, nargs=2, default=(0, 1), help="numbers of the two frames of the clip")
    parser.add_argument("--size", default="1024x576")
    parser.add_argument("--frames", default="1,7", help="numbers of new frames")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--note", default="", help="what a reader of the figures must know")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cv2.setNumThreads(chosen.threads)
    device = torch.device(chosen.device)
    width, height = map(int, chosen.size.split("x"))
    if chosen.clip is None:
        pair = inputs.real_pair((height, width), device, torch.float32)
    else:
        pair = inputs.resized(open_clip(chosen.clip).read(chosen.at), (height, width), device, torch.float32)
    taken = seconds(chosen.methods, pair, [int(n) for n in chosen.frames.split(",")], chosen.rounds)
    shared = {
        "size": chosen.size,
        "dtype": "float32",
        "ours": chosen.methods[0],
        "device": measure.device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "versions": measure.versions(),
        "commit": measure.commit() or "unknown",
        "note": chosen.note,
        "copy_bytes_per_second": counting.copy_bandwidth(device),
    }
    entries = [entry(*key, values, shared) for key, values in taken.items()]
    content = {"benchmarks": entries, "datetime": datetime.now(UTC).isoformat()}
    chosen.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def seconds(names: list[str], pair: list[Tensor], counts: list[int], rounds: int) -> Seconds:
    """Times of the whole pair by method and number of new frames; each is called once before."""
    device = pair[0].device
    methods = {name: create_method(name, device=device) for name in names}
    taken: Seconds = {(name, count): [] for count in counts for name in names}
    for number in range(rounds + 1):
        for (name, count), values in taken.items():
            times = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)
            measure.synchronise(device)
            began = time.perf_counter()
            methods[name](*pair, times)
            measure.synchronise(device)
            if number:
                values.append(time.perf_counter() - began)
    return taken


def entry(name: str, count: int, taken: list[float], shared: dict[str, Any]) -> dict[str, Any]:
    """One measurement as pytest-benchmark writes it."""
    low, middle, high = np.quantile(taken, (0.25, 0.5, 0.75)).tolist()
    stats = {"median": middle, "iqr": high - low, "min": min(taken), "max": max(taken), "rounds": len(taken)}
    about = {"operation": f"whole pair, {count} new, in turn", "implementation": name, "frames": count}
    return {"name": f"{name}, {count} new", "stats": stats, "extra_info": {**about, **shared}}


if __name__ == "__main__":
    main()
