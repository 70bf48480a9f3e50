"""A cluster event by event: how well the formulas of "Many files and many machines" hold.

Segments are handed out one by one to whoever is free, workers differ in speed, some die and their segment is done
again, and a new worker needs time to start. Prints one row for each segment length: efficiency on paper and in the
simulation, and the share of work that was lost.

    python research/simulate_cluster.py
"""

import argparse
import heapq
import random

_START = 60.0
"""Seconds until a new worker has its model."""


def simulate(
    pairs: int, each: float, workers: int, length: int, *, spread: float, between_failures: float, seed: int
) -> tuple[float, float]:
    """Seconds until all is done, and the seconds of work that were lost."""
    draw = random.Random(seed)
    segments = [length] * (pairs // length) + ([pairs % length] if pairs % length else [])
    speed = [draw.lognormvariate(0.0, spread) for _ in range(workers)]
    free = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(free)
    end = lost = 0.0
    while segments:
        time, worker = heapq.heappop(free)
        size = segments.pop()
        takes = size * each * speed[worker]
        dies = draw.expovariate(1.0 / between_failures)
        if dies < takes:
            lost += dies
            segments.append(size)
            heapq.heappush(free, (time + dies + _START, worker))
            continue
        end = max(end, time + takes)
        heapq.heappush(free, (time + takes, worker))
    return end, lost


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=172_800, help="pairs of source frames: two hours at 24 per second")
    parser.add_argument("--each", type=float, default=0.4, help="seconds that a pair takes")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--spread", type=float, default=0.1, help="deviation of the logarithm of speeds")
    parser.add_argument("--between-failures", type=float, default=86_400.0, help="seconds, of one worker")
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    work = given.pairs * given.each
    print("| pairs in a segment | efficiency on paper | simulated | work lost |")
    print("|---|---|---|---|")
    for length in (2, 5, 10, 17, 30, 60, 120):
        paper = work / (work + given.workers * length * given.each)
        runs = [
            simulate(
                given.pairs,
                given.each,
                given.workers,
                length,
                spread=given.spread,
                between_failures=given.between_failures,
                seed=seed,
            )
            for seed in range(given.runs)
        ]
        reached = sum(work / (end * given.workers) for end, _ in runs) / len(runs)
        lost = sum(lost for _, lost in runs) / len(runs) / work
        print(f"| {length} | {100 * paper:.0f} % | {100 * reached:.0f} % | {100 * lost:.2f} % |")


if __name__ == "__main__":
    main()
