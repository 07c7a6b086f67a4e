"""How fast this machine trains, measured by a few steps of a small U-Net; the planner takes the number as an input."""

from __future__ import annotations

import os
import time

import psutil
import torch

from spinecls.errors import ResourceError
from spinecls.networks.device import half_precision
from spinecls.networks.unet import Backbone
from spinecls.planning.memory import training_gflop
from spinecls.planning.plan import NetworkPlan
from spinecls.planning.rules_configuration import MachineProfile

PROBE_NETWORK = NetworkPlan(
    features=(16, 32, 64, 128),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
)
"""As those that are planned: a smaller one does fewer operations a second."""
PROBE_SIZE = (16, 96, 80)
STEP_OVERHEAD_SECONDS = {"cpu": 0.15, "cuda": 0.05}
"""Making a batch and stepping the optimiser: on the CPU in the same process, beside a GPU in workers."""


def _usable_cores() -> int:
    """Cores that this process may run on; in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_profile(device: torch.device, steps: int = 4) -> MachineProfile:
    """Time a few training steps.

    The fastest step counts, the first one, which allocates, is left out. A busy machine measures itself slower and so
    gets a smaller plan.
    """
    cuda = device.type == "cuda"
    network = Backbone(PROBE_NETWORK, 2).to(device)
    image = torch.randn((1, 2, *PROBE_SIZE), device=device)
    seconds = []
    try:
        for _ in range(steps + 1):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=half_precision(device)):
                loss = network(image)[0].float().square().mean()
            loss.backward()
            if cuda:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    except RuntimeError as error:
        raise ResourceError(f"Training on {device} does not work: {error}. Try -device cpu.") from None
    memory = torch.cuda.get_device_properties(device).total_memory if cuda else psutil.virtual_memory().available
    return MachineProfile(
        device="cuda" if cuda else "cpu",
        memory_gb=round(memory / 1e9, 2),
        cores=_usable_cores(),
        gflop_per_second=float(f"{training_gflop(PROBE_NETWORK, PROBE_SIZE, 1) / min(seconds[1:]):.3g}"),
        step_overhead_seconds=STEP_OVERHEAD_SECONDS["cuda" if cuda else "cpu"],
    )
