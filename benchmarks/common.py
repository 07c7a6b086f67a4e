"""What the benchmarks share: the machine and the code that a number belongs to, and running commands."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from spinecls.evaluation.intervals import format_score

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SPINECLS_TEST_DATA", ROOT.parent / "shared" / "data"))


def provenance() -> dict[str, str]:
    """Commit, machine and versions."""
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h of %cs"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    cores = len(os.sched_getaffinity(0))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "commit": commit + (" with uncommitted changes" if dirty else ""),
        "machine": f"{model}, {cores} cores, {gpu}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spinecls(*arguments: str | Path, environment: dict[str, str] | None = None) -> float:
    """Run a command in a process of its own; returns its wall time in seconds, and stops when it fails."""
    began = time.monotonic()
    words = [sys.executable, "-m", "spinecls", *map(str, arguments)]
    finished = subprocess.run(words, env={**os.environ, **(environment or {})}, check=False)
    if finished.returncode not in (0,):
        raise SystemExit(f"{' '.join(words)} ended with {finished.returncode}")
    return time.monotonic() - began


def peak_memory_gb_of_children() -> float:
    """Largest resident memory of any finished child process, GB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def roots(folder: Path) -> dict[str, str]:
    """Environment that keeps a benchmark's files in one folder."""
    return {f"spinecls_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}


def link_dataset(source: Path, folder: Path) -> Path:
    """Put a raw dataset below a benchmark's folder without copying it."""
    target = folder / "raw" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(source.resolve())
    return target


def link_held_out(preprocessed: Path, raw: Path, fold: str, target: Path) -> Path:
    """Folder with links to the images, in the raw dataset `raw`, of a fold's validation cases."""
    splits = json.loads((preprocessed / "splits_final.json").read_text())
    target.mkdir(exist_ok=True)
    for case in splits[int(fold)]["val"]:
        link = target / f"{case}_0000.nii.gz"
        if not link.exists():
            link.symlink_to((raw / "imagesTr" / link.name).resolve())
    return target


def score_text(score: dict, decimals: int = 3) -> str:
    """Estimate with its 95 % interval."""
    return format_score(score, f".{decimals}f")
