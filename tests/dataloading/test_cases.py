import dataclasses

import numpy as np
import pytest

from spinecls.anatomy import LEVELS
from spinecls.dataloading.cases import (
    UNKNOWN,
    labelled_regions,
    sealed_sources,
    training_case,
)
from spinecls.geometry import Geometry
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.planning.plan import Configuration, LevelStatistics, NetworkPlan, Plan
from spinecls.records import AnnotationForm, AnnotationForms, ClassReading

SHAPE = (7, 80, 50)
GRID = Geometry(
    shape=SHAPE,
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(0.0, 0.0, 0.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres",
    spacing_mm=(4.0, 1.0, 1.0),
    patch_size=(6, 24, 20),
    sealed_spacing_mm=(4.0, 1.0, 1.0),
    sealed_size=(6, 32, 32),
    network=NETWORK,
    reader_network=NETWORK,
)
PLAN = Plan(
    plans_name="p",
    dataset_name="d",
    channel_names=("T2",),
    class_names=("normal", "lesion"),
    class_order=False,
    class_counts={"normal": 3, "lesion": 2},
    levels={"L1": 20, "L2": 21, "L3": 22},
    structures={},
    lesion_structures={},
    vertebrae_complete=True,
    ignore_label=255,
    level_statistics={"L2": LevelStatistics(count=3, extent_mm=(16.0, 14.0, 14.0), pitch_mm=24.0)},
    configurations={"3d_fullres": CONFIGURATION},
)


def vertebra(level, centre, classes=("normal",), **more):
    known = {
        "centre_lps": None if centre is None else tuple(GRID.to_world(centre)),
        "in_map": True,
        "readings": (ClassReading(classes=tuple(classes)),) if classes else (),
    }
    return PreparedVertebra(level=level, **(known | more))


def a_case(vertebrae, vertebra_map="drawn", form=None):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:5, 15:29, 15:29] = 20
    drawn[2:5, 39:53, 15:29] = 21
    drawn[0, 0, 0] = 255
    values = {
        "identifier": "c",
        "patient": "p",
        "site": "",
        "native": np.random.default_rng(0).integers(80, 120, (1, *SHAPE)).astype(np.uint8),
        "native_geometry": GRID,
        "native_map": drawn if vertebra_map == "drawn" else None,
        "native_structures": None,
        "image": np.zeros((1, *SHAPE), np.float16),
        "geometry": GRID,
        "vertebra_map": drawn if vertebra_map == "drawn" else None,
        "structures": None,
        "vertebrae": tuple(vertebrae),
        "normalisation": ((0.0, 1.0),),
        "annotation_form": AnnotationForms(vertebrae=AnnotationForm(form=form) if form else None),
    }
    return PreprocessedCase(**values)


TWO = [vertebra("L1", (3, 21.5, 21.5)), vertebra("L2", (3, 45.5, 21.5), ("lesion",))]


def test_map_values_are_rows_of_the_centres():
    trained = training_case(a_case(TWO), PLAN)
    assert trained.vertebra_map[3, 20, 20] == 1
    assert trained.vertebra_map[3, 45, 20] == 2
    assert trained.centres[1] == pytest.approx((3, 45.5, 21.5))


def test_classes_stand_in_the_order_of_the_centres_with_the_voxels_of_their_vertebrae():
    case = a_case([*TWO, vertebra("L3", (3, 70, 21), classes=())])
    regions = labelled_regions(case, training_case(case, PLAN), PLAN)
    assert [region.label.singletons().tolist() for region in regions] == [[1, 0], [0, 1], [0, 0]]
    assert [region.voxels for region in regions[:2]] == [3 * 14 * 14, 3 * 14 * 14]


def test_the_voxels_of_a_vertebra_without_a_map_are_those_of_a_usual_body():
    case = a_case(TWO, vertebra_map=None)
    trained = training_case(case, PLAN)
    assert (trained.bodies == 1).sum() == (trained.bodies == 2).sum()
    assert [r.voxels for r in labelled_regions(case, trained, PLAN)] == [(trained.bodies == 1).sum()] * 2


def test_bodies_of_a_case_that_is_drawn_whole_are_those_of_the_map():
    assert training_case(a_case(TWO), PLAN).bodies is None


def test_a_vertebra_that_the_map_does_not_show_has_a_usual_body_beside_the_drawn_ones():
    trained = training_case(a_case([*TWO, vertebra("L3", (3, 69.5, 21.5))]), PLAN)
    drawn = trained.vertebra_map != UNKNOWN
    assert (trained.bodies[drawn] == trained.vertebra_map[drawn]).all()
    assert trained.bodies[3, 69, 21] == 3


def test_a_case_without_map_and_bodies_says_what_it_lacks():
    case = training_case(a_case([vertebra("L1", (3, 20, 20))]), PLAN)
    with pytest.raises(ValueError, match="Case c: has neither vertebra_map nor bodies"):
        _ = dataclasses.replace(case, vertebra_map=None).numbers


def test_a_stroke_is_part_of_a_body():
    case = a_case(TWO, form="scribble")
    stroke = np.where(np.arange(SHAPE[2]) == 21, case.vertebra_map, 0).astype(np.uint8)
    trained = training_case(dataclasses.replace(case, vertebra_map=stroke), PLAN)
    assert trained.bodies[3, 20, 21] == trained.bodies[3, 20, 24] == 1
    assert trained.vertebra_map[3, 20, 24] == UNKNOWN


def test_voxels_of_the_ignore_label_are_unknown_in_map_and_heat():
    trained = training_case(a_case(TWO), PLAN)
    assert trained.vertebra_map[0, 0, 0] == UNKNOWN
    assert trained.unknown[0, 0, 0]


def test_a_listed_vertebra_without_a_position_may_be_anywhere():
    trained = training_case(a_case([*TWO, vertebra("L3", None)]), PLAN)
    assert trained.unknown.all()
    assert len(trained.centres) == 2


def test_background_around_a_centre_that_the_map_does_not_show_is_unknown():
    trained = training_case(a_case([*TWO, vertebra("L3", (3, 69.5, 21.5))]), PLAN)
    assert trained.vertebra_map[3, 69, 21] == UNKNOWN
    assert trained.vertebra_map[3, 69, 45] == 0


@pytest.mark.parametrize("form", ["slices", "scribble"])
def test_undrawn_voxels_of_a_partly_drawn_map_are_unknown(form):
    trained = training_case(a_case(TWO, form=form), PLAN)
    assert trained.vertebra_map[6, 70, 40] == UNKNOWN
    assert trained.vertebra_map[3, 20, 20] == 1


@pytest.mark.parametrize(("form", "value"), [("slices", 0), ("scribble", UNKNOWN)])
def test_background_is_meant_on_a_drawn_slice_and_not_beside_a_scribble(form, value):
    assert training_case(a_case(TWO, form=form), PLAN).vertebra_map[3, 70, 40] == value


@pytest.mark.parametrize(("form", "open_there"), [("mask", True), ("slices", False), ("scribble", False)])
def test_what_nobody_drew_on_is_no_place_for_further_vertebrae(form, open_there):
    # Voxel (0, 0, 0) holds the ignored label, on a slice without any vertebra.
    assert training_case(a_case(TWO, form=form), PLAN).unknown[0, 0, 0] == open_there


def test_what_a_drawn_slice_leaves_open_may_be_a_vertebra():
    case = a_case(TWO, form="slices")
    case.vertebra_map[3, 70, 40] = 255
    assert training_case(case, PLAN).unknown[3, 70, 40]


@pytest.mark.parametrize("form", ["slices", "scribble"])
def test_a_map_that_is_drawn_in_part_gives_no_region(form):
    assert sealed_sources(a_case(TWO, form=form), PLAN, CONFIGURATION, True)[0].distance is None


def test_a_map_declared_none_is_no_map():
    assert training_case(a_case(TWO, form="none"), PLAN).vertebra_map is None


def test_a_vertebra_without_a_class_has_no_sealed_crop():
    sources = sealed_sources(a_case([TWO[0], vertebra("L2", (3, 45.5, 21.5), ())]), PLAN, CONFIGURATION, True)
    assert len(sources) == 1


def test_a_cut_vertebra_with_a_lesion_may_be_anything():
    cut = vertebra("L2", (3, 45.5, 21.5), ("lesion",), truncated=True)
    label = sealed_sources(a_case([TWO[0], cut]), PLAN, CONFIGURATION, True)[1].label
    assert label.weight == 0 or label.sets[0].all()


def test_a_cut_vertebra_of_a_dataset_without_classes_has_no_sealed_crop():
    cut = vertebra("L2", (3, 45.5, 21.5), (), truncated=True)
    unclassified = dataclasses.replace(PLAN, class_names=(), class_counts={})
    assert sealed_sources(a_case([cut]), unclassified, CONFIGURATION, True) == []


def test_without_masks_the_box_holds_the_ellipsoid_and_its_jitter():
    source = sealed_sources(a_case(TWO, vertebra_map=None), PLAN, CONFIGURATION, False)[0]
    assert source.distance is None
    assert source.box.contains(source.centre_lps)
    assert source.box.shape[1] >= 14 + 2 * 3


def test_the_box_has_room_for_a_slice_beside_the_vertebra_within_the_image():
    source = sealed_sources(a_case(TWO), PLAN, CONFIGURATION, True)[0]
    assert np.isfinite(source.distance).any(axis=(1, 2)).tolist() == [False, True, True, True, False]
    at_the_end = a_case(TWO)
    at_the_end.native_map[:] = np.roll(at_the_end.native_map, 2, axis=0)
    source = sealed_sources(at_the_end, PLAN, CONFIGURATION, True)[0]
    assert np.isfinite(source.distance).any(axis=(1, 2)).tolist() == [False, True, True, True]


def test_marrow_reference_of_a_case_comes_from_its_vertebrae():
    source = sealed_sources(a_case(TWO), PLAN, CONFIGURATION, True)[0]
    assert source.marrow[0, 0] == pytest.approx(100, abs=2)


def test_what_lies_below_s1_is_background():
    plan = dataclasses.replace(PLAN, vertebrae_complete=False)
    last = training_case(a_case([vertebra("L5", (3, 30.0, 21.5))], vertebra_map=None), plan)
    # Half the height of 14 mm, then 25.2 mm below the centre.
    assert np.flatnonzero(last.unknown[3, 30:, 21])[[0, -1]].tolist() == [8, 25]
    sacrum = training_case(a_case([vertebra("S1", (3, 30.0, 21.5))], vertebra_map=None), plan)
    assert not sacrum.unknown[3, 30:, 21].any()
    assert sacrum.unknown[3, :20, 21].all()


def test_nothing_is_implied_below_s1_or_outside_the_image_or_in_complete_annotation():
    assert len(training_case(a_case(TWO), PLAN).implied) == 0
    open_ended = dataclasses.replace(PLAN, vertebrae_complete=False)
    # L4 would lie above the first row.
    sacrum = [vertebra("L5", (3, 10.0, 20.0)), vertebra("S1", (3, 30.0, 20.0))]
    assert len(training_case(a_case(sacrum, vertebra_map=None), open_ended).implied) == 0
    assert [LEVELS[rank] for rank in training_case(a_case(TWO), open_ended).implied_ranks] == ["T12", "L3"]


def test_lesions_left_open_are_unknown_whatever_the_code_for_it():
    plan = dataclasses.replace(PLAN, ignore_label=99)
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3, 20, 20:23] = 1
    drawn[3, 21, 20:23] = 99
    case = dataclasses.replace(a_case(TWO), native_structures=drawn, structures=drawn)
    source = sealed_sources(case, plan, CONFIGURATION, True)[0]
    assert (source.lesions == 1).sum() == 3
    assert (source.lesions == UNKNOWN).sum() == 3
    assert (training_case(case, plan).structures == UNKNOWN).sum() == 3


@pytest.mark.parametrize(
    ("form", "undrawn", "beside"), [("mask", 0, 0), ("slices", UNKNOWN, 0), ("scribble", UNKNOWN, UNKNOWN)]
)
def test_structures_say_as_much_as_their_form(form, undrawn, beside):
    structures = np.zeros(SHAPE, np.uint8)
    structures[3, 30:34, 15:29] = 1
    told = AnnotationForms(structures=AnnotationForm(form=form))
    case = dataclasses.replace(a_case(TWO), structures=structures, annotation_form=told)
    found = training_case(case, PLAN).structures
    assert (found[0, 40, 20], found[3, 40, 20], found[3, 31, 20]) == (undrawn, beside, 1)


def test_structures_that_are_said_to_be_none_are_not_learnt():
    form = AnnotationForms(structures=AnnotationForm(form="none"))
    case = dataclasses.replace(a_case(TWO), structures=np.zeros(SHAPE, np.uint8), annotation_form=form)
    assert training_case(case, PLAN).structures is None


def test_near_the_outline_of_a_coarse_lesion_nothing_is_said():
    structures = np.zeros(SHAPE, np.uint8)
    structures[3, 18:26, 18:26] = 1
    form = AnnotationForms(structures=AnnotationForm(form="coarse", tolerance_mm=2.0))
    case = dataclasses.replace(a_case(TWO), native_structures=structures, annotation_form=form)
    lesions = sealed_sources(case, PLAN, CONFIGURATION, True)[0].lesions
    assert (lesions == 1).sum() == 4 * 4
    assert (lesions == UNKNOWN).sum() > 16


def test_axes_of_vertebrae_lie_along_slices_rows_and_columns_where_the_spine_is_upright():
    axes = training_case(a_case(TWO), PLAN).axes
    assert axes.shape == (2, 3, 3)
    assert np.abs(axes - np.eye(3)).max() < 1e-6


def test_axes_follow_the_spine():
    leaning = [vertebra("L1", (3, 20, 15)), vertebra("L2", (3, 44, 25)), vertebra("L3", (3, 68, 35))]
    along = training_case(a_case(leaning, vertebra_map=None), PLAN).axes[:, :, 1]
    assert along == pytest.approx(np.tile(np.array([0, 12, 5]) / 13, (3, 1)), abs=0.02)


def test_crops_say_which_vertebra_they_are_of():
    sources = sealed_sources(a_case(TWO), PLAN, CONFIGURATION, use_masks=True)
    assert [source.level for source in sources] == ["L1", "L2"]
