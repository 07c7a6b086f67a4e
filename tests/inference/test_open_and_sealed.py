"""The same model at every sealing level: what its classes depend on, and what is written."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from spinecls.geometry import Geometry
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.inference.reported import report_classes
from spinecls.inference.sealed_pass import View, augmented_views, classify, make_crops
from spinecls.io.images import read_image
from spinecls.networks.finder import Finder
from spinecls.networks.model import SpineModel
from spinecls.networks.pooling import POOLINGS
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.sealing.crop import shown_voxels
from spinecls.sealing.region import region_from_mask
from spinecls.sealing.sealing_levels import GUARANTEED, SEALS

TURN = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.25).GetMatrix()).reshape(3, 3)
STRAIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
SHAPE = (8, 90, 50)
MARROW = np.array([[100.0, 20.0]])
PRIOR = np.full(3, 1 / 3)
NETWORK = NetworkPlan(features=(6, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres",
    spacing_mm=(4.0, 2.0, 2.0),
    patch_size=(8, 32, 32),
    sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(8, 32, 24),
    network=NETWORK,
    reader_network=NETWORK,
)
MODELS = {"nominal": ("lse", False), "attention": ("attention", False), "grades": ("lse", True)}


@pytest.fixture(params=["flipped", "oblique"])
def grid(request):
    direction = STRAIGHT @ np.diag([-1.0, -1.0, 1.0]) if request.param == "flipped" else TURN @ STRAIGHT
    return Geometry(
        shape=SHAPE, spacing_mm=(4.0, 1.0, 1.0), origin_lps=(5.0, 9.0, -3.0), direction=tuple(map(tuple, direction))
    )


@pytest.fixture
def regions(grid):
    masks = np.zeros((3, *SHAPE), bool)
    for i, mask in enumerate(masks):
        mask[2:6, 8 + 26 * i : 26 + 26 * i, 15:37] = True
    return [region_from_mask(mask, grid, 2.0) for mask in masks]


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(100, 20, (1, *SHAPE)).astype(np.float32)


def predictor_of(seal, kind="nominal", members=2, **more):
    """A model of random weights."""
    pooling, ordinal = MODELS[kind]
    configuration = dataclasses.replace(CONFIGURATION, seal=seal, pooling=pooling)
    plan = Plan(
        plans_name="p",
        dataset_name="d",
        channel_names=("T2",),
        class_names=("a", "b", "c"),
        class_order=ordinal,
        class_counts={"a": 3, "b": 2, "c": 2},
        levels={"L1": 20},
        structures={},
        lesion_structures={},
        vertebrae_complete=True,
        ignore_label=255,
        level_statistics={},
        configurations={"3d_fullres": configuration},
    )
    torch.manual_seed(0)
    readers = [Reader(configuration.reader_network, 1, 3, {}, pooling, ordinal) for _ in range(members)]
    model = SpineModel(Finder(configuration.network, 1, {}), readers)
    return Predictor([model], plan, configuration, **more)


def only_inside(image, region, seed):
    """An image of another patient with the voxels of one region."""
    other = np.random.default_rng(seed).normal(300, 90, image.shape).astype(np.float32)
    box = (slice(None), *region.slices)
    other[box] = np.where(region.mask[None], image[box], other[box])
    return other


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seal", GUARANTEED)
def test_a_sealed_class_is_bit_identical_when_everything_outside_is_replaced(seal, kind, image, grid, regions):
    predictor = predictor_of(seal, kind)
    before = predictor.classify_regions(image, grid, regions, MARROW)
    for i, region in enumerate(regions):
        for seed in (1, 2):
            after = predictor.classify_regions(only_inside(image, region, seed), grid, regions, MARROW)
            assert np.array_equal(before.members[..., i, :], after.members[..., i, :])
            assert np.array_equal(before.evidence[i], after.evidence[i])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seal", ["S0", "S1"])
def test_an_open_class_changes_when_everything_outside_is_replaced(seal, kind, image, grid, regions):
    predictor = predictor_of(seal, kind)
    before = predictor.classify_regions(image, grid, regions, MARROW)
    after = predictor.classify_regions(only_inside(image, regions[1], 1), grid, regions, MARROW)
    assert np.abs(before.members[..., 1, :] - after.members[..., 1, :]).max() > 1e-4


def test_s3_does_not_look_at_the_marrow_of_the_case_and_s2_does(image, grid, regions):
    for seal, depends in (("S3", False), ("S2", True)):
        predictor = predictor_of(seal)
        one, two = (predictor.classify_regions(image, grid, regions, m) for m in (MARROW, MARROW * 2 + 11))
        assert np.array_equal(one.members, two.members) != depends


def test_a_voxel_of_the_region_counts_at_every_level(image, grid, regions):
    changed = image.copy()
    changed[0, 4, 40:44, 25:29] += 400
    for seal in SEALS:
        predictor = predictor_of(seal)
        one, two = (predictor.classify_regions(i, grid, regions, MARROW) for i in (image, changed))
        assert not np.array_equal(one.members[..., 1, :], two.members[..., 1, :]), seal


def bright_spots(predictor):
    """Make evidence the brightness of the voxel itself, whatever lies around it."""

    class Brightness(torch.nn.Module):
        def forward(self, crops):
            return [crops[:, :1]]

    for reader in predictor.models[0].readers:
        reader.backbone = Brightness()
        reader.evidence = torch.nn.Conv3d(1, 2, 1)
        torch.nn.init.ones_(reader.evidence.weight)
        torch.nn.init.zeros_(reader.evidence.bias)


def test_only_s0_pools_a_lesion_outside_the_region(grid, regions):
    flat = np.full((1, *SHAPE), 100.0, np.float32)
    lesion = flat.copy()
    lesion[0, 3:5, 44:48, 40:48] = 200.0  # behind the second vertebra, whose region ends at column 38
    for seal, sees in (("S0", True), ("S1", False), ("S2", False), ("S3", False)):
        predictor = predictor_of(seal)
        bright_spots(predictor)
        before, after = (predictor.classify_regions(i, grid, regions[1:2], MARROW) for i in (flat, lesion))
        assert (after.probabilities[0, 1] > before.probabilities[0, 1] + 0.05) == sees, seal
        assert (after.evidence[0, 1].max() > 3) == sees, seal


def test_mirrored_views_pool_the_mirrored_voxels(grid, regions):
    lesion = np.full((1, *SHAPE), 100.0, np.float32)
    lesion[0, 3:5, 44:48, 40:48] = 200.0
    for seal in SEALS:
        plain, mirrored = predictor_of(seal, augment=False), predictor_of(seal, augment=True)
        bright_spots(plain)
        bright_spots(mirrored)
        one, two = (p.classify_regions(lesion, grid, regions, MARROW) for p in (plain, mirrored))
        # Two readers in six views, the first four of which are mirrored ones.
        assert two.members.shape[:2] == (1, 12)
        for view in (*two.members[0, :4], *two.members[0, 6:10]):
            assert one.probabilities == pytest.approx(view, abs=1e-6)


def test_views_of_more_contrast_show_greater_deviations_of_the_same_region():
    crops = torch.rand((2, 3, 2, 4, 4))
    seen = View(contrast=1.1).of(crops)
    assert torch.allclose(seen[:, :2], 1.1 * crops[:, :2])
    assert torch.equal(seen[:, 2], crops[:, 2])


@pytest.fixture
def two_folds():
    """Two models of two readers each, which all say something else, and each alone: fold, reader, predictor."""
    predictor = predictor_of("S2")
    predictor.models = [predictor.models[0], predictor_of("S2").models[0]]
    with torch.no_grad():
        for reader in predictor.models[1].readers:
            reader.evidence.weight.mul_(2)
    alone = [
        (fold, number, SpineModel(model.finder, [reader]))
        for fold, model in enumerate(predictor.models)
        for number, reader in enumerate(model.readers)
    ]
    return predictor, alone


def test_members_are_what_each_reader_of_each_fold_says_to_each_view_alone(image, grid, regions, two_folds):
    predictor, alone = two_folds
    together = predictor.classify_regions(image, grid, regions, MARROW)
    views = augmented_views(predictor.configuration.sealed_mirror_axes)
    assert together.members.shape[:2] == (2, 2 * len(views))
    crops, pooled = make_crops(image, grid, regions, MARROW, predictor.configuration)
    for fold, reader, model in alone:
        for number, view in enumerate(views):
            own = classify([model], crops, pooled, predictor.class_shift()[fold], torch.device("cpu"), [view])
            found = together.members[fold, reader * len(views) + number]
            assert found == pytest.approx(own.members[0, 0], abs=1e-6)
    assert len({round(float(p), 6) for p in together.members[:, :: len(views), 0, 0].ravel()}) == 4


def test_everything_that_is_reported_is_the_mean_over_folds_and_readers(image, grid, regions, two_folds):
    predictor, alone = two_folds
    predictor.augment = False
    together = predictor.classify_regions(image, grid, regions, MARROW)
    crops, pooled = make_crops(image, grid, regions, MARROW, predictor.configuration)
    own = [
        classify([model], crops, pooled, predictor.class_shift()[fold], torch.device("cpu"), [View()])
        for fold, _, model in alone
    ]
    for name in ("probabilities", "pooled", "contributions", "speaks"):
        expected = np.mean([getattr(result, name) for result in own], axis=0)
        assert getattr(together, name) == pytest.approx(expected, abs=1e-6), name
    # That of the first class is made of the mean of the others.
    assert together.evidence[:, 1:] == pytest.approx(np.mean([r.evidence[:, 1:] for r in own], axis=0), abs=1e-6)


def test_contributions_of_the_mean_add_up_to_its_pooled_evidence(image, grid, regions, two_folds):
    predictor, alone = two_folds
    predictor.configuration = dataclasses.replace(predictor.configuration, pooling="mean")
    for model in predictor.models:
        for reader in model.readers:
            reader.pooling = POOLINGS["mean"](2, 6)
            torch.nn.init.normal_(reader.pooling.bias)
    result = predictor.classify_regions(image, grid, regions, MARROW)
    # Of the mean of voxels nothing is left over but the bias (`networks.pooling`).
    bias = np.mean([model.readers[0].pooling.bias.detach().numpy() for _, _, model in alone], axis=0)
    total = result.contributions.astype(float).sum(axis=(2, 3, 4))
    assert total == pytest.approx(result.pooled - bias, abs=1e-5)


def test_readers_that_disagree_are_doubt_of_the_model_as_folds_are(image, grid, regions):
    predictor = predictor_of("S2", augment=False)
    two = predictor.classify_regions(image, grid, regions, MARROW)
    predictor.models = [SpineModel(predictor.models[0].finder, [predictor.models[0].readers[0]] * 2)]
    same = predictor.classify_regions(image, grid, regions, MARROW)
    assert two.members.shape == same.members.shape == (1, 2, 3, 3)
    doubt = [report_classes(r, predictor.plan, ("0",), None, None, PRIOR).doubt for r in (two, same)]
    p = two.members[0].mean(axis=0)
    entropy = -(p * np.log(p)).sum(axis=-1)
    within = -(two.members[0] * np.log(two.members[0])).sum(axis=-1).mean(axis=0)
    assert doubt[0].mutual_information == pytest.approx(entropy - within)
    assert (doubt[0].mutual_information > 1e-6).all()
    assert doubt[1].mutual_information == pytest.approx(np.zeros(3), abs=1e-12)


def test_a_model_without_readers_tells_no_classes(image, grid, regions):
    assert predictor_of("S2", members=0).classify_regions(image, grid, regions, MARROW) is None


def test_evidence_of_every_grade_is_the_severity(image, grid, regions):
    evidence = predictor_of("S2", "grades").classify_regions(image, grid, regions, MARROW).evidence
    assert evidence.shape[:2] == (3, 3)
    assert (evidence == evidence[:, :1]).all()
    assert (evidence != 0).any()


@pytest.fixture(scope="module")
def results(trained_phantom):
    """Predictions of one image by a trained model, whose every voxel speaks for every class, at every level."""
    folder = trained_phantom / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    predictor = load_predictor(choose_model(ModelChoice(folder=folder)), torch.device("cpu"), augment=False)
    for reader in predictor.models[0].readers:
        reader.pooling.bias.data += 100
    volume = read_image([sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").iterdir())[0]])
    found = {}
    for seal in SEALS:
        predictor.configuration = dataclasses.replace(predictor.configuration, seal=seal)
        found[seal] = predictor.predict_volume(volume.array, volume.geometry)
    assert found["S2"].vertebrae
    return volume.geometry, predictor.configuration, found


@pytest.mark.parametrize("seal", SEALS)
def test_the_result_says_what_is_guaranteed(results, seal):
    for vertebra in results[2][seal].vertebrae:
        assert vertebra.region["seal"] == seal
        assert vertebra.region["guaranteed"] == (seal in ("S2", "S3"))
        assert ("not_sealed" in vertebra.flags) == (seal in ("S0", "S1"))
        assert (vertebra.region["marrow_reference"] is None) == (seal == "S3")


@pytest.mark.parametrize("seal", ["S1", "S2", "S3"])
def test_the_evidence_map_is_zero_outside_the_regions(results, seal):
    geometry, _, found = results
    inside = np.zeros(geometry.shape, bool)
    for region in found[seal].located.regions:
        inside[region.slices] |= region.mask
    assert (found[seal].evidence[~inside] == 0).all()
    assert (found[seal].evidence[inside] != 0).any()


def test_the_evidence_map_of_s0_fills_the_crops(results):
    geometry, configuration, found = results
    shown = np.zeros(geometry.shape, bool)
    beyond = np.ones(geometry.shape, bool)
    for region in found["S0"].located.regions:
        shown[shown_voxels(geometry, region, configuration.sealed_size, configuration.sealed_spacing_mm).slices] = True
        beyond[region.slices] &= ~region.mask
    evidence = found["S0"].evidence
    assert (evidence[~shown] == 0).all()
    assert (evidence[shown & beyond] != 0).mean() > 0.99
