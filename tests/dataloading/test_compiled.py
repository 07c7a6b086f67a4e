import dataclasses

import numpy as np
import pytest
from test_cases import PLAN, SHAPE, TWO, a_case, vertebra

from spinecls.dataloading.cases import UNKNOWN, training_case
from spinecls.dataloading.compiled import AnnotationCompiler, vertebra_form
from spinecls.errors import DatasetError
from spinecls.records import AnnotationForm


def compiled(case, plan=PLAN, cases=None):
    return AnnotationCompiler([case] if cases is None else cases, plan)(case, training_case(case, plan))


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
