import dataclasses

import numpy as np
import pytest
import torch
from test_cases import PLAN, SHAPE, TWO, a_case, vertebra

from spinecls.dataloading.cases import UNKNOWN, training_case
from spinecls.dataloading.compiled import (
    AnnotationCompiler,
    bag_patches,
    belief_patches,
    map_patch,
    vertebra_form,
)
from spinecls.dataloading.open_patches import short_view
from spinecls.dataloading.spatial import PatchSampler
from spinecls.errors import DatasetError
from spinecls.records import AnnotationForm, AnnotationForms

STILL = np.eye(3)


def compiled(case, plan=PLAN, cases=None):
    return AnnotationCompiler([case] if cases is None else cases, plan)(case, training_case(case, plan))


def whole_patch(trained, name="vertebra_map", size=SHAPE, middle=None):
    middle = (np.asarray(SHAPE) - 1) / 2 if middle is None else middle
    return map_patch(trained.compiled[name], PatchSampler(size, (4.0, 1.0, 1.0), middle, STILL))


def boxed(level, centre, half=(6.0, 8.0, 8.0)):
    middle = vertebra(level, centre).centre_lps
    box = (tuple(np.subtract(middle, half)), tuple(np.add(middle, half)))
    return vertebra(level, centre, box_lps=box, in_map=False)


def test_an_exact_map_says_what_the_exact_trainers_are_told():
    trained = compiled(a_case(TWO))
    beliefs = trained.compiled["vertebra_map"].beliefs
    assert np.array_equal(beliefs.mass([1]) > 0, (trained.vertebra_map > 0) & (trained.vertebra_map != UNKNOWN))
    assert np.array_equal(beliefs.silent > 0, trained.vertebra_map == UNKNOWN)


def test_a_case_with_points_alone_is_compiled_as_points():
    case = a_case(TWO, vertebra_map=None)
    assert vertebra_form(case) == AnnotationForm(form="point")
    trained = compiled(case)
    assert trained.compiled["vertebra_map"].beliefs.mass([1]).any()
    assert len(trained.compiled["vertebra_map"].bags.voxels) == 2


def probable(vertebra_map="drawn", percent=30):
    chances = None if percent is None else np.full(SHAPE, percent, np.uint8)
    return dataclasses.replace(a_case(TWO, vertebra_map, "probability"), chance_percent=chances)


@pytest.mark.parametrize("vertebra_map", ["drawn", None])
def test_chances_count_with_and_without_a_map_of_levels(vertebra_map):
    beliefs = compiled(probable(vertebra_map)).compiled["vertebra_map"].beliefs
    assert beliefs.mass([1])[3, 20, 20] == pytest.approx(0.3)
    assert beliefs.mass([0])[3, 20, 20] == pytest.approx(0.7)


def test_where_the_map_of_levels_says_unknown_chances_say_nothing():
    assert compiled(probable()).compiled["vertebra_map"].beliefs.silent[0, 0, 0] == 1


def test_a_case_whose_chances_are_missing_is_named():
    with pytest.raises(DatasetError, match="labelsTr/c__probability"):
        compiled(probable(percent=None))


def test_a_case_with_boxes_alone_is_compiled_as_boxes():
    case = a_case([boxed("L1", (3, 21.5, 21.5))], vertebra_map=None)
    assert vertebra_form(case) == AnnotationForm(form="box")
    beliefs = compiled(case).compiled["vertebra_map"].beliefs
    assert beliefs.mass([0])[0].min() == 1


def test_slack_is_measured_against_exact_cases_of_the_training_set():
    exact = [a_case(TWO)] * 5
    loose = a_case([boxed("L1", (3, 21.5, 21.5), half=(10.0, 11.0, 11.0))], vertebra_map=None)
    # Drawn: 12 x 14 x 14 mm. Boxed: 20 x 22 x 22, so 8 mm longer, 4 at each face.
    assert AnnotationCompiler([*exact, loose], PLAN).slack_mm == pytest.approx(4.0)


def test_vertebrae_that_the_image_cuts_are_no_measure():
    cut = a_case([dataclasses.replace(row, truncated=True) for row in TWO])
    assert AnnotationCompiler([cut] * 10, PLAN).shapes.box_mm == {}


def test_structures_that_nobody_drew_say_nothing():
    plan = dataclasses.replace(PLAN, structures={"disc": 3})
    assert compiled(a_case(TWO), plan).compiled["structures"].beliefs.silent.min() == 1


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
    form = AnnotationForms(vertebrae=AnnotationForm(form="box", slack_mm=0.0))
    case = dataclasses.replace(a_case([boxed("L1", (3, 21.5, 21.5))], None), annotation_form=form)
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


def test_several_readers_are_believed_by_their_share():
    case = a_case(TWO)
    other = case.vertebra_map.copy()
    other[2:5, 15:18, 15:29] = 0
    other[6, 70, 40] = 255
    case = dataclasses.replace(case, reader_maps=np.stack([case.vertebra_map, case.vertebra_map, other]))
    beliefs = compiled(case).compiled["vertebra_map"].beliefs
    assert beliefs.mass([1])[3, 16, 20] == pytest.approx(0.66)
    assert beliefs.mass([0])[3, 16, 20] == pytest.approx(0.33)
    assert beliefs.mass([1])[3, 25, 20] == 1
    assert beliefs.mass([0])[6, 70, 40] == pytest.approx(0.66)
    assert beliefs.silent[6, 70, 40] == pytest.approx(0.34)
