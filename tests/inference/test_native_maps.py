"""Maps on the image's grid, of results made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from spinecls.geometry import Geometry
from spinecls.inference.native_maps import evidence_map
from spinecls.sealing.region import Region

AXES = tuple(map(tuple, np.eye(3)))
GRID = Geometry(shape=(3, 8, 5), spacing_mm=(1.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0), direction=AXES)
CONFIGURATION = SimpleNamespace(seal="S2", sealed_size=(3, 5, 5), sealed_spacing_mm=(1.0, 1.0, 1.0))


def region(first_row, rows=3):
    """A block of rows of the whole image."""
    corner = (0, first_row, 0)
    box = GRID.cropped(corner, (3, first_row + rows, 5))
    return Region(np.ones(box.shape, bool), corner, box, "mask")


def evidence(regions, speaks, probabilities):
    """Map of vertebrae whose voxels all say `speaks`: a row a vertebra, a column an evidence map."""
    values = np.asarray(speaks, float)[:, :, None, None, None]
    sealed = SimpleNamespace(speaks=np.broadcast_to(values, (*values.shape[:2], 3, 5, 5)))
    return evidence_map(SimpleNamespace(regions=regions), sealed, probabilities, CONFIGURATION, GRID)


def test_a_vertebra_of_which_no_voxel_speaks_for_an_abnormality_is_dark():
    assert not evidence([region(2)], [(-2.0, -0.5)], [(0.9, 0.04, 0.06)]).any()


@pytest.mark.parametrize(
    ("probabilities", "shown"),
    [
        pytest.param((0.2, 0.7, 0.1), 2.0, id="predicted"),
        pytest.param((0.6, 0.1, 0.3), 5.0, id="second to the first class"),
        pytest.param((0.2, 0.1, 0.7), 5.0, id="the last class"),
    ],
)
def test_a_vertebra_shows_the_most_probable_class_but_the_first(probabilities, shown):
    found = evidence([region(2)], [(2.0, 5.0)], [probabilities])
    assert np.all(found[:, 2:5] == shown)
    assert not found[:, :2].any()
    assert not found[:, 5:].any()


@pytest.mark.parametrize("probabilities", [(0.1, 0.8, 0.1), (0.1, 0.1, 0.8)])
def test_grades_have_one_map(probabilities):
    assert np.all(evidence([region(2)], [(1.5,)], [probabilities])[:, 2:5] == 1.5)


def test_where_regions_overlap_the_stronger_stands():
    found = evidence([region(1), region(3)], [(3.0,), (1.0,)], [(0.5, 0.5)] * 2)
    assert found[0, :, 0].tolist() == [0, 3, 3, 3, 1, 1, 0, 0]


def test_without_classes_nothing_is_shown():
    assert not evidence_map(SimpleNamespace(regions=[region(2)]), None, (), CONFIGURATION, GRID).any()
