import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_cases import CONFIGURATION, GRID, PLAN, SHAPE, a_case, vertebra

from spinecls.dataloading import alignment
from spinecls.dataloading.alignment import ALIGNED_ERROR_MM, aligned, surroundings
from spinecls.dataloading.body_shapes import Body
from spinecls.dataloading.cases import sealed_sources, training_case
from spinecls.dataloading.compiled import AnnotationCompiler
from spinecls.dataloading.forms import body_mask
from spinecls.dataloading.placed import PlacedVertebra, axes_and_sizes_mm
from spinecls.records import AnnotationForm, AnnotationForms

MIDDLES = np.array([(3.0, 16.0, 24.0), (3.0, 40.0, 24.0), (3.0, 64.0, 24.0)])
HALF_MM = np.array([8.0, 7.0, 7.0])
TURN = Rotation.from_euler("xyz", (12, -9, 7), degrees=True).as_matrix()
TURNED = dataclasses.replace(GRID, direction=tuple(map(tuple, TURN @ GRID.direction)))
SIDEWAYS = Rotation.from_euler("x", 30, degrees=True).as_matrix()
FLIPPED = dataclasses.replace(GRID, direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)))


def shown(number, grid=GRID, scale=1.0, tilt=0.0):
    """Image of three bright or dark blocks, tilted in the sagittal plane by an angle in radians."""
    voxels = np.stack(np.indices(SHAPE), axis=-1)
    image = np.random.default_rng(number).normal(0, 0.02, SHAPE)
    cos, sin = np.cos(tilt), np.sin(tilt)
    for middle in MIDDLES:
        right, down, back = np.moveaxis((voxels - middle) * grid.spacing_mm, -1, 0)
        turned = np.stack([right, cos * down + sin * back, cos * back - sin * down], axis=-1)
        image += (-1) ** number / (1 + np.exp((np.abs(turned) - HALF_MM * scale).max(axis=-1)))
    return image[None]


def a_scan(number, errors_mm=0.0, grid=GRID, jitter_mm=3.0, levels=("L1", "L2", "L3"), **look):
    """The blocks with bodies of usual size at points that are off."""
    steps = np.broadcast_to(errors_mm, (3, 3)) / grid.spacing_mm
    axes = np.array(grid.direction, float)
    bodies = [Body(grid.to_world(middle), axes, 2 * HALF_MM, jitter_mm) for middle in MIDDLES + steps]
    return surroundings(shown(number, grid, **look), grid, bodies, levels, [False] * 3)


def errors():
    found = np.random.default_rng(5).normal(0, 2.5, (4, 3, 3))
    return found - found.mean(axis=(0, 1))


def some_scans(**more):
    return {f"s{number}": a_scan(number, error, **more) for number, error in enumerate(errors())}


def off_mm(grid, bodies):
    return (grid.to_index([body.centre_lps for body in bodies]) - np.tile(MIDDLES, (4, 1))) * grid.spacing_mm


@pytest.mark.parametrize("grid", [GRID, TURNED, FLIPPED], ids=["straight", "oblique", "flipped"])
def test_points_come_nearer_to_their_middles_on_any_grid(grid):
    scans = some_scans(grid=grid)
    before = off_mm(grid, [body for scan in scans.values() for body in scan.bodies])
    after = off_mm(grid, [body for bodies in aligned(scans).values() for body in bodies])
    assert np.all(after.std(axis=0) < 0.4 * before.std(axis=0))


def test_larger_spines_are_found_to_be_larger():
    scales = (0.92, 1.0, 1.0, 1.08)
    found = aligned({f"s{n}": a_scan(n, scale=scale) for n, scale in enumerate(scales)})
    sizes = np.array([np.mean([body.extent_mm for body in bodies], axis=0) for bodies in found.values()])
    assert np.all(sizes[0] < sizes[1] * 0.97)
    assert np.all(sizes[3] > sizes[2] * 1.03)


def test_a_tilted_vertebra_is_found_to_be_tilted():
    tilts = (0.0, 0.15, 0.0, -0.15)
    found = aligned({f"s{n}": a_scan(n, tilt=tilt) for n, tilt in enumerate(tilts)})
    # The second axis of a body runs down the rows of this grid, the third along its columns.
    along = [np.mean([body.axes_lps[:, 1] @ GRID.direction for body in bodies], axis=0) for bodies in found.values()]
    seen = [np.arctan2(direction[2], direction[1]) for direction in along]
    assert seen == pytest.approx(tilts, abs=0.06)


def test_axes_of_tilted_bodies_stay_at_right_angles():
    for body in aligned({f"s{n}": a_scan(n, tilt=0.1 * n) for n in range(4)})["s3"]:
        assert body.axes_lps.T @ body.axes_lps == pytest.approx(np.eye(3), abs=1e-6)


def test_what_all_points_have_in_common_is_not_touched():
    scans = some_scans()
    moved = [
        old.axes_lps.T @ (new.centre_lps - old.centre_lps)
        for scan, found in zip(scans.values(), aligned(scans).values(), strict=True)
        for old, new in zip(scan.bodies, found, strict=True)
    ]
    assert np.abs(moved).max() > 1
    assert np.mean(moved, axis=0) == pytest.approx([0, 0, 0], abs=1e-4)


def test_exact_points_stay():
    scans = some_scans(jitter_mm=0.0)
    for name, found in aligned(scans).items():
        for old, new in zip(scans[name].bodies, found, strict=True):
            assert new.centre_lps == pytest.approx(old.centre_lps)


def test_too_few_vertebrae_to_compare_are_left_out():
    assert aligned({f"s{number}": a_scan(number) for number in range(2)}) == {}


def test_vertebrae_are_compared_with_those_of_their_part_of_the_spine():
    thoracic = a_scan(9, 2.0, levels=("T10", "T11", "T12"))
    assert set(aligned({**some_scans(), "thoracic": thoracic})) == {"s0", "s1", "s2", "s3"}


def test_what_has_too_few_of_its_part_of_the_spine_stays_with_its_error():
    mixed = a_scan(9, 2.0, levels=("T12", "L1", "L2"))
    found = aligned({**some_scans(), "mixed": mixed})["mixed"]
    assert found[0] is mixed.bodies[0]
    assert found[1].error_mm == ALIGNED_ERROR_MM


def test_points_that_are_all_too_low_follow_exact_ones():
    low = {f"low{n}": a_scan(n, (0.0, 3.0, 0.0)) for n in range(2)}
    exact = {f"exact{n}": a_scan(n, jitter_mm=0.0) for n in range(2, 6)}
    left = GRID.to_index(aligned({**low, **exact})["low0"][1].centre_lps) - MIDDLES[1]
    assert left[1] == pytest.approx(0, abs=0.5)


def test_neighbours_that_are_drawn_to_one_vertebra_stay():
    far, near = (
        [Body(GRID.to_world((3.0, row, 24.0)), np.eye(3), 2 * HALF_MM) for row in rows]
        for rows in ((16.0, 40.0, 64.0), (16.0, 28.0, 64.0))
    )
    kept = alignment._apart(far, near)
    assert [body is old for body, old in zip(kept, far, strict=True)] == [True, True, False]


def test_voxels_without_a_value_tell_nothing():
    scans = some_scans()
    image = shown(0)
    image[0, 3, 20, 20] = np.nan
    scans["s0"] = surroundings(image, GRID, scans["s0"].bodies, ["L1", "L2", "L3"], [False] * 3)
    assert all(np.isfinite(body.centre_lps).all() for bodies in aligned(scans).values() for body in bodies)


def test_a_vertebra_about_which_the_image_shows_nothing_stays_with_its_error():
    scans = some_scans()
    scans["blank"] = surroundings(np.zeros((1, *SHAPE)), GRID, scans["s0"].bodies, ["L1", "L2", "L3"], [False] * 3)
    found = aligned(scans)["blank"]
    assert all(new is old for new, old in zip(found, scans["blank"].bodies, strict=True))


def test_many_vertebrae_are_aligned_in_groups_that_do_not_see_each_other(monkeypatch):
    every = np.concatenate([errors(), errors()[:2]])
    scans = {name: a_scan(number, error) for number, (name, error) in enumerate(zip("abcdef", every, strict=True))}
    whole = aligned(scans)
    monkeypatch.setattr(alignment, "MOST_TOGETHER", 9)
    grouped = aligned(scans)
    assert set(grouped) == set(whole) == set("abcdef")
    first, second = (sorted("abcdef"[i] for i in part) for part in np.split(np.random.default_rng(0).permutation(6), 2))
    alone = aligned({name: scans[name] for name in first})
    assert grouped[first[0]][0].centre_lps == pytest.approx(alone[first[0]][0].centre_lps)
    assert grouped[second[0]][0].centre_lps != pytest.approx(whole[second[0]][0].centre_lps, abs=1e-6)


@pytest.mark.parametrize("boxed", [False, True])
def test_boxed_and_pointed_vertebrae_of_one_size_are_compared_at_one_size(boxed):
    # A body of usual shape fills 0.797 of its size; that of a box or of a usual size it fills less.
    fill = 0.57 if boxed else 0.8
    body = Body(np.zeros(3), np.eye(3), np.full(3, 20 * (0.797 / fill) ** (1 / 3)), fill=fill)
    assert alignment._half_mm(body) == pytest.approx([10, 10, 10], rel=5e-3)


def test_nothing_is_found_of_nothing():
    assert aligned({}) == {}


@pytest.mark.parametrize(("told_mm", "left_mm"), [(3.0, ALIGNED_ERROR_MM), (0.5, 0.5)])
def test_of_the_error_at_most_that_of_aligned_points_is_left(told_mm, left_mm):
    assert {body.error_mm for body in aligned(some_scans(jitter_mm=told_mm))["s0"]} == {left_mm}


def test_a_box_tells_the_size_of_a_vertebra_and_a_loose_one_tells_it_less():
    body = Body(GRID.to_world(MIDDLES[1]), np.eye(3), 2 * HALF_MM, error_mm=0.0)
    loose = Body(GRID.to_world(MIDDLES[1]), np.eye(3), 2 * HALF_MM, error_mm=1.5)
    point, tight, slack = (
        surroundings(shown(0), GRID, [what], ["L2"], [boxed])
        for what, boxed in ((body, False), (body, True), (loose, True))
    )
    assert point.scan_size_spread > tight.scan_size_spread == 0
    assert slack.own_size_spread[0] > tight.own_size_spread[0]
    assert slack.error_mm[0] > tight.error_mm[0] > point.error_mm[0] == 0


def cases():
    """Four scans with points that are off."""
    made = []
    for number, error in enumerate(errors()):
        centres = [tuple(GRID.to_world(m + step / GRID.spacing_mm)) for m, step in zip(MIDDLES, error, strict=True)]
        points = [vertebra(f"L{i}", None, centre_lps=centre) for i, centre in enumerate(centres, start=1)]
        case = a_case([vertebra("T12", None), *points], vertebra_map=None)
        image = shown(number).astype(np.float16)
        told = AnnotationForms(vertebrae=AnnotationForm(form="point", jitter_mm=3.0))
        made.append(dataclasses.replace(case, identifier=f"c{number}", image=image, annotation_form=told))
    return made


def test_a_placed_case_has_its_vertebrae_where_their_surroundings_show_them():
    first, *others = cases()
    placed = AnnotationCompiler([first, *others], PLAN).placed(first)
    before, after = (
        np.std(GRID.to_index([v.centre_lps for v in case.vertebrae[1:]]) - MIDDLES) for case in (first, placed)
    )
    assert after < 0.5 * before
    assert placed.vertebrae[0] == first.vertebrae[0]


def test_what_is_believed_of_a_placed_case_lies_where_the_vertebra_is():
    every = cases()
    compiler = AnnotationCompiler(every, PLAN)
    middles = []
    for case in (every[0], compiler.placed(every[0])):
        mass = compiler(case, training_case(case, PLAN)).compiled["vertebra_map"].beliefs.mass([1])
        sure = np.argwhere(mass[:, 28:52] > 0.9) + [0, 28, 0]
        middles.append(np.linalg.norm((sure.mean(axis=0) - MIDDLES[1]) * GRID.spacing_mm))
    assert middles[1] < 0.5 * middles[0]


def test_drawn_cases_are_not_moved():
    drawn = a_case([vertebra("L1", (3, 21.5, 21.5))])
    compiler = AnnotationCompiler([*cases(), drawn], PLAN)
    assert compiler.moved == ["c0", "c1", "c2", "c3"]
    assert compiler.placed(drawn) is drawn


@pytest.mark.parametrize(("use_masks", "masked"), [(True, True), (False, False)])
def test_crops_of_placed_vertebrae_are_cut_as_those_of_segmented_ones(use_masks, masked):
    every = cases()
    case = AnnotationCompiler(every, PLAN).placed(every[0])
    sources = sealed_sources(case, PLAN, CONFIGURATION, use_masks)
    assert [source.distance is not None for source in sources] == [masked] * 3


def test_marrow_of_placed_vertebrae_is_that_of_their_bodies_as_of_segmented_ones():
    every = cases()
    case = AnnotationCompiler(every, PLAN).placed(every[0])
    drawn = np.zeros(SHAPE, np.uint8)
    for row, v in enumerate(case.vertebrae[1:]):
        drawn[body_mask(GRID, v.body)] = 20 + row
    bare = (case.vertebrae[0], *(dataclasses.replace(v, body=None) for v in case.vertebrae[1:]))
    outlined = dataclasses.replace(case, vertebrae=bare, native_map=drawn, annotation_form=AnnotationForms())
    placed, segmented = (sealed_sources(what, PLAN, CONFIGURATION, True)[0].marrow for what in (case, outlined))
    assert np.array_equal(placed, segmented)


def test_voxels_point_at_a_placed_vertebra_from_all_that_its_body_may_reach():
    body = Body(GRID.to_world((3, 40, 24)), GRID.direction @ SIDEWAYS, np.array([16.0, 24.0, 12.0]), fill=0.7972)
    vertebra = PlacedVertebra(level="L2", centre_lps=tuple(body.centre_lps), body=body)
    axes, sizes = axes_and_sizes_mm(PLAN, GRID, [vertebra])
    assert axes[0] == pytest.approx(body.axes_lps)
    # Of usual shape it is 1.0785 of its box sideways and 0.963 of it along the others, which are held whole.
    assert sizes[0] == pytest.approx([17.256, 24.0, 12.0], abs=0.01)


def test_a_case_with_too_few_to_compare_is_left_as_it_is():
    case = cases()[0]
    assert AnnotationCompiler([case], PLAN).placed(case) is case


def test_a_centre_beside_a_box_moves_as_the_box_does():
    boxed = []
    for case in cases():
        boxes = [np.add(v.centre_lps, [(-8, -7, -7), (8, 7, 7)]).tolist() for v in case.vertebrae[1:]]
        told = [
            dataclasses.replace(v, box_lps=box, centre_lps=tuple(np.add(v.centre_lps, (0, 2, 0))))
            for v, box in zip(case.vertebrae[1:], boxes, strict=True)
        ]
        form = AnnotationForms(vertebrae=AnnotationForm(form="box", slack_mm=0.0))
        boxed.append(dataclasses.replace(case, vertebrae=tuple(told), annotation_form=form))
    placed = AnnotationCompiler(boxed, PLAN).placed(boxed[0])
    for v in placed.vertebrae:
        assert np.subtract(v.centre_lps, v.body.centre_lps) == pytest.approx((0, 2, 0))


def test_cases_that_cannot_be_gone_through_twice_are_refused():
    with pytest.raises(TypeError, match="generator"):
        AnnotationCompiler(iter(cases()), PLAN)
