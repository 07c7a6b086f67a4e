import math

import pytest
import torch
from torch import nn

from spinecls.planning.topology import SLICES_ADDED, Topology, build_topology, features_per_stage, round_up


def test_thick_slices_are_not_mixed_before_the_plane_is_as_coarse():
    topology = build_topology((4, 1, 1), (16, 64, 64))
    assert topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))


def test_isotropic_voxels_are_pooled_alike():
    topology = build_topology((1, 1, 1), (32, 32, 32))
    assert topology.divisor == (8, 8, 8)
    assert set(topology.kernels) == {(3, 3, 3)}


def test_the_size_limits_the_depth():
    assert build_topology((1, 1, 1), (16, 16, 16)).divisor == (4, 4, 4)
    assert build_topology((1, 1, 1), (128, 128, 128)).divisor == (32, 32, 32)


@pytest.mark.parametrize("edge", range(8, 80))
def test_rounding_up_enlarges_an_edge_by_at_most_a_third(edge):
    topology = build_topology((1, 1, 1), (edge, edge, edge))
    size = round_up((edge, edge, edge), topology.divisor)
    assert size[1] <= edge * 4 / 3
    assert size[1] // topology.divisor[1] >= 4
    assert size[0] // topology.divisor[0] >= 2
    assert size[0] <= SLICES_ADDED * edge


@pytest.mark.parametrize(("slices", "halvings"), [(3, 0), (4, 1), (5, 1), (8, 2), (9, 1), (10, 2), (17, 2)])
def test_slices_are_not_halved_where_that_adds_more_than_a_quarter_of_them(slices, halvings):
    # 3 slices would become 4 and 9 become 12, a third more; 17 would become 24. 5 become 6 and 10 become 12, a fifth.
    assert build_topology((1, 1, 1), (slices, 64, 64)).divisor[0] == 2**halvings


def test_a_flat_network_leaves_the_slices_alone():
    topology = build_topology((1, 1, 1), (1, 64, 64), flat=True)
    assert topology.divisor == (1, 16, 16)
    assert {kernel[0] for kernel in topology.kernels} == {1}


def test_a_fixed_size_is_never_rounded():
    topology = build_topology((1, 1, 1), (48, 72, 72), fixed=True)
    assert topology.divisor == (8, 8, 8)
    odd = build_topology((1, 1, 1), (48, 70, 72), fixed=True)
    assert odd.divisor[1] == 2


def test_the_receptive_field_is_that_of_the_convolutions():
    topology = Topology(((1, 1, 1), (1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3)))
    size = (32, 64, 64)
    image = torch.zeros(1, 1, *size, requires_grad=True)
    features = image
    for stride, kernel in zip(topology.strides, topology.kernels, strict=True):
        for conv in range(2):
            layer = nn.Conv3d(
                1,
                1,
                kernel,
                stride if conv == 0 else 1,
                padding=[k // 2 for k in kernel],
                bias=False,
                dtype=torch.float,
            )
            nn.init.ones_(layer.weight)
            features = layer(features)
    features[0, 0, features.shape[2] // 2, features.shape[3] // 2, features.shape[4] // 2].backward()
    seen = image.grad[0, 0] > 0
    measured = tuple(int(seen.any(dim=dims).sum()) for dims in ((1, 2), (0, 2), (0, 1)))
    assert measured == topology.receptive_field()


@pytest.mark.parametrize("extent_mm", [20.0, 30.0, 45.0, 60.0])
@pytest.mark.parametrize("spacing_mm", [0.6, 1.0, 1.5, 2.0])
def test_the_bottleneck_sees_a_whole_vertebra(extent_mm, spacing_mm):
    edge = math.ceil((extent_mm + 10) / spacing_mm)
    topology = build_topology((spacing_mm,) * 3, (edge,) * 3)
    assert topology.receptive_field()[1] * spacing_mm >= extent_mm


def test_features_double_up_to_the_cap():
    assert features_per_stage(16, 100, 5) == (16, 32, 64, 100, 100)


def test_an_axis_too_short_to_pool_keeps_its_kernel():
    topology = build_topology((1, 1, 1), (64, 64, 20))
    assert topology.strides[-1][2] == 1
    assert topology.kernels[-1] == (3, 3, 3)
