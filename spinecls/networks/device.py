"""The device that computes, and its number formats."""

from __future__ import annotations

import torch

from spinecls.errors import ResourceError, UsageError


def half_precision(device: torch.device) -> bool:
    """Whether training computes in bfloat16: on GPUs that have it, never on a CPU.

    The gradients that oneDNN computes of bfloat16 convolutions by matrix tiles (AMX) write beyond their memory on large
    planes (torch 2.13; `benchmarks/cpu_instructions.py`), and without tiles bfloat16 is no faster than float32.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def pick_device(text: str | None) -> torch.device:
    """Device named by `-device`; by default a GPU where there is one."""
    if text is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise UsageError(f"-device {text}: not a device. Use cpu, cuda, cuda:1 or mps.") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"-device {text}: not supported. Use cpu, cuda, cuda:1 or mps.")
    if device.type == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "no GPU or no driver was found"
        raise ResourceError(f"-device {text}: {reason}. Use -device cpu, or install a CUDA build of torch.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"-device {text}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError(f"-device {text}: not available on this machine. Use -device cpu.")
    return device
