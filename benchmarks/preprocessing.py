"""Time and memory of fingerprint, plan and preprocessing: spinecls against nnU-Net v2 on the same images and masks.

Both tools run as a user would run them: one command, whole process, the same number of worker processes, integrity
checks on, the same target spacing, into an empty folder. The runs alternate, and which tool comes first alternates too.

    python benchmarks/preprocessing.py DATASET_FOLDER --nnunet-python /path/to/venv/bin/python

Without `--nnunet-python` only spinecls is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

SAMPLING_SECONDS = 0.05
NNUNET_NAME = "Dataset901_Benchmark"
CANONICAL_OF_WORLD = {0: 0, 2: 1, 1: 2}
"""Canonical array axis (slice, row, column) of each world axis (left-right, front-back, head-feet)."""


def convert_for_nnunet(source: Path, raw_root: Path) -> list[Path]:
    """Copy images unchanged and remap the level codes of the maps to 1, 2, ...; returns the copied images."""
    target = raw_root / NNUNET_NAME
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    ending = description["file_ending"]
    (target / "imagesTr").mkdir(parents=True)
    (target / "labelsTr").mkdir()
    maps = {path.name[: -len(ending)]: path for path in sorted((source / "labelsTr").glob(f"*{ending}"))}
    codes = sorted({int(code) for path in maps.values() for code in np.unique(_voxels(path))} - {0})
    table = np.zeros(256, np.uint8)
    table[codes] = np.arange(1, len(codes) + 1)
    images = []
    for case, path in maps.items():
        remapped = sitk.GetImageFromArray(table[_voxels(path)])
        remapped.CopyInformation(sitk.ReadImage(str(path)))
        sitk.WriteImage(remapped, str(target / "labelsTr" / path.name), useCompression=True)
        for channel in range(len(description["channel_names"])):
            name = f"{case}_{channel:04d}{ending}"
            found = source / "imagesTr" / name
            images.append(target / "imagesTr" / name)
            shutil.copyfile(found if found.exists() else source / "imagesTr" / f"{case}{ending}", images[-1])
    content = {
        "channel_names": description["channel_names"],
        "labels": {"background": 0, **{f"level_{code}": i for i, code in enumerate(codes, start=1)}},
        "numTraining": len(maps),
        "file_ending": ending,
    }
    (target / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return images


def _voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.uint8)


def spacing_in_file_order(image: Path, spacing_mm: list[float]) -> list[float]:
    """Spacing of (slice, row, column) in the order of the file's array axes, which nnU-Net uses as they are."""
    direction = np.abs(np.reshape(sitk.ReadImage(str(image)).GetDirection(), (3, 3)))
    return [spacing_mm[CANONICAL_OF_WORLD[int(direction[:, 2 - axis].argmax())]] for axis in range(3)]


def measure(command: list[str], environment: dict[str, str], log: Path) -> tuple[float, float]:
    """Wall time (s) of a command and the largest sum (MB) of the resident memory of its processes."""
    peak_bytes = 0
    with log.open("w", encoding="utf-8") as stream:
        started = time.monotonic()
        process = psutil.Popen(command, env=os.environ | environment, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _resident_bytes(process))
            time.sleep(SAMPLING_SECONDS)
        seconds = time.monotonic() - started
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return seconds, peak_bytes / 1e6


def _resident_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0
    return total


def spinecls_run(arguments, work: Path, target: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of spinecls."""
    spacing = "x".join(f"{s:g}" for s in arguments.spacing_mm)
    command = [sys.executable, "-m", "spinecls", "plan_and_preprocess", "-d", str(arguments.dataset)]
    command += ["-c", "3d_fullres", "-np", str(arguments.processes), "--verify_dataset_integrity"]
    command += ["--set", f"spacing_mm={spacing}", "--set", f"sealed_spacing_mm={spacing}", *arguments.spinecls_options]
    return command, {"spinecls_preprocessed": str(target), "spinecls_results": str(work / "results")}


def nnunet_run(arguments, work: Path, target: Path, file_spacing_mm: list[float]) -> tuple[list[str], dict[str, str]]:
    """Command and environment of nnU-Net v2."""
    program = Path(arguments.nnunet_python).parent / "nnUNetv2_plan_and_preprocess"
    command = [str(program), "-d", "901", "-c", "3d_fullres", "-np", str(arguments.processes)]
    command += ["-npfp", str(arguments.processes), "--verify_dataset_integrity"]
    command += ["-overwrite_plans_name", "benchmarkPlans"]
    command += ["-overwrite_target_spacing", *(f"{s:g}" for s in file_spacing_mm)]
    environment = {"nnUNet_raw": str(work / "raw"), "nnUNet_preprocessed": str(target)}
    return command, environment | {"nnUNet_results": str(work / "results")}


def compare(arguments) -> dict:
    """All runs of both tools, alternating."""
    rows: dict[str, list[dict]] = {"spinecls": []} | ({"nnunet": []} if arguments.nnunet_python else {})
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        work = Path(name)
        file_spacing_mm = arguments.spacing_mm
        if arguments.nnunet_python:
            images = convert_for_nnunet(arguments.dataset, work / "raw")
            file_spacing_mm = spacing_in_file_order(images[0], arguments.spacing_mm)
        for repeat in range(arguments.runs):
            for tool in sorted(rows, reverse=bool(repeat % 2)):
                target = work / f"{tool}_{repeat}"
                target.mkdir()
                if tool == "spinecls":
                    command, environment = spinecls_run(arguments, work, target)
                else:
                    command, environment = nnunet_run(arguments, work, target, file_spacing_mm)
                seconds, peak_mb = measure(command, environment, work / f"{tool}_{repeat}.log")
                files = [path for path in target.rglob("*") if path.is_file()]
                rows[tool].append(
                    {
                        "seconds": seconds,
                        "peak_mb": peak_mb,
                        "files": len(files),
                        "disk_mb": sum(path.stat().st_size for path in files) / 1e6,
                    }
                )
                shutil.rmtree(target)
    return {"dataset": str(arguments.dataset), "spacing_mm": arguments.spacing_mm, "runs": rows}


def table(result: dict) -> str:
    """Medians and ranges, and the ratio of each pair of runs."""
    lines = [f"{'tool':<10}{'seconds (range)':>26}{'peak MB (range)':>26}{'disk MB':>10}{'files':>8}"]
    for tool, rows in result["runs"].items():
        seconds, peaks = ([row[key] for row in rows] for key in ("seconds", "peak_mb"))
        time_text = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
        peak_text = f"{statistics.median(peaks):.0f} ({min(peaks):.0f} to {max(peaks):.0f})"
        lines.append(f"{tool:<10}{time_text:>26}{peak_text:>26}{rows[0]['disk_mb']:>10.0f}{rows[0]['files']:>8}")
    if "nnunet" in result["runs"]:
        for key in ("seconds", "peak_mb"):
            pairs = zip(result["runs"]["nnunet"], result["runs"]["spinecls"], strict=True)
            ratios = [theirs[key] / ours[key] for theirs, ours in pairs]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            lines.append(f"nnunet / spinecls, {key}: {statistics.median(ratios):.2f} ({spread}, {len(ratios)} pairs)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="raw dataset folder")
    parser.add_argument("--nnunet-python", help="python of an environment with nnunetv2")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--spacing-mm", type=float, nargs=3, default=[4.0, 2.0, 2.0], help="slice, row, column")
    parser.add_argument("--spinecls-options", nargs="*", default=[], help="further options of spinecls")
    parser.add_argument("--work", type=Path, help="folder for temporary data")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    arguments.dataset = arguments.dataset.resolve()
    result = compare(arguments)
    print(table(result))
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
