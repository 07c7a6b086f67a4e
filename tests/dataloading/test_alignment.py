import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_cases import GRID, PLAN, SHAPE, a_case, vertebra

from spinecls.dataloading import alignment
from spinecls.dataloading.alignment import ALIGNED_ERROR_MM, aligned, placed, surroundings
from spinecls.dataloading.compiled import AnnotationCompiler

MIDDLES = np.array([(3.0, 16.0, 24.0), (3.0, 40.0, 24.0), (3.0, 64.0, 24.0)])
HALF_MM = np.array([8.0, 7.0, 7.0])
TURN = Rotation.from_euler("xyz", (12, -9, 7), degrees=True).as_matrix()
TURNED = dataclasses.replace(GRID, direction=tuple(map(tuple, TURN @ GRID.direction)))
FLIPPED = dataclasses.replace(GRID, direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)))


def a_scan(number, errors_mm, scale=1.0, grid=GRID, jitter_mm=3.0, levels=("L1", "L2", "L3")):
    """Three bright or dark blocks with points that are off."""
    voxels = np.stack(np.indices(SHAPE), axis=-1)
    image = np.random.default_rng(number).normal(0, 0.02, SHAPE)
    for middle in MIDDLES:
        outside = (np.abs(voxels - middle) * grid.spacing_mm - HALF_MM * scale).max(axis=-1)
        image += (-1) ** number / (1 + np.exp(outside))
    steps = np.asarray(errors_mm) / grid.spacing_mm
    points = [
        vertebra(level, None, centre_lps=tuple(grid.to_world(middle + step)))
        for level, middle, step in zip(levels, MIDDLES, steps, strict=True)
    ]
    form = {"vertebrae": {"form": "point", "jitter_mm": jitter_mm}}
    case = dataclasses.replace(
        a_case(points, vertebra_map=None), identifier=f"s{number}", image=image[None].astype(np.float16), geometry=grid,
        annotation_form=form,
    )  # fmt: skip
    return case


def some_scans(grid=GRID, scales=(1.0, 1.0, 1.0, 1.0), jitter_mm=3.0):
    errors = np.random.default_rng(5).normal(0, 2.5, (len(scales), 3, 3))
    errors -= errors.mean(axis=(0, 1))
    return [a_scan(n, errors[n], scale, grid, jitter_mm) for n, scale in enumerate(scales)]


def found(cases):
    return aligned({case.identifier: surroundings(case, PLAN) for case in cases})


def errors_mm(grid, centres_lps):
    return (grid.to_index(np.concatenate(centres_lps)) - np.tile(MIDDLES, (len(centres_lps), 1))) * grid.spacing_mm


@pytest.mark.parametrize("grid", [GRID, TURNED, FLIPPED], ids=["straight", "oblique", "flipped"])
def test_points_come_nearer_to_their_middles_on_any_grid(grid):
    cases = some_scans(grid)
    before = errors_mm(grid, [[v["centre_lps"] for v in case.vertebrae] for case in cases])
    after = errors_mm(grid, [places.centres_lps for places in found(cases).values()])
    assert np.all(after.std(axis=0) < 0.4 * before.std(axis=0))


def test_a_larger_spine_is_found_to_be_larger():
    sizes = [places.extents_mm[1] for places in found(some_scans(scales=(0.92, 1.0, 1.0, 1.08))).values()]
    assert np.all(sizes[0][1:] < sizes[1][1:])
    assert np.all(sizes[3][1:] > sizes[2][1:])


def test_what_all_points_have_in_common_is_not_touched():
    cases = some_scans()
    moved = []
    for case, places in zip(cases, found(cases).values(), strict=True):
        shown = surroundings(case, PLAN)
        moved += list(np.einsum("nji,nj->ni", shown.axes_lps, places.centres_lps - shown.centres_lps))
    assert np.abs(moved).max() > 1
    assert np.mean(moved, axis=0) == pytest.approx([0, 0, 0], abs=1e-4)


def test_exact_points_stay():
    cases = some_scans(jitter_mm=0.0)
    for case, places in zip(cases, found(cases).values(), strict=True):
        assert places.centres_lps == pytest.approx(np.array([v["centre_lps"] for v in case.vertebrae]))


def test_too_few_vertebrae_to_compare_are_left_out():
    assert found(some_scans(scales=(1.0, 1.0))) == {}


def test_vertebrae_are_compared_with_those_of_their_part_of_the_spine():
    thoracic = a_scan(9, np.full((3, 3), 2.0), levels=("T10", "T11", "T12"))
    assert set(found([*some_scans(), thoracic])) == {"s0", "s1", "s2", "s3"}


def test_nothing_is_found_of_nothing():
    assert aligned({}) == {}
    assert surroundings(a_case([vertebra("L1", None)]), PLAN) is None


def test_a_placed_case_knows_centres_and_sizes_and_what_error_is_left():
    case = some_scans()[0]
    places = alignment.Places(np.arange(9.0).reshape(3, 3), np.full((3, 3), 12.0), np.ones(3))
    moved = placed(case, places)
    assert moved.vertebrae[1]["centre_lps"] == [3.0, 4.0, 5.0]
    assert moved.vertebrae[1]["extent_mm"] == [12.0, 12.0, 12.0]
    assert moved.annotation_form["vertebrae"] == {"form": "point", "jitter_mm": ALIGNED_ERROR_MM}


def test_an_error_that_is_smaller_anyway_is_kept():
    case = some_scans(jitter_mm=0.5)[0]
    places = alignment.Places(np.zeros((3, 3)), np.ones((3, 3)), np.ones(3))
    assert placed(case, places).annotation_form["vertebrae"]["jitter_mm"] == 0.5


def test_a_vertebra_without_a_position_stays_without_one():
    case = some_scans()[0]
    lacking = dataclasses.replace(case, vertebrae=(vertebra("T12", None), *case.vertebrae))
    moved = placed(lacking, alignment.Places(np.zeros((3, 3)), np.ones((3, 3)), np.ones(3)))
    assert moved.vertebrae[0]["centre_lps"] is None
    assert moved.vertebrae[1]["centre_lps"] == [0.0, 0.0, 0.0]


def test_the_compiler_places_pointed_cases_and_no_others():
    cases = some_scans()
    compiler = AnnotationCompiler([*cases, a_case([vertebra("L1", (3, 21.5, 21.5))])], PLAN)
    assert compiler.placed(cases[0]).vertebrae[0]["centre_lps"] != cases[0].vertebrae[0]["centre_lps"]
    assert compiler.placed(a_case([vertebra("L1", (3, 21.5, 21.5))])).vertebrae[0].get("extent_mm") is None
