"""Why a CPU trains in float32: what bfloat16 convolutions by matrix tiles (AMX) save and destroy on this one.

    python benchmarks/cpu_instructions.py

A process each for the numbers and the instructions that oneDNN may use: seconds of CPU for one training step of a
finder and one of a reader (open patch of 20 x 112 x 88, 16 sealed crops of 16 x 24 x 24, networks of small datasets,
one thread), and whether a convolution on planes of that size survives its own gradients.
"""

from __future__ import annotations

import os
import subprocess
import sys

from common import provenance

SETTINGS = {
    "bfloat16, all instructions": ("ALL", True),
    "bfloat16 without tiles": ("AVX512_CORE_FP16", True),
    "float32, as spinecls trains": ("ALL", False),
}

STEP = """
import sys, time, torch
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.planning.plan import NetworkPlan
torch.set_num_threads(1)
torch.manual_seed(0)
half = sys.argv[1] == "True"
network = NetworkPlan(
    features=(16, 32, 64, 128), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
)
finder, reader = Finder(network, 1, {"vertebra_map": 1}), Reader(network, 1, 3, {})
patch, crops = torch.randn(1, 1, 20, 112, 88), torch.randn(16, 2, 16, 24, 24)
crops[:, 1] = 1

def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        outputs = finder.open_pass(patch)
    sum(values.float().square().mean() for values in outputs.values()).backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits, _ = reader.sealed_pass(crops)
    logits.float().square().mean().backward()

step()
began = time.process_time()
for _ in range(5):
    step()
print((time.process_time() - began) / 5)
"""

PLANES = """
import sys, torch
torch.set_num_threads(1)
conv = torch.nn.Conv3d(16, 16, (3, 3, 3), padding=1)
for _ in range(6):
    with torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[1] == "True"):
        found = conv(torch.randn(1, 16, 4, 112, 88, requires_grad=True))
    found.float().square().mean().backward()
"""


def main() -> None:
    print(provenance(), end="\n\n")
    print("| instructions | seconds of CPU a step | gradients of 112 x 88 planes |\n|---|---|---|")
    for name, (instructions, half) in SETTINGS.items():
        step, planes = (run(code, instructions, half) for code in (STEP, PLANES))
        seconds = f"{float(step.stdout):.2f}" if step.returncode == 0 else f"ended with {step.returncode}"
        survived = "intact" if planes.returncode == 0 else f"the process died ({planes.stderr.strip() or 'signal'})"
        print(f"| {name} | {seconds} | {survived} |", flush=True)


def run(code: str, instructions: str, half: bool) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", code, str(half)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
