"""Compare the estimated with the measured memory and speed of training on this machine's CPU.

Each network runs in a process of its own; its peak resident memory less that before the network was built is the
measurement. Usage: python benchmarks/memory_estimate.py [--threads N] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from spinecls.planning.memory import training_gflop, training_memory_gb
from spinecls.planning.plan import NetworkPlan
from spinecls.planning.topology import build_topology, features_per_stage

CASES = {
    "thick, 2 mm": {"spacing": (4, 2, 2), "patch": (20, 112, 88), "base": 16, "batch": 1},
    "thick, 1 mm": {"spacing": (4, 1, 1), "patch": (16, 128, 128), "base": 16, "batch": 1},
    "isotropic": {"spacing": (1, 1, 1), "patch": (64, 64, 64), "base": 16, "batch": 1},
    "isotropic, wide": {"spacing": (1, 1, 1), "patch": (64, 64, 64), "base": 32, "batch": 2},
    "2d": {"spacing": (4, 1, 1), "patch": (1, 224, 208), "base": 16, "batch": 12, "flat": True},
    "crops of a reader": {"spacing": (4, 1, 1), "patch": (20, 64, 64), "base": 16, "batch": 8},
    "deep and small": {"spacing": (2, 2, 2), "patch": (32, 64, 64), "base": 32, "batch": 4},
}


def network_plan(case: dict) -> NetworkPlan:
    """Network of a case, built by the planner's own rules."""
    topology = build_topology(case["spacing"], case["patch"], case.get("flat", False), fixed=True)
    features = features_per_stage(case["base"], case["base"] * 8, len(topology.strides))
    return NetworkPlan(features=features, strides=topology.strides, kernels=topology.kernels)


def resident_gb() -> float:
    """Memory held by this process now (10^9 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def measure(case: dict, threads: int, repeats: int = 3) -> dict:
    """Peak memory (GB) and seconds of a training step of one case, in this process."""
    torch.set_num_threads(threads)
    plan = network_plan(case)
    stages = len(plan.features)
    before = resident_gb()
    network = PlainConvUNet(
        input_channels=2, n_stages=stages, features_per_stage=list(plan.features), conv_op=nn.Conv3d,
        kernel_sizes=[list(k) for k in plan.kernels], strides=[list(s) for s in plan.strides],
        n_conv_per_stage=[2] * stages, num_classes=1, n_conv_per_stage_decoder=[2] * (stages - 1), conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image = torch.randn(case["batch"], 2, *case["patch"])
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        optimizer.zero_grad()
        network(image).square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"measured_gb": peak - before, "step_seconds": min(seconds)}


def compare(name: str, threads: int) -> dict:
    """Measurement of a case in a process of its own, beside the estimates."""
    command = [sys.executable, __file__, "--measure", name, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    case = CASES[name]
    plan = network_plan(case)
    estimate = training_memory_gb(plan, case["patch"], case["batch"])
    gflop = training_gflop(plan, case["patch"], case["batch"])
    return {
        "case": name,
        "measured_gb": round(result["measured_gb"], 3),
        "estimated_gb": round(estimate, 3),
        "ratio": round(estimate / result["measured_gb"], 3),
        "gflop": round(gflop, 1),
        "step_seconds": round(result["step_seconds"], 3),
        "gflop_per_second": round(gflop / result["step_seconds"], 1),
    }


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", help="measure this case only and print JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(CASES[arguments.measure], arguments.threads)))
        return
    rows = [compare(name, arguments.threads) for name in CASES]
    for row in rows:
        sys.stdout.write("  ".join(f"{key} {value}" for key, value in row.items()) + "\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
