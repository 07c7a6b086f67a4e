"""Autoencoding: what is spoilt, what counts, and that nothing slips by the bottleneck."""

import pytest
import torch

from spinecls.dataloading.batch import Batch
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.base import Outputs
from spinecls.tasks.reconstruction import BottleneckDecoder, Reconstruction, ReconstructionTask, spoil

NETWORK = NetworkPlan(
    features=(4, 8, 8), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3))
)
SPACING = (4.0, 2.0, 2.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def image():
    return torch.randn(2, 1, 8, 32, 24, generator=generator(9))


def test_plain_leaves_the_image_as_it_is(image):
    spoilt, counts = spoil(image, "plain", SPACING, generator())
    assert torch.equal(spoilt, image)
    assert counts.all()


def test_masked_hides_cubes_and_counts_only_there(image):
    spoilt, counts = spoil(image, "masked", SPACING, generator())
    hidden = counts > 0
    assert (spoilt[hidden] == 0).all()
    assert torch.equal(spoilt[~hidden], image[~hidden])
    # Cubes of 16 mm: 4 x 8 x 8 voxels, each hidden whole or not at all.
    cubes = counts.reshape(2, 2, 4, 4, 8, 3, 8)
    assert set(cubes.sum(dim=(2, 4, 6)).unique().tolist()) <= {0.0, 256.0}
    assert 0.4 < float(counts.mean()) < 0.9


def test_denoising_spoils_everything_and_counts_everywhere(image):
    spoilt, counts = spoil(image, "denoise", SPACING, generator())
    assert counts.all()
    assert (spoilt != image).float().mean() > 0.99
    assert (spoilt == 0).any()


@pytest.mark.parametrize("how", ["denoise", "masked"])
def test_the_same_seed_spoils_alike_and_the_image_itself_is_not_touched(image, how):
    before = image.clone()
    one, two, other = (spoil(image, how, SPACING, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(image, before)


def test_the_decoder_gives_back_the_shape_of_the_image(image):
    model = SpineModel(NETWORK, 1, 0, {})
    bottleneck = model.backbone.bottleneck(torch.cat([image, torch.ones_like(image)], dim=1))
    assert BottleneckDecoder(NETWORK, 1)(bottleneck).shape == image.shape


def test_the_loss_is_the_mean_absolute_error_where_it_counts():
    task = object.__new__(ReconstructionTask)
    target = torch.zeros(1, 2, 1, 1, 3)
    made = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]).reshape(1, 2, 1, 1, 3)
    counts = torch.tensor([1.0, 1.0, 0.0]).reshape(1, 1, 1, 1, 3)
    loss = task.loss(Outputs(own=Reconstruction(made, target, counts)), Batch(None, None))
    assert float(loss) == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_only_the_bottleneck_reaches_the_output(image):
    model = SpineModel(NETWORK, 1, 0, {})
    decoder = BottleneckDecoder(NETWORK, 1)
    features = model.backbone(torch.cat([image, torch.ones_like(image)], dim=1))
    assert torch.equal(decoder(features[-1]), decoder(model.backbone.bottleneck(torch.cat([image, image**0], dim=1))))
