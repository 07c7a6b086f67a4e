"""What a network costs, by arithmetic: memory and floating-point operations of training.

The counts follow what automatic differentiation keeps. A convolution block keeps two tensors a voxel and feature: the
output of the convolution, which instance norm needs, and the output of instance norm, on which the leaky ReLU works in
place and which the next convolution needs. A decoder stage also keeps the concatenation of the skip and the upsampled
features. The factors below are calibrated with benchmarks/memory_estimate.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinecls.planning.plan import NetworkPlan
from spinecls.types import Triple

ACTIVATION_FACTOR = 1.1
"""Peak of the backward pass over what the forward pass stored: gradients grow while activations are freed."""

CPU_FIXED_GB = 0.33
"""Buffers of the convolution library and of the allocator, measured: they hardly grow with the network."""

GPU_FIXED_GB = 0.7
"""Context of the device and workspaces of its convolution library."""

ADAM_COPIES = 4
"""Weight, gradient and two moments."""


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one sample.

    Attributes
    ----------
    parameters : weights of the network
    stored : numbers kept for the backward pass
    multiply_adds : of the forward pass
    """

    parameters: int
    stored: int
    multiply_adds: int


def network_cost(network: NetworkPlan, size: Triple, input_channels: int = 2) -> NetworkCost:
    """Cost of one forward and backward pass of a sample.

    Parameters
    ----------
    size : voxels of the input, multiples of the divisor
    input_channels : image channels, of a reader the region besides
    """
    voxels = _stage_voxels(network, size)
    convs = network.convs_per_stage
    parameters = stored = multiply_adds = 0
    incoming = input_channels
    for stage, features in enumerate(network.features):
        kernel = math.prod(network.kernels[stage])
        weights = kernel * features * (incoming + (convs - 1) * features)
        parameters += weights + 3 * convs * features
        multiply_adds += weights * voxels[stage]
        stored += 2 * convs * features * voxels[stage]
        incoming = features
    for stage in range(len(network.features) - 2, -1, -1):
        features, deeper = network.features[stage], network.features[stage + 1]
        upsampling = deeper * features * math.prod(network.strides[stage + 1])
        weights = math.prod(network.kernels[stage]) * features * features * (convs + 1)
        parameters += upsampling + weights + (3 * convs + 1) * features
        multiply_adds += deeper * features * voxels[stage] + weights * voxels[stage]
        stored += (2 + 2 * convs) * features * voxels[stage]
    return NetworkCost(parameters, stored + input_channels * voxels[0], multiply_adds)


def _stage_voxels(network: NetworkPlan, size: Triple) -> list[int]:
    voxels = []
    edges = list(size)
    for stride in network.strides:
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
        voxels.append(math.prod(edges))
    return voxels


def activation_gb(
    network: NetworkPlan, size: Triple, batch: int, input_channels: int = 2, bytes_each: int = 4
) -> float:
    """Memory (10^9 bytes) of the activations and their gradients at the peak of one pass."""
    return ACTIVATION_FACTOR * network_cost(network, size, input_channels).stored * batch * bytes_each / 1e9


def training_memory_gb(
    network: NetworkPlan, size: Triple, batch_size: int, input_channels: int = 2, half_precision: bool = False
) -> float:
    """Peak memory (10^9 bytes) of training a network.

    Finder and readers are trained one after the other, so the one that needs most counts.

    Parameters
    ----------
    half_precision : training on a GPU with automatic mixed precision; else single precision on the CPU
    """
    bytes_each, fixed_gb = (2, GPU_FIXED_GB) if half_precision else (4, CPU_FIXED_GB)
    stored_gb = activation_gb(network, size, batch_size, input_channels, bytes_each)
    parameters = network_cost(network, size, input_channels).parameters
    return stored_gb + parameters * ADAM_COPIES * 4 / 1e9 + fixed_gb


def training_gflop(network: NetworkPlan, size: Triple, batch: int, input_channels: int = 2) -> float:
    """Operations (10^9) of one training pass; a multiply-add counts as 2, the backward pass as two forward passes."""
    return network_cost(network, size, input_channels).multiply_adds * 2 * 3 * batch / 1e9
