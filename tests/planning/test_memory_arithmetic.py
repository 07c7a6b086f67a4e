import pytest
import torch
from torch import nn

from spinecls.networks.unet import Backbone
from spinecls.planning.memory import activation_gb, network_cost, training_gflop, training_memory_gb
from spinecls.planning.plan import NetworkPlan

PLANS = {
    "isotropic": NetworkPlan(features=(4, 8, 16), strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)), kernels=((3, 3, 3),) * 3),
    "thick slices": NetworkPlan(
        features=(4, 8, 12), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3))
    ),
    "three convolutions": NetworkPlan(
        features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2, convs_per_stage=3
    ),
}
SIZE = (4, 8, 12)


def _layers(plan):
    """Output elements of convolutions, of all that is kept, and multiply-adds, counted while the network runs."""
    network = Backbone(plan, input_channels=2)
    counted = {"kept": 2 * SIZE[0] * SIZE[1] * SIZE[2], "multiply_adds": 0}

    def hook(module, inputs, output):
        if isinstance(module, nn.ConvTranspose3d):
            counted["multiply_adds"] += inputs[0].numel() * module.weight[0].numel()
            # The copy in the concatenation, upsampled features and skip, is what is kept.
            counted["kept"] += 2 * output.numel()
        elif isinstance(module, nn.Conv3d):
            counted["multiply_adds"] += output.numel() * module.weight[0].numel()
            counted["kept"] += output.numel()
        else:
            counted["kept"] += output.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.InstanceNorm3d):
            module.register_forward_hook(hook)
    network(torch.zeros(1, 2, *SIZE))
    return network, counted


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_parameters_are_those_of_the_network(plan):
    network, _ = _layers(plan)
    assert network_cost(plan, SIZE).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_multiply_adds_are_those_of_the_layers(plan):
    _, counted = _layers(plan)
    assert network_cost(plan, SIZE).multiply_adds == counted["multiply_adds"]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_kept_numbers_are_those_of_the_layers(plan):
    _, counted = _layers(plan)
    assert network_cost(plan, SIZE).stored == counted["kept"]


def test_training_costs_three_forward_passes_of_two_operations():
    plan = PLANS["isotropic"]
    assert training_gflop(plan, SIZE, 5) == pytest.approx(network_cost(plan, SIZE).multiply_adds * 2 * 3 * 5 / 1e9)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_channels_cost_their_weights_and_what_is_kept_of_them(channels):
    plan = PLANS["thick slices"]
    parameters = sum(p.numel() for p in Backbone(plan, input_channels=channels).parameters())
    assert network_cost(plan, SIZE, channels).parameters == parameters
    # A channel is kept once and goes into each feature by a kernel of nine.
    voxels, one = 4 * 8 * 12, network_cost(plan, SIZE, 1)
    assert network_cost(plan, SIZE, channels).stored == one.stored + (channels - 1) * voxels
    assert network_cost(plan, SIZE, channels).multiply_adds == one.multiply_adds + (channels - 1) * voxels * 4 * 9


def test_half_precision_halves_the_activations():
    plan = PLANS["isotropic"]
    assert activation_gb(plan, SIZE, 2, bytes_each=2) == pytest.approx(activation_gb(plan, SIZE, 2) / 2)


def test_the_estimate_is_within_a_fifth_of_what_was_measured():
    # Peak resident memory of one training step in a fresh process, two threads, PyTorch 2.x on x86.
    isotropic = NetworkPlan(
        features=(32, 64, 128, 256, 256),
        strides=((1, 1, 1), *((2, 2, 2),) * 4),
        kernels=((3, 3, 3),) * 5,
    )
    assert training_memory_gb(isotropic, (64, 64, 64), 2) == pytest.approx(1.52, rel=0.2)
    thick = NetworkPlan(
        features=(16, 32, 64, 128),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    assert training_memory_gb(thick, (20, 112, 88), 1) == pytest.approx(0.57, rel=0.2)
