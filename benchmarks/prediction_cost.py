"""Peak memory and wall time of predicting one case on the CPU, without test-time augmentation.

    python benchmarks/prediction_cost.py --model RESULTS/.../AuxSegTrainer__spineclsPlans__3d_fullres

A process of its own for each case, from start to end, so the time includes loading the libraries and the model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import DATA, provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=["VB3_01", "VB1_03", "VB2_02"])
    options = parser.parse_args()
    print("| case | wall time, s, median (range) | peak memory, GB |\n|---|---|---|")
    for case in options.cases:
        image = DATA / "Dataset001_LumbarSpA/imagesTr" / f"{case}_0000.nii.gz"
        runs = [measure(image, options) for _ in range(options.runs)]
        seconds = sorted(s for s, _ in runs)
        print(
            f"| {case} | {seconds[len(seconds) // 2]:.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f}) "
            f"| {max(m for _, m in runs):.2f} |"
        )
    print(provenance())


def measure(image: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Wall seconds and peak resident memory (GB) of one prediction."""
    with tempfile.TemporaryDirectory() as target:
        words = [
            sys.executable,
            "-m",
            "spinecls",
            "predict",
            "-i",
            image,
            "-o",
            target,
            "-m",
            options.model,
            "-f",
            options.fold,
            "--disable_tta",
            "-device",
            "cpu",
        ]
        began = time.monotonic()
        process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{case_name(image)}: prediction ended with status {status}")
        return time.monotonic() - began, usage.ru_maxrss / 1e6


def case_name(image: Path) -> str:
    """Name of the case of an image file."""
    return image.name.split("_0000")[0]


if __name__ == "__main__":
    main()
