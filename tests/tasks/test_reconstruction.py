"""Autoencoding: what is spoilt, what counts, and that nothing slips by the bottleneck."""

import pytest
import torch

from spinecls.dataloading.batch import ImageBatch, SealedBatch
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.tasks.reconstruction import (
    BottleneckDecoder,
    Reconstruction,
    ReconstructionTask,
    SealedReconstructionTask,
    spoil,
)
from spinecls.tasks.task import OwnOutputs

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
    bottleneck = Finder(NETWORK, 1, {}).backbone.bottleneck(image)
    assert BottleneckDecoder(NETWORK, 1)(bottleneck).shape == image.shape


def test_the_loss_is_the_mean_absolute_error_where_it_counts():
    task = object.__new__(ReconstructionTask)
    target = torch.zeros(1, 2, 1, 1, 3)
    made = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]).reshape(1, 2, 1, 1, 3)
    counts = torch.tensor([1.0, 1.0, 0.0]).reshape(1, 1, 1, 1, 3)
    loss = task.loss(
        OwnOutputs(Reconstruction(made, target, counts)), ImageBatch(image=target, images=target, targets={})
    )
    assert float(loss) == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_only_the_bottleneck_reaches_the_output(image):
    backbone, decoder = Finder(NETWORK, 1, {}).backbone, BottleneckDecoder(NETWORK, 1)
    assert torch.equal(decoder(backbone(image)[-1]), decoder(backbone.bottleneck(image)))


PLAN = Plan(
    plans_name="p", dataset_name="d", channel_names=("T2",), class_names=("no", "yes"), class_order=False,
    class_counts={}, levels={}, structures={}, lesion_structures={}, vertebrae_complete=True, ignore_label=255,
    level_statistics={}, configurations={},
)  # fmt: skip


def sealed_task(how):
    """The task and a reader that has its decoder."""
    configuration = Configuration(
        name="3d_fullres", spacing_mm=SPACING, patch_size=(8, 32, 24), sealed_spacing_mm=SPACING,
        sealed_size=(8, 32, 24), network=NETWORK, reader_network=NETWORK, reconstruction=how,
    )  # fmt: skip
    task, reader = SealedReconstructionTask(PLAN, configuration), Reader(NETWORK, 1, 2, {})
    reader.auxiliary[task.name] = task.module()
    return task, reader.eval()


def crops_of(image):
    """Crops whose region is a box with a margin; nothing of the image lies outside it."""
    region = torch.zeros_like(image)
    region[..., 2:6, 8:24, 6:18] = 0.5
    region[..., 2:6, 10:22, 8:16] = 1.0
    crops = torch.cat([image * (region > 0), region], dim=1)
    return SealedBatch(crops=crops, pooled=region[:, 0] > 0, targets={})


@pytest.mark.parametrize("how", ["denoise", "masked", "plain"])
def test_of_a_sealed_crop_nothing_counts_but_the_region(image, how):
    torch.manual_seed(0)
    task, reader = sealed_task(how)
    batch = crops_of(image)
    made = task.run(reader, batch, generator())
    region = batch.crops[:, -1:] > 0
    expected = spoil(batch.crops[:, :-1], how, SPACING, generator())[1] * region
    assert torch.equal(made.counts, expected)
    wrong = Reconstruction(torch.where(region, made.image, 1e3), torch.where(region, made.target, -1e3), made.counts)
    losses = [float(task.loss(OwnOutputs(own), batch).detach()) for own in (wrong, made)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("how", ["denoise", "masked", "plain"])
def test_a_reader_reconstructs_from_nothing_but_the_region(image, how):
    torch.manual_seed(0)
    task, reader = sealed_task(how)
    seen = []
    handle = reader.backbone.unet.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    batch = crops_of(image)
    task.run(reader, batch, generator())
    handle.remove()
    region = batch.crops[:, -1:]
    assert (seen[0][:, :-1][region == 0] == 0).all()
    assert torch.equal(seen[0][:, -1:], region)
