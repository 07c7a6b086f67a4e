"""Level decoder against the enumeration of every chain, and its speed.

Run from the repository root: `python benchmarks/decoder.py [COLUMNS]`. Compares cost, names, margin and probabilities
on small random columns with variants, missed and doubled vertebrae (2,000 unless told), then times columns of 10, 20
and 30 detections. Ends with an error at the first column that differs.
"""

from __future__ import annotations

import itertools
import runpy
import sys
import time
from pathlib import Path

import numpy as np

from spinecls.anatomy import LEVELS
from spinecls.inference.level_decoding import decode_levels

ORACLE = Path(__file__).parents[1] / "tests" / "inference" / "test_levels.py"


def main(columns: int) -> None:
    """Compare, then time."""
    compare = runpy.run_path(str(ORACLE))["compare"]
    rng = np.random.default_rng(12345)
    start = time.perf_counter()
    steps: dict[tuple[str, str], int] = {}
    for _ in range(columns):
        labels = compare(rng).labels
        for step in itertools.pairwise(labels):
            steps[step] = steps.get(step, 0) + 1
    sys.stdout.write(f"{columns} columns agree with the enumeration ({time.perf_counter() - start:.0f} s)\n")
    for upper, lower in (("T12", "T13"), ("T11", "L1"), ("L5", "L6"), ("L4", "S1")):
        sys.stdout.write(f"  {upper}-{lower}: {steps.get((upper, lower), 0)}\n")
    sys.stdout.write(f"  doubled: {sum(n for (upper, lower), n in steps.items() if upper == lower)}\n")
    for count in (10, 20, 30):
        sys.stdout.write(f"{count} detections: {1000 * seconds_per_column(rng, count):.1f} ms\n")


def seconds_per_column(rng: np.random.Generator, count: int, repeats: int = 20) -> float:
    """Median wall time of decoding one random column."""
    centres = np.column_stack([np.zeros(count), np.zeros(count), -np.cumsum(rng.uniform(10, 35, count))])
    logs = np.log(rng.dirichlet(np.ones(len(LEVELS)), count))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        decode_levels(centres, logs)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
