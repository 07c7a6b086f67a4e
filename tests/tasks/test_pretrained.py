"""Starting with the weights of another training."""

import zipfile

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from spinecls.errors import ModelError
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.checkpoint import ModelSpec, model_content, save_checkpoint
from spinecls.tasks.pretrained import take_pretrained

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
FIRST = "backbone.unet.encoder.stages.0.0.convs.0.conv.weight"


def nnunet_file(path, features=(4, 8), **more):
    network = PlainConvUNet(
        1, 2, list(features), torch.nn.Conv3d, [list(k) for k in NETWORK.kernels], [list(s) for s in NETWORK.strides],
        2, 3, 2, conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"affine": True},
        nonlin=torch.nn.LeakyReLU,
    )  # fmt: skip
    torch.save({"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", **more}, path)
    return network.state_dict()


def test_our_own_checkpoint_is_taken_whole(tmp_path):
    spec = ModelSpec(NETWORK, 1, 3, {"vertebra_map": 2})
    source = spec.build()
    save_checkpoint(tmp_path / "checkpoint_final.pt", model_content(source, spec, {"vertebra_map"}))
    target = spec.build()
    taken = take_pretrained(target, tmp_path / "checkpoint_final.pt")
    assert not taken.left
    assert not taken.widened
    there, here = source.state_dict(), target.state_dict()
    assert all(torch.equal(there[name], here[name]) for name in there)


def test_a_head_that_the_file_lacks_keeps_its_start(tmp_path):
    spec = ModelSpec(NETWORK, 1, 0, {})
    save_checkpoint(tmp_path / "c.pt", model_content(spec.build(), spec, set()))
    target = ModelSpec(NETWORK, 1, 3, {}).build()
    before = target.evidence.weight.clone()
    taken = take_pretrained(target, tmp_path / "c.pt")
    assert "evidence.weight: not in the file" in taken.sentence
    assert torch.equal(target.evidence.weight, before)


def test_the_u_net_of_nnunet_becomes_the_backbone_and_the_region_channel_keeps_its_start(tmp_path):
    given = nnunet_file(tmp_path / "checkpoint_final.pth", logging={"ema": [np.float64(0.5), np.float32(1)]})
    model = SpineModel(NETWORK, 1, 0, {})
    region = model.state_dict()[FIRST][:, 1:].clone()
    taken = take_pretrained(model, tmp_path / "checkpoint_final.pth")
    own = model.state_dict()
    assert FIRST in taken.widened
    assert torch.equal(own[FIRST][:, :1], given["encoder.stages.0.0.convs.0.conv.weight"])
    assert torch.equal(own[FIRST][:, 1:], region)
    deep = "encoder.stages.1.0.convs.1.conv.weight"
    assert torch.equal(own["backbone.unet." + deep], given[deep])
    assert all(not name.startswith("backbone.") for name in taken.left)


def test_weights_of_a_compiled_nnunet_are_taken_as_well(tmp_path):
    given = nnunet_file(tmp_path / "c.pth")
    renamed = {f"_orig_mod.{name}": value for name, value in given.items()}
    torch.save({"network_weights": renamed}, tmp_path / "compiled.pth")
    assert take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "compiled.pth").matched


def test_another_width_is_told_with_both_shapes(tmp_path):
    nnunet_file(tmp_path / "c.pth", features=(4, 16))
    taken = take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "c.pth")
    deep = "backbone.unet.encoder.stages.1.0.convs.0.conv.weight"
    assert taken.left[deep] == "shape (16, 4, 3, 3, 3) there, (8, 4, 3, 3, 3) here"


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    torch.save({"weights": {"other": torch.zeros(2)}}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="none of its tensors fits"):
        take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "c.pt")


def test_a_file_of_another_kind_is_refused_with_what_it_holds(tmp_path):
    torch.save({"model": {}}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"neither .* it has model"):
        take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "c.pt")


class Hostile:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_asks_to_run_code_is_refused(tmp_path, capsys):
    torch.save({"network_weights": {"a": Hostile()}}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="refused"):
        take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "c.pth")
    assert "code ran" not in capsys.readouterr().out


def test_of_our_own_checkpoint_with_fewer_channels_the_region_goes_to_the_region(tmp_path):
    spec = ModelSpec(NETWORK, 1, 0, {})
    source = spec.build()
    save_checkpoint(tmp_path / "c.pt", model_content(source, spec, set()))
    target = ModelSpec(NETWORK, 2, 0, {}).build()
    own = target.state_dict()[FIRST][:, 1].clone()
    take_pretrained(target, tmp_path / "c.pt")
    there, here = source.state_dict()[FIRST], target.state_dict()[FIRST]
    assert torch.equal(here[:, 0], there[:, 0])
    assert torch.equal(here[:, 1], own)
    assert torch.equal(here[:, 2], there[:, 1])


def test_numbers_of_an_older_numpy_are_no_reason_to_refuse(tmp_path):
    nnunet_file(tmp_path / "new.pth", logging={"ema": [np.float64(0.5)]})
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(name, content)
    assert take_pretrained(SpineModel(NETWORK, 1, 0, {}), tmp_path / "old.pth").matched
