"""What is believed of the voxels of patches, of compiled cases."""

import dataclasses

import numpy as np
import pytest
import torch
from dataloading.test_cases import PLAN, SHAPE, TWO, a_case

from spinecls.dataloading.cases import training_case
from spinecls.dataloading.compiled import AnnotationCompiler
from spinecls.dataloading.open_patches import short_view
from spinecls.dataloading.spatial import PatchSampler
from spinecls.records import AnnotationForm, AnnotationForms
from spinecls.tasks.belief_patches import bag_patches, belief_patches, map_patch, silent_patch

STILL = np.eye(3)


def compiled(case, plan=PLAN):
    return AnnotationCompiler([case], plan)(case, training_case(case, plan))


def whole_patch(trained, name="vertebra_map", size=SHAPE, middle=None):
    middle = (np.asarray(SHAPE) - 1) / 2 if middle is None else middle
    return map_patch(trained.compiled[name], PatchSampler(size, (4.0, 1.0, 1.0), middle, STILL))


def test_outside_the_image_is_background():
    patch = whole_patch(compiled(a_case(TWO)), size=(7, 100, 50))
    beliefs = belief_patches([patch])
    code = int(beliefs.codes[0, 0, 0, 0])
    assert beliefs.masses[0, code, beliefs.sets.tolist().index([True, False])] == 1


def test_a_region_that_the_patch_shows_whole_counts():
    assert whole_patch(compiled(a_case(TWO, vertebra_map=None))).whole.all()


def test_a_region_that_the_patch_cuts_does_not_count():
    patch = whole_patch(compiled(a_case(TWO, vertebra_map=None)), size=(7, 30, 50), middle=(3, 21.5, 24.5))
    assert patch.whole.tolist() == [True, False]


def test_a_scan_cut_short_keeps_what_it_shows_and_loses_the_regions_that_are_cut():
    trained = compiled(a_case(TWO, vertebra_map=None))
    found = set()
    for seed in range(40):
        short = short_view(trained, np.random.default_rng(seed))
        cut = short.compiled["vertebra_map"]
        assert cut.beliefs.codes.shape == short.image.shape[1:]
        middle = (np.asarray(cut.beliefs.codes.shape) - 1) / 2
        patch = map_patch(cut, PatchSampler(SHAPE, (4.0, 1.0, 1.0), middle, STILL))
        found.add(tuple(patch.whole.tolist()))
    assert (True, False) in found
    assert (False, True) in found


def test_a_batch_holds_the_sets_of_all_its_cases():
    plan = dataclasses.replace(PLAN, structures={"disc": 3, "canal": 4})
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:5, 30:38, 15:29] = 3
    exact = dataclasses.replace(a_case(TWO), structures=drawn)
    form = AnnotationForms(structures=AnnotationForm(form="coarse", tolerance_mm=2.0))
    coarse = dataclasses.replace(exact, annotation_form=form)
    patches = [whole_patch(compiled(case, plan), "structures") for case in (exact, coarse)]
    batch = belief_patches(patches)
    for row, patch in enumerate(patches):
        for column, allowed in enumerate(batch.sets.tolist()):
            classes = np.flatnonzero(allowed)
            table = batch.masses[row, :, column][batch.codes[row]]
            assert np.array_equal(table.numpy(), patch.beliefs.mass(classes))


def test_patches_with_fewer_regions_are_filled_up_with_silent_ones():
    patches = [
        whole_patch(compiled(a_case(TWO, vertebra_map=None))),
        whole_patch(compiled(a_case(TWO[:1], vertebra_map=None))),
    ]
    batch = bag_patches(patches)
    assert batch.whole.tolist() == [[True, True], [True, False]]
    assert torch.equal(batch.members[1, :, 0][batch.codes[1]], torch.from_numpy(patches[1].bags.codes > 0))


def test_positions_are_those_of_the_whole_map():
    middle = np.array(TWO[0].centre_lps)
    box = (tuple(middle - (6.0, 8.0, 8.0)), tuple(middle + (6.0, 8.0, 8.0)))
    form = AnnotationForms(vertebrae=AnnotationForm(form="box", slack_mm=0.0))
    case = a_case([dataclasses.replace(TWO[0], box_lps=box, in_map=False)], None)
    case = dataclasses.replace(case, annotation_form=form)
    made = compiled(case)
    held = made.compiled["vertebra_map"]
    held = dataclasses.replace(held, bags=dataclasses.replace(held.bags, line=np.ones(1, bool)))
    made = dataclasses.replace(made, compiled={**made.compiled, "vertebra_map": held})
    patch = whole_patch(made, size=(7, 31, 31), middle=(3, 20, 22))
    assert patch.position[:, 3, 15, 15].tolist() == [3, 20, 22]
    assert patch.position[:, 4, 16, 17].tolist() == [4, 21, 24]


def test_what_the_network_is_told_follows_turns_and_zooms():
    """The share of vertebra in a patch zoomed by two is a quarter of the plane's."""
    trained = compiled(a_case(TWO))
    plain = whole_patch(trained)
    zoomed = map_patch(
        trained.compiled["vertebra_map"],
        PatchSampler(SHAPE, (4.0, 1.0, 1.0), (np.asarray(SHAPE) - 1) / 2, np.diag([1.0, 2.0, 2.0])),
    )
    counts = [(p.beliefs.mass([1]) > 0).sum() for p in (plain, zoomed)]
    assert counts[1] == pytest.approx(counts[0] / 4, rel=0.05)


def test_a_silent_patch_says_nothing_beside_others():
    told, silent = whole_patch(compiled(a_case(TWO, vertebra_map=None))), silent_patch(SHAPE, 2)
    beliefs, bags = belief_patches([told, silent]), bag_patches([told, silent])
    assert beliefs.masses[0].any()
    assert not beliefs.masses[1].any()
    assert bags.whole.tolist() == [[True, True], [False, False]]
