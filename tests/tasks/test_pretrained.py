"""Starting with the weights of another training."""

import zipfile

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from spinecls.errors import ModelError
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.checkpoint import ModelSpec, model_content, save_checkpoint
from spinecls.tasks.pretrained import take_pretrained

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
FIRST = "finder.backbone.unet.encoder.stages.0.0.convs.0.conv.weight"
FIRST_OF_READERS = [f"readers.{number}.backbone.unet.encoder.stages.0.0.convs.0.conv.weight" for number in (0, 1)]


def spec_of(num_classes=0, channels=1, members=2, **heads):
    return ModelSpec(NETWORK, NETWORK, members, channels, num_classes, heads, {})


def nnunet_file(path, features=(4, 8), **more):
    network = PlainConvUNet(
        1, 2, list(features), torch.nn.Conv3d, [list(k) for k in NETWORK.kernels], [list(s) for s in NETWORK.strides],
        2, 3, 2, conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"affine": True},
        nonlin=torch.nn.LeakyReLU,
    )  # fmt: skip
    torch.save({"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", **more}, path)
    return network.state_dict()


def test_our_own_checkpoint_is_taken_whole(tmp_path):
    spec = spec_of(3, vertebra_map=2)
    source = spec.build()
    save_checkpoint(tmp_path / "checkpoint_final.pt", model_content(source, spec, {"vertebra_map"}))
    target = spec.build()
    taken = take_pretrained(target, tmp_path / "checkpoint_final.pt")
    assert not taken.left
    assert not taken.widened
    there, here = source.state_dict(), target.state_dict()
    assert all(torch.equal(there[name], here[name]) for name in there)


def test_readers_that_the_file_lacks_keep_their_start(tmp_path):
    spec = spec_of()
    source = spec.build()
    save_checkpoint(tmp_path / "c.pt", model_content(source, spec, set()))
    target = spec_of(3, members=1).build()
    before = target.readers[0].evidence.weight.clone()
    taken = take_pretrained(target, tmp_path / "c.pt")
    assert taken.left["readers.0.evidence.weight"] == "not in the file"
    assert all(name.startswith("readers.0.") for name in taken.left)
    assert torch.equal(target.readers[0].evidence.weight, before)
    assert torch.equal(target.state_dict()[FIRST], source.state_dict()[FIRST])


def test_the_u_net_of_nnunet_becomes_every_backbone_and_the_region_channel_keeps_its_start(tmp_path):
    given = nnunet_file(tmp_path / "checkpoint_final.pth", logging={"ema": [np.float64(0.5), np.float32(1)]})
    model = spec_of(3).build()
    regions = [model.state_dict()[name][:, 1:].clone() for name in FIRST_OF_READERS]
    taken = take_pretrained(model, tmp_path / "checkpoint_final.pth")
    own = model.state_dict()
    first = given["encoder.stages.0.0.convs.0.conv.weight"]
    assert torch.equal(own[FIRST], first)
    assert set(FIRST_OF_READERS) <= set(taken.widened)
    assert all(name.startswith("readers.") for name in taken.widened)
    for name, region in zip(FIRST_OF_READERS, regions, strict=True):
        assert torch.equal(own[name][:, :1], first)
        assert torch.equal(own[name][:, 1:], region)
    deep = "encoder.stages.1.0.convs.1.conv.weight"
    for start in ("finder", "readers.0", "readers.1"):
        assert torch.equal(own[f"{start}.backbone.unet.{deep}"], given[deep])
    assert all(".backbone." not in name for name in taken.left)


def test_weights_of_a_compiled_nnunet_are_taken_as_well(tmp_path):
    given = nnunet_file(tmp_path / "c.pth")
    renamed = {f"_orig_mod.{name}": value for name, value in given.items()}
    torch.save({"network_weights": renamed}, tmp_path / "compiled.pth")
    assert take_pretrained(spec_of().build(), tmp_path / "compiled.pth").matched


def test_another_width_is_told_with_both_shapes(tmp_path):
    nnunet_file(tmp_path / "c.pth", features=(4, 16))
    taken = take_pretrained(spec_of().build(), tmp_path / "c.pth")
    deep = "finder.backbone.unet.encoder.stages.1.0.convs.0.conv.weight"
    assert taken.left[deep] == "shape (16, 4, 3, 3, 3) there, (8, 4, 3, 3, 3) here"


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    torch.save({"weights": {"other": torch.zeros(2)}}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="none of its tensors fits"):
        take_pretrained(spec_of().build(), tmp_path / "c.pt")


def test_a_file_of_another_kind_is_refused_with_what_it_holds(tmp_path):
    torch.save({"model": {}}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"neither .* it has model"):
        take_pretrained(spec_of().build(), tmp_path / "c.pt")


class Hostile:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_asks_to_run_code_is_refused(tmp_path, capsys):
    torch.save({"network_weights": {"a": Hostile()}}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="refused"):
        take_pretrained(spec_of().build(), tmp_path / "c.pth")
    assert "code ran" not in capsys.readouterr().out


def test_of_our_own_checkpoint_with_fewer_channels_the_region_goes_to_the_region(tmp_path):
    spec = spec_of(3)
    source = spec.build()
    save_checkpoint(tmp_path / "c.pt", model_content(source, spec, set()))
    target = spec_of(3, channels=2).build()
    own = {name: target.state_dict()[name][:, 1].clone() for name in (FIRST, *FIRST_OF_READERS)}
    take_pretrained(target, tmp_path / "c.pt")
    there, here = source.state_dict(), target.state_dict()
    for name, second in own.items():
        assert torch.equal(here[name][:, 0], there[name][:, 0])
        assert torch.equal(here[name][:, 1], second)
    for name in FIRST_OF_READERS:
        assert torch.equal(here[name][:, 2], there[name][:, 1])


def test_of_our_own_checkpoint_with_more_channels_the_region_goes_to_the_region(tmp_path):
    spec = spec_of(3, channels=2)
    source = spec.build()
    save_checkpoint(tmp_path / "c.pt", model_content(source, spec, set()))
    target = spec_of(3).build()
    take_pretrained(target, tmp_path / "c.pt")
    there, here = source.state_dict(), target.state_dict()
    assert torch.equal(here[FIRST][:, 0], there[FIRST][:, 0])
    for name in FIRST_OF_READERS:
        assert torch.equal(here[name], there[name][:, [0, 2]])


def test_numbers_of_an_older_numpy_are_no_reason_to_refuse(tmp_path):
    nnunet_file(tmp_path / "new.pth", logging={"ema": [np.float64(0.5)]})
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(name, content)
    assert take_pretrained(spec_of().build(), tmp_path / "old.pth").matched
