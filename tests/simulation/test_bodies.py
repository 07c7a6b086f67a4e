import numpy as np
import pytest
from simulation_scans import CODES, COLUMNS, FIRST_ROW, HEIGHT, SHAPE, body_map, geometry

from spinecls.geometry import Geometry
from spinecls.simulation.bodies import find_bodies


def tilted_map(degrees: float) -> np.ndarray:
    """One 40 x 24 mm rectangle, turned in plane; positive turns its front down."""
    row, column = np.meshgrid(np.arange(130) - 65.0, np.arange(110) - 55.0, indexing="ij")
    a = np.radians(degrees)
    along, across = row * np.cos(a) + column * np.sin(a), column * np.cos(a) - row * np.sin(a)
    plane = (np.abs(along) <= 12) & (np.abs(across) <= 20)
    return np.where(plane, 21, 0)[None].repeat(5, 0).astype(np.int16)


def test_bodies_come_from_head_to_feet_whatever_their_codes():
    codes = {"L1": 22, "L2": 21, "L3": 20}
    assert [body.level for body in find_bodies(body_map(), geometry(), codes)] == ["L1", "L2", "L3"]


def test_axes_point_to_the_left_or_right_the_feet_and_the_back():
    for body in find_bodies(body_map(), geometry(), CODES):
        np.testing.assert_allclose(np.abs(body.axes_lps[:, 0]), [1, 0, 0], atol=0.02)
        np.testing.assert_allclose(body.axes_lps[:, 1], [0, 0, -1], atol=0.02)
        np.testing.assert_allclose(body.axes_lps[:, 2], [0, 1, 0], atol=0.02)


def test_depths_below_the_borders_of_an_upright_body_are_counted_from_its_faces():
    body = find_bodies(body_map(), geometry(), CODES)[1]
    inside = np.argwhere(body.mask) + [s.start for s in body.slices]
    for name, axis, first, last in (
        ("upper", 1, FIRST_ROW["L2"], None),
        ("lower", 1, None, FIRST_ROW["L2"] + HEIGHT - 1),
        ("front", 2, COLUMNS[0], None),
        ("back", 2, None, COLUMNS[1] - 1),
    ):
        steps = inside[:, axis] - first if first is not None else last - inside[:, axis]
        np.testing.assert_allclose(body.border_mm[name][body.mask], steps + 0.5, atol=0.05)


@pytest.mark.parametrize("degrees", [-20, 0, 14])
def test_a_tilted_body_has_the_size_of_the_upright_one(degrees):
    grid = Geometry(
        shape=(5, 130, 110), spacing_mm=(4.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0), direction=geometry().direction
    )
    body = find_bodies(tilted_map(degrees), grid, {"L2": 21})[0]
    np.testing.assert_allclose(body.size_mm[1:], [24, 40], atol=1.6)


def test_the_corner_of_a_tilted_body_is_where_its_two_borders_meet():
    grid = Geometry(
        shape=(5, 130, 110), spacing_mm=(4.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0), direction=geometry().direction
    )
    body = find_bodies(tilted_map(14), grid, {"L2": 21})[0]
    along, below = body.corner_mm("upper", "front")
    nearest = np.unravel_index((along + below)[2].argmin(), along.shape[1:])
    # (-12, -20) mm along and across the rectangle, turned back into rows and columns about (65, 55).
    a = np.radians(14)
    corner = 65 - 12 * np.cos(a) + 20 * np.sin(a), 55 - 12 * np.sin(a) - 20 * np.cos(a)
    found = np.add(nearest, [s.start for s in body.slices[1:]])
    assert np.abs(found - corner).max() <= 1.5


def test_a_body_cut_off_by_the_image_has_no_endplate_there():
    array = np.zeros(SHAPE, np.int16)
    array[2:9, 0:20, 35:67] = 20
    array[2:9, 30:56, 35:67] = 21
    array[2:9, 110:130, 35:67] = 22
    assert [body.endplates for body in find_bodies(array, geometry(), CODES)] == [
        ("lower",), ("upper", "lower"), ("upper",)]  # fmt: skip


@pytest.mark.parametrize(("columns", "usable"), [(3, False), (5, True)])
def test_a_body_below_a_square_centimetre_is_too_small(columns, usable):
    array = np.zeros(SHAPE, np.int16)
    array[2:9, 30:55, 40 : 40 + columns] = 21  # 75 and 125 mm2
    assert find_bodies(array, geometry(), CODES)[0].usable == usable


def test_the_first_vertebra_has_no_body():
    assert not find_bodies(body_map(), geometry(), {"C1": 20})[0].usable
