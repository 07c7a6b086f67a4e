import pytest
import torch

from spinecls.networks.model import SpineModel, level_stage
from spinecls.planning.plan import NetworkPlan

NETWORK = NetworkPlan(
    features=(4, 6, 8), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3))
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpineModel(NETWORK, image_channels=2, num_classes=3, dense_heads={"vertebra_map": 2}).eval()


def test_open_pass_gives_every_head_on_its_grid(model):
    outputs = model.open_pass(torch.randn(1, 2, 8, 32, 16))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "heatmap": (1, 1, 8, 32, 16),
        "offset": (1, 3, 8, 32, 16),
        "vertebra_map": (1, 2, 8, 32, 16),
        "level": (1, 27, 4, 8, 4),
    }


def test_levels_are_named_where_the_in_plane_stride_reaches_four():
    assert level_stage(NETWORK) == 2


def test_class_zero_is_the_absence_of_evidence(model):
    logits, evidence = model.sealed_pass(torch.rand(3, 3, 8, 16, 16))
    assert logits.shape == (3, 3)
    assert (logits[:, 0] == 0).all()
    assert evidence.shape == (3, 2, 8, 16, 16)


def test_evidence_is_zero_outside_the_region(model):
    crops = torch.rand(1, 3, 8, 16, 16)
    crops[:, -1] = 0
    crops[:, -1, 2:5, 4:9, 4:9] = 1
    evidence = model.sealed_pass(crops)[1]
    outside = crops[:, -1:] == 0
    assert (evidence[outside.expand_as(evidence)] == 0).all()
    assert (evidence[~outside.expand_as(evidence)] != 0).any()


def test_state_names_are_those_of_nnunet_networks(model):
    names = [name for name in model.state_dict() if name.startswith("backbone.unet.encoder.stages.0")]
    assert any("convs.0.conv.weight" in name for name in names)


def test_without_classes_there_is_no_evidence_head():
    assert not hasattr(SpineModel(NETWORK, 1, 0, {}), "evidence")
