import dataclasses
import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from made_up_cases import CONFIGURATION, PLAN, STILL, a_case, a_source, blocks, with_classes

from spinecls.beliefs import Belief, belief, certain
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.dataloading.open_patches import (
    OTHER_VERTEBRA,
    OpenSampler,
    centres_in_patch,
    open_patch,
    patch_middle,
    short_view,
)
from spinecls.dataloading.sealed_crops import draw_sources, likeliest_classes, rough_region, training_crop
from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.open_tasks import CentreTask, LevelTask, VertebraMapTask
from spinecls.tasks.task import Task

DATA = TrainingData(
    [a_case(seed=s) for s in range(3)], [a_source(certain(k % 3, 3), k, with_mask=k % 2 == 0) for k in range(9)]
)


OF_FINDER = [kind(PLAN, CONFIGURATION) for kind in (CentreTask, LevelTask, VertebraMapTask)]
OF_READERS = [ClassificationTask(PLAN, CONFIGURATION)]


def tensors(batch):
    parts = [vars(batch), *batch.targets.values()]
    return [value for part in parts for value in part.values() if isinstance(value, torch.Tensor)]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))


def take(count, **options):
    chosen = {"sealed": False, "seed": 5, "first_step": 0, "workers": 0} | options
    chosen = {"tasks": OF_READERS if chosen["sealed"] else OF_FINDER} | chosen
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
    assert not hasattr(finder, "crops")
    assert not hasattr(readers, "image")
    assert finder.image.shape == (2, 1, 6, 24, 20)
    assert readers.crops.shape == (4, 2, 6, 16, 16)


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
    patch = open_patch(case, CONFIGURATION, [], np.random.default_rng(0))["data"][0]
    assert sorted(np.round(patch.max(axis=(1, 2)), 3).tolist())[-2:] == [0.0, 8.0]


def test_nothing_of_a_sealed_crop_lies_outside_its_region():
    for batch in take(3, sealed=True):
        crops = batch.crops
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
    masks = [
        rough_region(a_source(certain(0, 3)), CONFIGURATION, np.random.default_rng(seed)).outline for seed in range(6)
    ]
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


def test_a_short_view_keeps_the_classes_of_its_vertebrae():
    case = with_classes(blocks(), certain(1, 3), certain(0, 3))
    views = [short_view(case, np.random.default_rng(seed)) for seed in range(20)]
    of_rank = {20: 1, 21: 0}
    assert any(len(view.classes) == 1 for view in views)
    for view in views:
        assert [int(region.label.singletons().argmax()) for region in view.classes] == [of_rank[r] for r in view.ranks]


def test_centres_near_the_patch_border_are_not_named():
    centres = np.array([[0.0, 5, 5], [4.0, 0.5, 5], [4.0, 20, 39.5], [8.4, 20, 20]])
    assert centres_in_patch(centres, (9, 40, 40)).tolist() == [0, 3]


def test_what_is_drawn_at_random_does_not_depend_on_the_tasks():
    many, none = take(3), take(3, tasks=[])
    assert all(torch.equal(a.image, b.image) for a, b in zip(many, none, strict=True))


def test_a_short_view_keeps_the_axes_of_its_vertebrae():
    axes = np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0])])
    views = [short_view(a_case(axes=axes), np.random.default_rng(seed)) for seed in range(20)]
    assert any(len(view.axes) == 1 for view in views)
    for view in views:
        assert np.array_equal(view.axes, axes[view.ranks - 20])


class Cases(Task):
    """Wants what a case and its sampler say, of the finder or (`sealed`) of readers."""

    name = "cases"
    configuration = CONFIGURATION

    def __init__(self, sealed=False):
        self.sealed = sealed

    def target(self, case, sampler):
        level = int(case.level[1:]) if self.sealed else case.ranks[0]
        return {"level": np.array(level), "size": np.array(sampler.patch_size)}

    def empty(self):
        return {"level": np.array(0), "size": np.zeros(3, int)}

    def loss(self, outputs, batch):
        return 0


@BOTH
@pytest.mark.parametrize("workers", [0, 2])
def test_a_task_finds_its_target_of_every_patch_or_crop(sealed, workers):
    (batch,) = take(1, sealed=sealed, tasks=[Cases(sealed)], workers=workers)
    count, level, size = (4, 1, [6, 16, 16]) if sealed else (2, 20, [6, 24, 20])
    assert batch.targets["cases"]["level"].tolist() == [level] * count
    assert batch.targets["cases"]["size"].tolist() == [size] * count


class Unknowing(Cases):
    def target(self, case, sampler):
        return None


def test_a_case_of_which_a_task_knows_nothing_has_its_empty_target():
    (batch,) = take(1, tasks=[Unknowing()])
    assert batch.targets["cases"]["level"].tolist() == [0, 0]


class Failing(Cases):
    def target(self, case, sampler):
        raise ZeroDivisionError(f"of {self.name}")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_target_is_raised_where_it_can_be_told(workers):
    with pytest.raises(ZeroDivisionError, match="of cases") as raised:
        take(1, tasks=[Failing()], workers=workers)
    assert raised.traceback[-1].name == "target"


def test_a_worker_that_fails_alone_says_why(monkeypatch):
    monkeypatch.setattr(Failing, "target", failing_in_workers_only)
    with pytest.raises(RuntimeError, match=r"(?s)could not make the batch of step 0.*only in a worker"):
        take(1, tasks=[Failing()], workers=1)


def failing_in_workers_only(task, case, sampler):
    if multiprocessing.parent_process() is not None:
        raise ValueError("only in a worker")
    return task.empty()


def test_a_crop_reads_maps_of_the_box_where_it_shows_them():
    source, exact = a_source(certain(0, 3)), dataclasses.replace(CONFIGURATION, region_error_mm=0.0)
    crop, sampler = training_crop(source, exact, np.random.default_rng(0))
    drawn = sampler.on(source.box).labels((source.distance <= 0).astype(np.uint8), outside=0)
    outline = crop.image[-1].numpy() == 1
    assert drawn.any()
    assert (outline == drawn).mean() > 0.97


def test_names_are_given_with_the_error_of_a_localiser():
    samplers = [OpenSampler(blocks(), STILL, np.random.default_rng(seed)) for seed in range(60)]
    off_mm = np.concatenate([(s.named_index - blocks().centres) * blocks().spacing_mm for s in samplers])
    assert off_mm.std(axis=0) == pytest.approx([1.5] * 3, rel=0.25)
    assert all(s.named_ranks.tolist() == [20, 21] for s in samplers)


def test_a_view_without_any_centre_is_not_taken():
    case = a_case(centres=np.zeros((0, 3)), ranks=np.zeros(0, int))
    assert short_view(case, np.random.default_rng(0)) is case
