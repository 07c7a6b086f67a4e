import pytest
import torch

from spinecls.networks.finder import Finder, level_stage
from spinecls.networks.model import SpineModel
from spinecls.networks.reader import Reader
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.checkpoint import ModelSpec

NETWORK = NetworkPlan(
    features=(4, 6, 8), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3))
)
SMALL = NetworkPlan(features=(3, 5), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))


@pytest.fixture
def finder():
    torch.manual_seed(0)
    return Finder(NETWORK, image_channels=2, dense_heads={"vertebra_map": 2}).eval()


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return Reader(NETWORK, image_channels=2, num_classes=3, dense_heads={"sealed_structures": 4}).eval()


def test_open_pass_gives_every_head_on_its_grid(finder):
    outputs = finder.open_pass(torch.randn(1, 2, 8, 32, 16))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "heatmap": (1, 1, 8, 32, 16),
        "offset": (1, 3, 8, 32, 16),
        "vertebra_map": (1, 2, 8, 32, 16),
        "level": (1, 27, 4, 8, 4),
    }


def test_levels_are_named_where_the_in_plane_stride_reaches_four():
    assert level_stage(NETWORK) == 2


def test_class_zero_is_the_absence_of_evidence(reader):
    logits, evidence = reader.sealed_pass(torch.rand(3, 3, 8, 16, 16))
    assert logits.shape == (3, 3)
    assert (logits[:, 0] == 0).all()
    assert evidence.shape == (3, 2, 8, 16, 16)


def test_evidence_is_zero_outside_the_region(reader):
    crops = torch.rand(1, 3, 8, 16, 16)
    crops[:, -1] = 0
    crops[:, -1, 2:5, 4:9, 4:9] = 1
    evidence = reader.sealed_pass(crops)[1]
    outside = crops[:, -1:] == 0
    assert (evidence[outside.expand_as(evidence)] == 0).all()
    assert (evidence[~outside.expand_as(evidence)] != 0).any()


def test_evidence_in_the_margin_counts_as_that_within_the_outline(reader):
    crops = torch.rand(1, 3, 8, 16, 16)
    crops[:, -1] = 0.5
    evidence = reader.sealed_pass(crops)[1]
    assert (evidence != 0).all()


def test_the_taught_pass_is_the_sealed_pass_with_the_further_heads(reader):
    crops = torch.rand(2, 3, 8, 16, 16)
    pooled = crops[:, -1] > 0.3
    logits, evidence, heads = reader.taught_pass(crops, pooled)
    plain = reader.sealed_pass(crops, pooled)
    assert torch.equal(logits, plain[0])
    assert torch.equal(evidence, plain[1])
    assert {name: tuple(value.shape) for name, value in heads.items()} == {"sealed_structures": (2, 4, 8, 16, 16)}


def test_state_names_are_those_of_nnunet_networks(finder, reader):
    for network in (finder, reader):
        names = [name for name in network.state_dict() if name.startswith("backbone.unet.encoder.stages.0")]
        assert any("convs.0.conv.weight" in name for name in names)


def test_the_parts_are_the_finder_and_then_the_readers(finder, reader):
    model = SpineModel(finder, [reader, Reader(SMALL, 2, 3, {})])
    assert [(name, network) for name, network in model.parts()] == [
        ("finder", finder), ("reader_0", reader), ("reader_1", model.readers[1]),
    ]  # fmt: skip
    assert torch.equal(
        model.open_pass(torch.ones(1, 2, 8, 16, 16))["heatmap"],
        finder.open_pass(torch.ones(1, 2, 8, 16, 16))["heatmap"],
    )


def spec_of(members=2, num_classes=3):
    return ModelSpec(NETWORK, SMALL, members, 1, num_classes, {"vertebra_map": 2}, {})


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_without_classes_there_are_no_readers():
    assert len(spec_of(members=3, num_classes=0).build().readers) == 0
    assert len(spec_of(members=3, num_classes=2).build().readers) == 3


def test_the_finder_starts_the_same_whatever_the_readers_are():
    one, three, none = spec_of(1).build(7), spec_of(3).build(7), spec_of(3, num_classes=0).build(7)
    assert torch.equal(weights_of(one.finder), weights_of(three.finder))
    assert torch.equal(weights_of(one.finder), weights_of(none.finder))
    assert not torch.equal(weights_of(one.finder), weights_of(spec_of(1).build(8).finder))


def test_members_start_from_weights_of_their_own_whatever_their_number():
    two, three = (spec_of(count).build(7).readers for count in (2, 3))
    starts = [weights_of(reader) for reader in three]
    assert not any(torch.equal(starts[a], starts[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert all(torch.equal(weights_of(a), weights_of(b)) for a, b in zip(two, three[:2], strict=True))


def test_a_seeded_model_leaves_the_generator_of_torch_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    spec_of().build(7)
    assert torch.equal(torch.rand(4), expected)
