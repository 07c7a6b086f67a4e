"""Weights of a model as safetensors, compared with its networks before memory is spent on them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from spinecls.errors import ModelError
from spinecls.networks.finder import BUILT_IN_HEADS
from spinecls.networks.pooling import POOLINGS
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.checkpoint import ModelSpec

MOST_STAGES = 12
MOST_FEATURES = 4096
LARGEST_KERNEL = 15
MOST_CONVOLUTIONS = 16
MOST_CHANNELS = 64
MOST_CLASSES = 256
MOST_HEADS = 16
MOST_READERS = 64
"""Bounds of what a bundle may describe, far beyond any network that was ever planned."""


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name in the state dictionary -> the first name of the same tensor.

    The network library registers a convolution under several names, of which one is enough in a file.
    """
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


def weights_to_bytes(model: nn.Module) -> bytes:
    """Content of a safetensors file; equal weights give equal bytes.

    Tensors of numbers that all have a half-precision form are stored in it, so nothing is lost, and a model whose
    weights were rounded before makes a file of half the size.
    """
    state = model.state_dict()
    return save({name: _compact(state[name].contiguous()) for name in sorted(set(_first_names(model).values()))})


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    halved = tensor.half()
    return halved if tensor.dtype == torch.float32 and torch.equal(halved.float(), tensor) else tensor


def read_weights(path: Path, spec: ModelSpec, where: str) -> dict[str, torch.Tensor]:
    """Weights of the model `spec` under all of their names; those in half precision are widened.

    Parameters
    ----------
    where : named in errors

    Raises
    ------
    ModelError
        When a network is beyond all measure, the file is no whole safetensors file, its tensors are not those of the
        model in name, shape and type, or hold anything but finite numbers.
    """
    expected = outline(spec, where)
    names, state = _first_names(expected), expected.state_dict()
    wanted = {name: state[name] for name in names.values()}
    try:
        with safe_open(path, framework="pt") as stream:
            _check_names(set(stream.keys()), set(wanted), where)
            for name, tensor in wanted.items():
                shape = tuple(stream.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    raise ModelError(
                        f"{where}: {name} has shape {shape}, the network described in the bundle {tuple(tensor.shape)}."
                    )
            tensors = {name: stream.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{where}: not a whole safetensors file ({error}).") from None
    for name, tensor in tensors.items():
        # Half precision is a smaller file, not another network.
        if tensor.dtype == torch.float16 and wanted[name].dtype == torch.float32:
            tensors[name] = tensor.float()
        elif tensor.dtype != wanted[name].dtype:
            raise ModelError(f"{where}: {name} is of type {tensor.dtype}, expected {wanted[name].dtype}.")
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where}: {name} holds values that are not finite numbers.")
    return {name: tensors[first] for name, first in names.items()}


def _check_names(names: set[str], wanted: set[str], where: str) -> None:
    if missing := sorted(wanted - names):
        raise ModelError(f"{where}: {len(missing)} tensors of the network are missing, among them {missing[0]}.")
    if unknown := sorted(names - wanted):
        raise ModelError(
            f"{where}: {len(unknown)} tensors belong to no part of the network, among them {unknown[0]!r}."
        )


def outline(spec: ModelSpec, where: str) -> nn.Module:
    """The model without memory for its weights: names, shapes and types alone."""
    _check_bounds(spec, where)
    try:
        with torch.device("meta"):
            return spec.build()
    except Exception as error:
        # What a made-up description comes to grief over inside the network library is not foreseeable.
        raise ModelError(f"{where}: its network cannot be built ({type(error).__name__}: {error}).") from None


def _check_bounds(spec: ModelSpec, where: str) -> None:
    bounds = {
        **_network_bounds(spec.network, "network"),
        **_network_bounds(spec.reader, "reader"),
        "number of readers": (spec.members, 0, MOST_READERS),
        "image_channels": (spec.image_channels, 1, MOST_CHANNELS),
        "num_classes": (spec.num_classes, 0, MOST_CLASSES),
    }
    for name in ("dense_heads", "reader_heads"):
        heads = getattr(spec, name)
        bounds[name] = (len(heads), 0, MOST_HEADS)
        bounds[f"channels of {name}"] = (_range(heads.values()), 1, MOST_CLASSES)
    for label, (value, least, most) in bounds.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        if low < least or high > most:
            raise ModelError(f"{where}: {label} {low} to {high}; expected {least} to {most}.")
    wrong = [n for n in (*spec.dense_heads, *spec.reader_heads) if not n.isidentifier() or n in BUILT_IN_HEADS]
    if wrong:
        raise ModelError(f"{where}: dense head {wrong[0]!r} cannot have that name.")
    if spec.pooling not in POOLINGS:
        raise ModelError(f"{where}: pooling {spec.pooling!r} is not known. Known: {', '.join(POOLINGS)}.")


def _network_bounds(network: NetworkPlan, name: str) -> dict[str, tuple]:
    """What is bounded of a network: label -> (value or (least, greatest), lower bound, upper bound)."""
    return {
        f"{name}.stages": (len(network.features), 1, MOST_STAGES),
        f"{name}.features": (_range(network.features), 1, MOST_FEATURES),
        f"{name}.strides": (_range(n for stride in network.strides for n in stride), 1, MOST_CHANNELS),
        f"{name}.kernels": (_range(n for kernel in network.kernels for n in kernel), 1, LARGEST_KERNEL),
        f"{name}.convs_per_stage": (network.convs_per_stage, 1, MOST_CONVOLUTIONS),
    }


def _range(values) -> tuple[int, int]:
    numbers = list(values) or [1]
    return min(numbers), max(numbers)
