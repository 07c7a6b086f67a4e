import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import ndimage

from spinecls.beliefs.looseness import Shapes
from spinecls.dataloading.body_shapes import body_distance
from spinecls.dataloading.forms import (
    MarkedVertebra,
    bodies_of,
    body_mask,
    boxed_extent_mm,
    compile_chances,
    compile_structures,
    compile_vertebrae,
    depth_mm,
    inside_box,
)
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.records import AnnotationForm

SHAPE = (6, 60, 40)
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
EXTENT = np.array([16.0, 14.0, 16.0])
SHAPES = Shapes(fill_of_box=(0.6, 0.9), fill_of_extent=(0.6, 0.8))


def grid(direction=SAGITTAL):
    return Geometry(shape=SHAPE, spacing_mm=(4.0, 1.0, 1.0), origin_lps=(5.0, -3.0, 9.0), direction=direction)


def turned(degrees):
    """Sagittal grid turned about the left-right axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return tuple(map(tuple, turn @ np.array(SAGITTAL)))


GRIDS = {
    "upright": SAGITTAL,
    "flipped": ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    "oblique": turned(20),
}


def block():
    drawn = np.zeros(SHAPE, bool)
    drawn[1:5, 20:34, 12:28] = True
    return drawn


def body(geometry, centre, extent, form, box_lps=None):
    """One vertebra's body where its form says that it is."""
    return bodies_of(geometry, np.array([centre]), np.array([extent]), [box_lps], form)[0]


def marked(geometry, drawn=None, box_lps=None):
    """A vertebra as it is annotated, made into one on the grid by its form."""

    def in_form(form):
        where = body(geometry, geometry.to_world((2.5, 26.5, 19.5)), EXTENT, form, box_lps)
        return MarkedVertebra(where, box_lps, drawn)

    return in_form


def compiled(form, vertebrae, geometry=None, background=None, unknown=None, **more):
    nothing = np.zeros(SHAPE, bool)
    return compile_vertebrae(
        geometry or grid(),
        [vertebra(form) for vertebra in vertebrae],
        form,
        nothing if background is None else background,
        nothing if unknown is None else unknown,
        SHAPES,
        **more,
    )


def box_around(geometry, slack=0.0):
    index = np.argwhere(block())
    corners = np.array(np.meshgrid(*zip(index.min(axis=0) - 0.5, index.max(axis=0) + 0.5, strict=True)))
    world = geometry.to_world(corners.reshape(3, -1).T)
    return world.min(axis=0) - slack, world.max(axis=0) + slack


def test_an_exact_map_is_all_mass_on_what_is_drawn():
    unknown = np.zeros(SHAPE, bool)
    unknown[:, :5] = True
    made = compiled(AnnotationForm(form="mask"), [marked(grid(), block())], background=~block() & ~unknown)
    assert np.array_equal(made.beliefs.mass([1]), block())
    assert np.array_equal(made.beliefs.silent, unknown)
    assert made.q == 0
    assert len(made.bags.voxels) == 0


def test_chances_are_the_masses_of_vertebra_and_background():
    chances = np.linspace(0, 1, 101, dtype=np.float32)[np.arange(np.prod(SHAPE)) % 101].reshape(SHAPE)
    made = compile_chances(chances, np.zeros(SHAPE, bool))
    assert np.allclose(made.beliefs.mass([1]), chances, atol=1e-3)
    assert np.allclose(made.beliefs.mass([0]), 1 - chances, atol=1e-3)
    assert made.q == 0


def test_where_further_vertebrae_may_be_a_low_chance_says_nothing():
    chances, unknown = np.full(SHAPE, 0.2, np.float32), np.zeros(SHAPE, bool)
    unknown[3] = True
    made = compile_chances(chances, unknown)
    assert np.allclose(made.beliefs.mass([0])[:, 0, 0], [0.8, 0.8, 0.8, 0, 0.8, 0.8])
    assert np.allclose(made.beliefs.mass([1])[:, 0, 0], [0.2, 0.2, 0.2, 0, 0.2, 0.2])


def test_coarse_annotation_that_does_not_say_how_coarse_is_refused():
    form = AnnotationForm(form="coarse")
    with pytest.raises(DatasetError, match=r"'coarse' without tolerance_mm: .* Give tolerance_mm"):
        compiled(form, [])
    with pytest.raises(DatasetError, match="tolerance_mm"):
        compile_structures(np.zeros(SHAPE, np.uint8), form, 2, 255, (4.0, 1.0, 1.0))


def test_the_further_inside_a_coarse_outline_the_more_likely_a_voxel_is_vertebra():
    made = compiled(AnnotationForm(form="coarse", tolerance_mm=10), [marked(grid(), block())], background=~block())
    # From the left edge of the block inwards the depth is 0.5, 1.5, 2.5 ... mm, or 0.2, 0.6, 1.0 ... of 2.5 mm.
    expected = [0.579, 0.726, 0.841, 0.919, 0.964]
    assert made.beliefs.mass([1])[2, 26, 12:17] == pytest.approx(expected, abs=0.011)
    assert made.beliefs.mass([0])[2, 26, 11:6:-1] == pytest.approx(expected, abs=0.011)


def test_beside_a_coarse_outline_what_nobody_drew_stays_open():
    background = ~block()
    background[:, :, 40:] = False
    made = compiled(AnnotationForm(form="coarse", tolerance_mm=4.0), [marked(grid(), block())], background=background)
    assert np.array_equal(made.beliefs.silent == 1, ~background & ~block())


def test_a_coarse_map_says_nothing_new_on_slices_that_were_not_drawn_on():
    made = compiled(AnnotationForm(form="coarse", tolerance_mm=4.0), [marked(grid(), block())], background=~block())
    assert made.beliefs.mass([0])[0].min() == 1


def test_a_coarse_vertebra_is_at_least_as_large_as_its_sure_part():
    made = compiled(AnnotationForm(form="coarse", tolerance_mm=2.0), [marked(grid(), block())], background=~block())
    # 4 slices; deeper than 2 mm 10 x 12 voxels; nearer than 2 mm 14 x 16 and two rows more at each side, less corners.
    region = made.bags.members[:, 0][made.bags.codes]
    assert made.bags.low[0] == pytest.approx(4 * 10 * 12 / region.sum())
    assert made.bags.high[0] == 1


@pytest.mark.parametrize("direction", GRIDS.values(), ids=GRIDS)
def test_outside_all_boxes_is_background(direction):
    geometry = grid(direction)
    box = box_around(geometry)
    made = compiled(AnnotationForm(form="box", slack_mm=0.0), [marked(geometry, box_lps=box)], geometry)
    assert made.beliefs.mass([0])[~inside_box(geometry, *box)].min() == 1


@pytest.mark.parametrize("direction", GRIDS.values(), ids=GRIDS)
def test_the_sure_part_of_a_box_lies_in_the_vertebra(direction):
    geometry = grid(direction)
    tight = AnnotationForm(form="box", slack_mm=0.0)
    made = compiled(tight, [marked(geometry, box_lps=box_around(geometry))], geometry)
    sure = made.beliefs.mass([1]) > 0.9
    assert sure.any()
    assert not np.any(sure & ~block())


def test_of_a_boxed_body_most_is_believed_in_the_middle_and_half_where_its_surface_is_expected():
    geometry = grid()
    made = compiled(AnnotationForm(form="box", slack_mm=0.0), [marked(geometry, box_lps=box_around(geometry))])
    # Bodies fill 0.57 of the box through their outermost points, the rounded cylinder 0.797: so it is smaller by the
    # cube root of 0.715. The slice lies 2 mm beside the middle; sideways a body is 1.0785 of 8 mm, else 0.9629 of it.
    surface = NormalDist(0.8942, 0.12)
    distance = ((2 / 8.628) ** 2.2 + ((np.arange(7) + 0.5) / 7.703) ** 2.2) ** (1 / 2.2)
    assert made.beliefs.mass([1])[2, 26, 20:27] == pytest.approx([1 - surface.cdf(d) for d in distance], abs=0.02)
    assert made.beliefs.silent.max() <= 0.02
    assert made.beliefs.mass([0])[2, 26, 28] == 1


def box_of_body(axes, size):
    """Edges of the box of the world around many points of the surface |x|^4 + |y|^4 + |z|^4 = 1, scaled and turned."""
    directions = np.random.default_rng(0).normal(size=(400_000, 3))
    surface = directions / (directions**4).sum(axis=1, keepdims=True) ** 0.25
    return 2 * (surface * np.array(size) / 2 @ np.array(axes).T).max(axis=0)


@pytest.mark.parametrize(("degrees", "expected"), [(0, (40, 28, 34)), (20, (40, 28, 34)), (-15, (40, 28, 34))])
def test_the_size_of_a_tilted_body_is_told_from_its_box(degrees, expected):
    axes = np.array(turned(degrees))
    assert boxed_extent_mm(axes, box_of_body(axes, expected)) == pytest.approx(expected, rel=0.01)


def test_at_45_degrees_the_size_of_a_boxed_body_is_the_same_both_ways():
    axes = np.array(turned(45))
    assert boxed_extent_mm(axes, box_of_body(axes, (40, 31, 31))) == pytest.approx((40, 31, 31), rel=0.01)


def test_a_tight_box_is_filled_as_exact_vertebrae_fill_theirs():
    geometry = grid()
    made = compiled(AnnotationForm(form="box", slack_mm=0.0), [marked(geometry, box_lps=box_around(geometry))])
    assert (made.bags.low[0], made.bags.high[0]) == pytest.approx((0.6, 0.9))


def test_a_loose_box_is_filled_by_the_share_of_the_tight_one_in_it():
    geometry = grid()
    made = compiled(AnnotationForm(form="box", slack_mm=4.0), [marked(geometry, box_lps=box_around(geometry, 4.0))])
    share = (16 * 14 * 16) / (24 * 22 * 24)
    assert (made.bags.low[0], made.bags.high[0]) == pytest.approx((0.6 * share, 0.9 * share))


def test_the_planes_of_a_tight_box_are_not_asked_to_meet_a_body_whose_shape_is_believed():
    geometry = grid()
    made = compiled(AnnotationForm(form="box", slack_mm=0.0), [marked(geometry, box_lps=box_around(geometry))])
    assert not made.bags.line.any()


def test_a_box_whose_slack_nobody_told_has_that_of_the_data():
    geometry = grid()
    vertebra = marked(geometry, box_lps=box_around(geometry, 4.0))
    told = compiled(AnnotationForm(form="box", slack_mm=4.0), [vertebra])
    assert compiled(AnnotationForm(form="box"), [vertebra], slack_mm=4.0).bags.low == pytest.approx(told.bags.low)


@pytest.mark.parametrize("direction", GRIDS.values(), ids=GRIDS)
def test_a_point_is_vertebra_and_what_lies_far_is_none(direction):
    geometry = grid(direction)
    made = compiled(AnnotationForm(form="point", jitter_mm=1.0), [marked(geometry)], geometry)
    assert made.beliefs.mass([1])[2, 26, 19] >= 0.99
    assert made.beliefs.mass([0])[0, 0, 0] == 1


def test_points_of_which_nobody_told_it_are_taken_to_be_2_mm_off():
    forms = (AnnotationForm(form="point", jitter_mm=2.0), AnnotationForm(form="point"))
    told, untold = (body(grid(), grid().to_world((2, 26, 19)), EXTENT, form) for form in forms)
    assert told.error_mm == untold.error_mm == 2.0


def test_a_less_exact_point_says_less():
    made = [compiled(AnnotationForm(form="point", jitter_mm=jitter), [marked(grid())]).beliefs for jitter in (0.0, 1.0)]
    doubt = [np.minimum(beliefs.mass([0]), beliefs.mass([1])).sum() for beliefs in made]
    assert 0 < doubt[0] < doubt[1]


def test_around_a_point_as_much_is_vertebra_as_its_level_is_large():
    made = compiled(AnnotationForm(form="point"), [marked(grid())])
    region_mm3 = made.bags.voxels[0] * 4.0
    share = 16 * 14 * 16 / region_mm3
    assert (made.bags.low[0], made.bags.high[0]) == pytest.approx((0.6 * share, 0.8 * share))


def test_a_scribble_is_vertebra_and_the_rest_as_around_a_point():
    stroke = np.zeros(SHAPE, bool)
    stroke[2, 26, 13:27] = True
    made = compiled(AnnotationForm(form="scribble"), [marked(grid(), stroke)])
    assert made.beliefs.mass([1])[stroke].min() == 1
    assert made.beliefs.mass([0])[0, 0, 0] == 1
    assert len(made.bags.voxels) == 1


def test_where_nobody_annotated_nothing_is_background():
    unknown = np.zeros(SHAPE, bool)
    unknown[:, :10] = True
    made = compiled(AnnotationForm(form="point"), [marked(grid())], unknown=unknown)
    assert made.beliefs.silent[unknown].min() == 1


@pytest.mark.parametrize("form", ["box", "point", "none", "scribble"])
def test_a_case_without_any_vertebra_says_nothing(form):
    made = compiled(AnnotationForm(form=form), [])
    assert made.beliefs.silent.min() == 1


def test_structures_keep_what_is_drawn_and_what_is_open():
    labels = np.zeros(SHAPE, np.uint8)
    labels[block()] = 2
    labels[0] = 255
    made = compile_structures(labels, AnnotationForm(form="mask"), 3, 255, (4.0, 1.0, 1.0))
    assert np.array_equal(made.beliefs.mass([2]), block())
    assert np.array_equal(made.beliefs.silent > 0, labels == 255)


def test_around_a_coarse_structure_it_is_that_or_background():
    labels = np.zeros(SHAPE, np.uint8)
    labels[block()] = 2
    made = compile_structures(labels, AnnotationForm(form="coarse", tolerance_mm=2.0), 3, 255, (4.0, 1.0, 1.0))
    ring = np.abs(depth_mm(block(), (4.0, 1.0, 1.0))) <= 2
    assert np.array_equal(made.beliefs.mass([0, 2]) > 0, ring)
    assert np.array_equal(made.beliefs.mass([2]) > 0, block() & ~ring)


@pytest.mark.parametrize("form", ["box", "point"])
def test_a_map_beside_boxes_or_points_is_not_believed(form):
    made = compiled(AnnotationForm(form=form), [marked(grid(), block())])
    assert (made.beliefs.mass([1]) > 0.5).sum() < block().sum()


def test_between_coarse_structures_that_touch_it_is_either_or_none():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 20:34, 12:20], labels[1:5, 20:34, 20:28] = 1, 2
    made = compile_structures(labels, AnnotationForm(form="coarse", tolerance_mm=2.0), 4, 255, (4.0, 1.0, 1.0))
    assert made.beliefs.mass([0, 1, 2])[2, 26, 20] == 1
    assert made.beliefs.mass([1])[2, 26, 16] == 1
    assert made.beliefs.mass([0, 2])[2, 26, 28] == 1


def test_a_coarse_structure_too_thin_to_be_sure_of_is_somewhere():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 20:34, 12:14] = 1
    made = compile_structures(labels, AnnotationForm(form="coarse", tolerance_mm=3.0), 2, 255, (4.0, 1.0, 1.0))
    assert not made.beliefs.mass([1]).any()
    assert made.bags.low[0] == pytest.approx(30 / (made.bags.voxels[0] * 4.0))


def test_a_box_holds_the_voxels_whose_centres_lie_in_it():
    geometry = grid(turned(20))
    low, high = np.array([8.0, -20.0, 0.0]), np.array([22.0, 0.0, 30.0])
    world = geometry.to_world(np.argwhere(np.ones(SHAPE)))
    expected = np.all((world >= low) & (world <= high), axis=1).reshape(SHAPE)
    assert expected.any()
    assert np.array_equal(inside_box(geometry, low, high), expected)


@pytest.mark.parametrize(("form", "share"), [("box", 0.57), ("point", 0.8)])
def test_the_body_that_is_more_likely_than_not_has_the_usual_share_of_its_size(form, share):
    shape, spacing_mm = (60, 110, 110), (0.4, 0.2, 0.2)
    geometry = Geometry(shape=shape, spacing_mm=spacing_mm, origin_lps=(0.0, 0.0, 0.0), direction=SAGITTAL)
    centre, half = geometry.to_world((29.5, 54.5, 54.5)), np.array([16.0, 16.0, 14.0]) / 2
    told, box = AnnotationForm(form=form, slack_mm=0.0, jitter_mm=0.0), (centre - half, centre + half)
    vertebra = MarkedVertebra(body(geometry, centre, EXTENT, told, box), box)
    nothing = np.zeros(geometry.shape, bool)
    beliefs = compile_vertebrae(geometry, [vertebra], told, nothing, nothing, Shapes()).beliefs
    likely_mm3 = (beliefs.mass((1,)) > beliefs.mass((0,))).sum() * 0.016
    assert likely_mm3 == pytest.approx(share * 16 * 14 * 16, rel=0.03)


def test_the_mean_of_many_bodies_displaced_by_their_error_has_the_usual_size():
    geometry = Geometry(shape=(50, 60, 60), spacing_mm=(1.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0), direction=SAGITTAL)
    extent, nothing = np.array([32.0, 32.0, 32.0]), np.zeros(geometry.shape, bool)

    def mass(form):
        vertebra = MarkedVertebra(body(geometry, geometry.to_world((25, 30, 30)), extent, form))
        return compile_vertebrae(geometry, [vertebra], form, nothing, nothing, Shapes()).beliefs.mass((1,))

    # Displaced by normally distributed errors without end = blurred.
    mean = ndimage.gaussian_filter(mass(AnnotationForm(form="point", jitter_mm=3.0)).astype(float), 3.0)
    sharp = mass(AnnotationForm(form="point", jitter_mm=0.0)) > 0.5
    assert (mean > 0.5).sum() == pytest.approx(sharp.sum(), rel=0.03)


@pytest.mark.parametrize("direction", GRIDS.values(), ids=GRIDS)
def test_the_mask_of_a_body_is_what_lies_within_its_surface(direction):
    geometry = grid(direction)
    where = body(geometry, geometry.to_world((2.5, 26.5, 19.5)), EXTENT, AnnotationForm(form="point"))
    distance = body_distance(geometry, where.centre_lps, where.axes_lps, where.extent_mm)
    # It fills 0.8 of its box, one of usual shape 0.79726.
    within = distance <= (0.8 / 0.79726) ** (1 / 3)
    assert within.any()
    assert np.array_equal(body_mask(geometry, where), within)


def test_the_mask_of_a_body_outside_the_grid_is_empty():
    geometry = grid()
    where = body(geometry, geometry.to_world((2.5, 500, 19.5)), EXTENT, AnnotationForm(form="point"))
    assert not body_mask(geometry, where).any()
