"""What later stages know of the place of a vertebra."""

import numpy as np
from test_cases import a_case, vertebra

from spinecls.dataloading.body_shapes import Body
from spinecls.dataloading.placed import placed, placed_vertebrae

BODY = Body(np.zeros(3), np.eye(3), np.full(3, 20.0))


def test_vertebrae_without_a_position_are_left_out():
    case = a_case([vertebra("T12", None), vertebra("L1", (3, 21.5, 21.5))])
    assert [v.level for v in placed_vertebrae(case)] == ["L1"]


def test_what_preprocessing_stored_stays():
    stored = vertebra("L1", (3, 21.5, 21.5), truncated=True)
    assert vars(stored).items() <= vars(placed(stored)).items()


def test_a_name_that_somebody_gave_is_sure():
    assert placed(vertebra("L1", (3, 21.5, 21.5))).certainty == 1.0


def test_what_is_known_already_is_not_forgotten():
    believed = placed(vertebra("L1", (3, 21.5, 21.5)), body=BODY)
    again = placed(believed, certainty=0.7)
    assert (again.body, again.certainty) == (BODY, 0.7)
