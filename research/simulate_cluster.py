"""Event-driven simulation of a cluster, to test the formulas of the guide "Many files and many machines".

Segments are assigned one by one to idle workers, which differ in speed. A worker that fails is replaced after a start
time, and its segment is repeated. Prints one row for each segment length: predicted and simulated efficiency, and the
share of lost work.

    python research/simulate_cluster.py
"""

import argparse
import heapq
import random
from statistics import fmean

_WORKER_START_SECONDS = 60.0
"""Time until a new worker has loaded its model."""


def simulate(
    pairs: int, seconds_per_pair: float, workers: int, length: int, *, spread: float, between_failures: float, seed: int
) -> tuple[float, float]:
    """Seconds until all segments are finished, and seconds of lost work."""
    rng = random.Random(seed)
    segments = [length] * (pairs // length) + ([pairs % length] if pairs % length else [])
    worker_slowness = [rng.lognormvariate(0.0, spread) for _ in range(workers)]
    idle_workers = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(idle_workers)
    finish_time = lost_work = 0.0
    while segments:
        time, worker = heapq.heappop(idle_workers)
        size = segments.pop()
        duration = size * seconds_per_pair * worker_slowness[worker]
        time_to_failure = rng.expovariate(1.0 / between_failures)
        if time_to_failure < duration:
            lost_work += time_to_failure
            segments.append(size)
            heapq.heappush(idle_workers, (time + time_to_failure + _WORKER_START_SECONDS, worker))
            continue
        finish_time = max(finish_time, time + duration)
        heapq.heappush(idle_workers, (time + duration, worker))
    return finish_time, lost_work


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=172_800, help="pairs of source frames: two hours at 24 per second")
    parser.add_argument("--each", type=float, default=0.4, help="seconds per pair")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--spread", type=float, default=0.1, help="deviation of the logarithm of speeds")
    parser.add_argument(
        "--between-failures", type=float, default=86_400.0, help="mean seconds between failures of one worker"
    )
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    total_work = arguments.pairs * arguments.each
    print("| pairs in a segment | efficiency on paper | simulated | work lost |")
    print("|---|---|---|---|")
    for length in (2, 5, 10, 17, 30, 60, 120):
        predicted = total_work / (total_work + arguments.workers * length * arguments.each)
        runs = [
            simulate(
                arguments.pairs,
                arguments.each,
                arguments.workers,
                length,
                spread=arguments.spread,
                between_failures=arguments.between_failures,
                seed=seed,
            )
            for seed in range(arguments.runs)
        ]
        simulated = fmean(total_work / (finish_time * arguments.workers) for finish_time, _ in runs)
        lost_share = fmean(lost_work for _, lost_work in runs) / total_work
        print(f"| {length} | {100 * predicted:.0f} % | {100 * simulated:.0f} % | {100 * lost_share:.2f} % |")


if __name__ == "__main__":
    main()
