import dataclasses
import itertools

import numpy as np
import pytest
import torch

from spinecls.beliefs import Belief, belief, certain
from spinecls.dataloading.cases import LabelledRegion, SealedSource, TrainingCase
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.dataloading.open_patches import OTHER_VERTEBRA, open_patch, patch_middle, short_view
from spinecls.dataloading.sealed_crops import draw_sources, likeliest_classes, rough_region
from spinecls.geometry import Geometry
from spinecls.planning.plan import Configuration, NetworkPlan

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(4.0, 2.0, 2.0), patch_size=(6, 24, 20), sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(6, 16, 16), network=NETWORK, reader_network=NETWORK, batch_size=2,
    sealed_batch_size=4, balanced_crop_share=0.5,
)
BOX = Geometry(
    shape=(8, 24, 24), spacing_mm=(4.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def a_case(shape=(9, 60, 40), seed=0, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "identifier": f"case{seed}",
        "image": rng.normal(size=(1, *shape)).astype(np.float32),
        "vertebra_map": rng.integers(0, 3, shape).astype(np.uint8),
        "structures": None,
        "unknown": np.zeros(shape, bool),
        "centres": np.array([[4.0, 20.0, 20.0], [4.0, 38.0, 20.0]]),
        "ranks": np.array([20, 21]),
        "spacing_mm": np.array([4.0, 2.0, 2.0]),
    }
    return TrainingCase(**values | changes)


def a_source(label, seed=0, with_mask=True):
    rng = np.random.default_rng(seed)
    centre = BOX.to_world((3.5, 11.5, 11.5))
    distance = np.full(BOX.shape, 9.0, np.float32)
    distance[2:6, 5:19, 5:19] = 0
    return SealedSource(
        image=rng.normal(100, 10, (1, *BOX.shape)).astype(np.float32), box=BOX,
        distance=distance if with_mask else None, centre_lps=centre, tangent_lps=np.array([0.0, 0.0, 1.0]),
        extent_mm=np.array([20.0, 14.0, 14.0]), marrow=np.array([[100.0, 10.0]]), lesions=None, label=label,
        case=f"case{seed}",
    )


DATA = TrainingData(
    [a_case(seed=s) for s in range(3)], [a_source(certain(k % 3, 3), k, with_mask=k % 2 == 0) for k in range(9)]
)


def tensors(batch):
    return [v for v in vars(batch.sealed or batch.open).values() if isinstance(v, torch.Tensor)]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))


def take(count, **options):
    chosen = {"sealed": False, "seed": 5, "first_step": 0, "workers": 0} | options
    batches = training_batches(DATA, CONFIGURATION, **chosen)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


BOTH = pytest.mark.parametrize("sealed", [False, True], ids=["finder", "readers"])


@BOTH
def test_the_same_seed_gives_the_same_batches(sealed):
    assert all(same(a, b) for a, b in zip(take(8, sealed=sealed), take(8, sealed=sealed), strict=True))


@BOTH
def test_another_seed_gives_other_batches(sealed):
    assert not same(take(1, sealed=sealed)[0], take(1, sealed=sealed, seed=6)[0])


@BOTH
def test_a_resumed_stream_goes_on_where_it_stopped(sealed):
    resumed = take(3, sealed=sealed, first_step=3)
    assert all(same(a, b) for a, b in zip(take(6, sealed=sealed)[3:], resumed, strict=True))


@BOTH
def test_workers_give_the_batches_of_a_single_process_in_the_order_of_the_steps(sealed):
    torch.nn.functional.conv2d(torch.randn(1, 8, 64, 64), torch.randn(8, 8, 3, 3))  # the parent has used its threads
    assert all(same(a, b) for a, b in zip(take(5, sealed=sealed), take(5, sealed=sealed, workers=2), strict=True))


def test_the_finder_gets_patches_alone_and_readers_crops_alone():
    finder, readers = take(1)[0], take(1, sealed=True)[0]
    assert (finder.sealed, readers.open) == (None, None)
    assert finder.open.image.shape == (2, 1, 6, 24, 20)
    assert readers.sealed.crops.shape == (4, 2, 6, 16, 16)


@pytest.mark.parametrize("slices", [5, 6, 7, 9, 12])
@pytest.mark.parametrize("size", [1, 6])
def test_the_slices_of_a_patch_are_slices_of_the_image(slices, size):
    case = a_case(shape=(slices, 60, 40))
    for seed in range(20):
        middle = patch_middle(case, (size, 24, 20), np.random.default_rng(seed))
        assert (middle[0] - (size - 1) / 2) % 1 == pytest.approx(0)


def test_a_patch_shows_true_slices_even_when_it_is_thicker_than_the_image():
    image = np.zeros((1, 5, 60, 40), np.float32)
    image[0, 2] = 8.0
    case = a_case(shape=(5, 60, 40), image=image)
    patch = open_patch(case, CONFIGURATION, np.random.default_rng(0))["data"][0]
    assert sorted(np.round(patch.max(axis=(1, 2)), 3).tolist())[-2:] == [0.0, 8.0]


def test_an_unknown_zone_has_no_weight_except_near_a_centre():
    case = a_case(unknown=np.ones((9, 60, 40), bool))
    row = open_patch(case, CONFIGURATION, np.random.default_rng(0))
    assert np.array_equal(row["heatmap_weight"] > 0, row["heatmap"] > 0.1)


def test_nothing_of_a_sealed_crop_lies_outside_its_region():
    for batch in take(3, sealed=True):
        crops = batch.sealed.crops
        assert (crops[:, :1][crops[:, -1:] == 0] == 0).all()
        assert crops[:, -1].flatten(1).any(dim=1).all()


def test_the_balanced_share_draws_rare_classes_more_often():
    either = a_source(belief([((1, 2), 1)], 3))
    sources = [a_source(certain(0, 3), 0)] * 30 + [a_source(certain(1, 3), 1)] * 2 + [either]
    rng = np.random.default_rng(0)
    classes = likeliest_classes(sources)
    drawn = [s for _ in range(300) for s in draw_sources(sources, classes, CONFIGURATION, rng)]
    share = np.mean([s.label.singletons()[1] for s in drawn])
    assert share == pytest.approx(0.5 / 3 + 0.5 * 2 / 33, abs=0.03)


def test_a_label_that_is_a_set_but_for_a_trace_is_drawn_as_a_set():
    trace = Belief(np.array([[1, 0, 0], [1, 0, 1]], bool), np.array([0.001, 0.5], np.float32), np.full(2, -1))
    sources = [a_source(certain(0, 3), 0)] * 30 + [a_source(trace, 1)]
    rng = np.random.default_rng(0)
    classes = likeliest_classes(sources)
    drawn = [s.case for _ in range(300) for s in draw_sources(sources, classes, CONFIGURATION, rng)]
    assert np.mean([case == "case1" for case in drawn]) == pytest.approx(0.5 / 2 + 0.5 / 31, abs=0.04)


def test_the_likeliest_class_is_the_greatest_mass_and_none_where_sets_prevail():
    labels = [
        certain(2, 3),
        belief([((0,), 1), ((1,), 1), ((1,), 1)], 3),
        belief([((1, 2), 1)], 3),
        # Half of the mass names a class, which is enough; less does not.
        belief([((1,), 1), ((0, 2), 1)], 3),
        belief([((1,), 0.9), ((0, 2), 1)], 3),
    ]  # fmt: skip
    assert likeliest_classes([a_source(label) for label in labels]).tolist() == [2, 1, -1, 1, -1]


def test_without_an_error_the_region_of_training_is_that_of_the_drawn_mask():
    source = a_source(certain(0, 3))
    exact = dataclasses.replace(CONFIGURATION, region_error_mm=0.0)
    region = rough_region(source, exact, np.random.default_rng(0))
    assert np.array_equal(region.outline, source.distance <= 0)
    assert np.array_equal(region.mask, source.distance <= exact.sealing_margin_mm)


def test_regions_of_training_differ_from_step_to_step():
    masks = [rough_region(a_source(certain(0, 3)), CONFIGURATION, np.random.default_rng(seed)).outline
             for seed in range(6)]
    assert len({mask.tobytes() for mask in masks}) > 1


def test_an_ellipsoid_of_training_has_no_outline():
    region = rough_region(a_source(certain(0, 3), with_mask=False), CONFIGURATION, np.random.default_rng(0))
    assert (region.source, region.outline) == ("ellipsoid", None)


def a_numbered_case():
    """60 rows whose image shows the row's number; two vertebrae, one voxel each, at rows 20 and 38."""
    image = np.broadcast_to(np.arange(60, dtype=np.float32)[None, None, :, None], (1, 9, 60, 40)).copy()
    vertebra_map = np.zeros((9, 60, 40), np.uint8)
    vertebra_map[4, 20, 20], vertebra_map[4, 38, 20], vertebra_map[4, :, 0] = 1, 2, 255
    return a_case(image=image, vertebra_map=vertebra_map)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_view_shows_its_vertebrae_where_the_image_does(seed):
    view = short_view(a_numbered_case(), np.random.default_rng(seed))
    first = view.image[0, 0, 0, 0]
    assert 0.35 * 60 <= view.image.shape[2] <= 0.9 * 60
    assert len(view.centres) >= 1
    for row, (centre, rank) in enumerate(zip(view.centres, view.ranks, strict=True)):
        assert view.vertebra_map[tuple(centre.astype(int))] == row + 1
        assert centre[1] + first == {20: 20, 21: 38}[rank]


def test_a_vertebra_cut_off_by_a_short_view_stays_vertebra_and_is_no_target():
    case = a_numbered_case()
    # The second vertebra also has a voxel in every row.
    case.vertebra_map[3, :, 5] = 2
    views = [short_view(case, np.random.default_rng(seed)) for seed in range(40)]
    cut = [view for view in views if view.ranks.tolist() == [20]]
    assert cut
    for view in cut:
        assert np.all(view.vertebra_map[3, :, 5] == OTHER_VERTEBRA)
        assert np.all(view.vertebra_map[4, :, 0] == 255)


def with_classes(case, *labels):
    counts = np.bincount(case.vertebra_map.ravel(), minlength=3)[1:3]
    regions = tuple(LabelledRegion(label, float(n)) for label, n in zip(labels, counts, strict=True))
    return dataclasses.replace(case, classes=regions)


def blocks(**changes):
    """A case with two vertebrae of ten rows each, from rows 15 and 33 on."""
    vertebra_map = np.zeros((9, 60, 40), np.uint8)
    vertebra_map[3:6, 15:25, 15:25] = 1
    vertebra_map[3:6, 33:43, 15:25] = 2
    return a_case(vertebra_map=vertebra_map, **changes)


STILL = dataclasses.replace(
    CONFIGURATION, rotation_degrees=0.0, scale_range=(1.0, 1.0), mirror_axes=(), patch_size=(9, 60, 40)
)
"""Patches that are the whole image of `a_case`, as it is."""


def test_a_patch_says_what_is_believed_of_the_vertebrae_that_it_shows():
    case = with_classes(blocks(), certain(2, 3), certain(0, 3))
    row = open_patch(case, STILL, np.random.default_rng(0))
    assert {number: label.singletons().tolist() for number, label in row["labels"].items()} == {
        1: [0, 0, 1], 2: [1, 0, 0],
    }  # fmt: skip
    assert np.array_equal(row["numbers"], case.vertebra_map)


def test_without_a_map_a_usual_body_has_the_class_of_its_centre():
    drawn = blocks()
    case = dataclasses.replace(drawn, vertebra_map=None, bodies=drawn.vertebra_map)
    case = dataclasses.replace(case, classes=(LabelledRegion(certain(1, 3), 300.0),) * 2)
    row = open_patch(case, STILL, np.random.default_rng(0))
    assert (row["numbers"][4, 20, 20], row["numbers"][4, 38, 20]) == (1, 2)
    assert set(row["labels"]) == {1, 2}


def test_a_vertebra_of_which_nobody_read_the_class_is_left_out():
    case = with_classes(blocks(), belief([], 3), certain(0, 3))
    assert set(open_patch(case, STILL, np.random.default_rng(0))["labels"]) == {2}


@pytest.mark.parametrize(("rows", "expected"), [(9, {1: 0.9, 2: 1.0}), (3, {2: 1.0})])
def test_the_less_a_patch_shows_of_a_vertebra_the_less_is_believed(rows, expected):
    case = with_classes(blocks(), certain(1, 3), certain(0, 3))
    short = dataclasses.replace(
        case, image=case.image[:, :, 25 - rows :], vertebra_map=case.vertebra_map[:, 25 - rows :],
        unknown=case.unknown[:, 25 - rows :], centres=case.centres - [0, 25 - rows, 0],
    )  # fmt: skip
    labels = open_patch(short, STILL, np.random.default_rng(0))["labels"]
    assert {number: label.weight for number, label in labels.items()} == pytest.approx(expected)


def test_a_short_view_keeps_the_classes_of_its_vertebrae():
    case = with_classes(blocks(), certain(1, 3), certain(0, 3))
    views = [short_view(case, np.random.default_rng(seed)) for seed in range(20)]
    of_rank = {20: 1, 21: 0}
    assert any(len(view.classes) == 1 for view in views)
    for view in views:
        assert [int(region.label.singletons().argmax()) for region in view.classes] == [of_rank[r] for r in view.ranks]


def test_a_batch_lists_the_vertebrae_of_all_its_patches():
    both = with_classes(blocks(identifier="both"), certain(1, 3), certain(0, 3))
    second = with_classes(blocks(identifier="second"), belief([], 3), certain(2, 3))
    data, many = TrainingData([both, second], []), dataclasses.replace(STILL, batch_size=6)
    batches = training_batches(data, many, sealed=False, seed=0, first_step=0, workers=0)
    batch = next(batches).open
    batches.close()
    assert set(batch.cases) == {"both", "second"}
    of_case = {"both": [(1, 1), (2, 0)], "second": [(2, 2)]}
    expected = [(patch, number, k) for patch, case in enumerate(batch.cases) for number, k in of_case[case]]
    classes = batch.classes
    singletons = (classes.sets * classes.masses[..., None]).sum(dim=1)
    found = zip(classes.patch.tolist(), classes.number.tolist(), singletons.argmax(dim=1).tolist(), strict=True)
    assert list(found) == expected
    assert torch.equal(classes.numbers, batch.vertebra_map * (1 + (classes.numbers == 2)))


def test_batches_without_the_task_have_no_classes():
    batches = training_batches(TrainingData([blocks()], []), STILL, sealed=False, seed=0, first_step=0, workers=0)
    assert next(batches).open.classes is None
    batches.close()


def test_a_view_without_any_centre_is_not_taken():
    case = a_case(centres=np.zeros((0, 3)), ranks=np.zeros(0, int))
    assert short_view(case, np.random.default_rng(0)) is case
