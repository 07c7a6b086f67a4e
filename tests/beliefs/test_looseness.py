import numpy as np
import pytest

from spinecls.beliefs.looseness import (
    ASSUMED_SLACK_MM,
    FILL_OF_TIGHT_BOX,
    DrawnVertebra,
    Shapes,
    measured_slack_mm,
    shapes_of,
)


def drawn(volume, edges=(10.0, 10.0, 10.0)):
    return DrawnVertebra("L1", volume, np.array(edges), np.array([10.0, 10.0, 10.0]))


def test_few_outlines_change_no_assumption():
    assert shapes_of([drawn(500.0)] * 9).fill_of_box == FILL_OF_TIGHT_BOX


def test_fills_are_the_5th_and_95th_percentile_of_the_outlines():
    shapes = shapes_of([drawn(float(v)) for v in range(500, 601)])
    assert shapes.fill_of_box == pytest.approx((0.505, 0.595))
    assert shapes.fill_of_extent == pytest.approx((0.505, 0.595))
    assert shapes.usual_fill_of_extent == pytest.approx(0.55)


def test_slack_is_half_of_what_boxes_are_longer_than_outlines():
    shapes = Shapes(box_mm={"L1": np.array([40.0, 30.0, 35.0])})
    boxes = [("L1", np.array([46.0, 36.0, 41.0])), ("L1", np.array([48.0, 38.0, 43.0]))]
    assert measured_slack_mm(boxes, shapes) == pytest.approx(3.5)


def test_boxes_as_small_as_outlines_have_no_slack():
    shapes = Shapes(box_mm={"L1": np.array([40.0, 30.0, 35.0])})
    assert measured_slack_mm([("L1", np.array([38.0, 29.0, 33.0]))], shapes) == 0.0


def test_without_outlines_of_the_level_some_slack_is_assumed():
    assert measured_slack_mm([("L2", np.array([40.0, 30.0, 35.0]))], Shapes()) == ASSUMED_SLACK_MM
