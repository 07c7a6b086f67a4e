import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from spinecls.anatomy import LEVEL_CODES, RANK
from spinecls.errors import UsageError
from spinecls.files import content_hash, read_csv
from spinecls.testing.phantom import PhantomOptions, make_case, marked_voxel, to_image, write_dataset
from spinecls.testing.phantom_anatomy import build_column
from spinecls.testing.phantom_options import ORIENTATIONS, STRUCTURES

LESION_CODES = {"inflammatory": STRUCTURES["inflammatory_lesion"], "structural": STRUCTURES["structural_lesion"]}
SMALL = PhantomOptions(shape=(16, 60, 48), spacing_mm=(5.0, 3.0, 3.0))


def case_of(seed, **changes):
    return make_case(np.random.default_rng(seed), replace(PhantomOptions(), **changes))


@pytest.fixture(scope="module")
def cases():
    return [case_of(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def whole_spines():
    options = PhantomOptions(fields=("whole",), shape=(10, 150, 40), spacing_mm=(10.0, 5.0, 5.0))
    return {
        variant: make_case(np.random.default_rng(3), replace(options, variants=(variant,)))
        for variant in ("none", "T13", "L6", "no_T12", "no_L5")
    }


def test_centres_are_the_centroids_that_simpleitk_finds_in_an_oblique_map():
    case = case_of(0, oblique_degrees=20.0)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(to_image(case.vertebra_map, case.geometry, "LSA"))
    for level, centre_lps in case.centres_lps.items():
        assert statistics.GetCentroid(LEVEL_CODES[level]) == pytest.approx(centre_lps, abs=1e-3)


def test_map_holds_the_codes_of_the_named_levels_and_unknown(cases):
    for case in cases:
        found = set(np.unique(case.vertebra_map).tolist()) - {0, 255}
        assert found == {LEVEL_CODES[level] for level in case.centres_lps}


def test_levels_lie_below_each_other_in_anatomical_order(cases):
    for case in cases:
        heights_mm = [centre[2] for centre in case.centres_lps.values()]
        assert heights_mm == sorted(heights_mm, reverse=True)
        ranks = [RANK[level] for level in case.centres_lps]
        assert ranks == sorted(ranks)


def test_bodies_keep_to_themselves_as_one_component_a_level(cases):
    for level in cases[0].centres_lps:
        assert ndimage.label(cases[0].vertebra_map == LEVEL_CODES[level])[1] == 1


@pytest.mark.parametrize(
    ("variant", "neighbours"),
    [
        ("none", ["T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1"]),
        ("T13", ["T11", "T12", "T13", "L1", "L2", "L3", "L4", "L5", "S1"]),
        ("L6", ["T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1"]),
        ("no_T12", ["T11", "L1", "L2", "L3", "L4", "L5", "S1"]),
        ("no_L5", ["T11", "T12", "L1", "L2", "L3", "L4", "S1"]),
    ],
)
def test_numerical_variants_appear_in_order(whole_spines, variant, neighbours):
    levels = list(whole_spines[variant].centres_lps)
    assert levels[levels.index("T11") :] == neighbours
    rows = [whole_spines[variant].geometry.to_index(c)[1] for c in whole_spines[variant].centres_lps.values()]
    assert rows == sorted(rows)


def test_the_first_vertebra_of_a_whole_spine_has_a_place_but_no_class(whole_spines):
    case = whole_spines["none"]
    assert next(iter(case.centres_lps)) == "C1"
    assert set(case.centres_lps) - set(case.classes) == {"C1"}


def test_the_same_level_lies_at_very_different_rows_of_the_field_of_view():
    first_rows = [
        next(v.centre_mm[1] for v in build_column(np.random.default_rng(seed), PhantomOptions()) if v.name == "L3")
        for seed in range(40)
    ]
    pitch_mm = 38  # of L3: 28 mm body, 10 mm disc
    assert np.ptp(first_rows) > 2 * pitch_mm


def test_bodies_grow_towards_the_feet_and_the_sacrum_leans_back():
    column = {v.name: v for v in build_column(np.random.default_rng(0), PhantomOptions(lordosis=1.0))}
    assert column["C4"].width_mm < column["T6"].width_mm < column["L1"].width_mm < column["L5"].width_mm
    assert column["S1"].axes[1, 2] > 0.4 > abs(column["L3"].axes[1, 2])


def test_every_classified_vertebra_goes_through_the_lesion_code_negatives_with_amplitude_0(cases):
    for case in cases:
        assert [lesion.level for lesion in case.lesions] == list(case.classes)
        for lesion in case.lesions:
            assert (lesion.amplitude == 0) == (case.classes[lesion.level] == "normal")
    assert {lesion.kind for case in cases for lesion in case.lesions if lesion.amplitude == 0} >= {"oedema", "fat"}


def test_lesions_change_no_voxel_outside_the_touched_bodies():
    healthy, ill = case_of(4, lesion_probability=0.0), case_of(4, lesion_probability=1.0)
    assert set(healthy.classes.values()) == {"normal"}
    changed = (healthy.image != ill.image).any(axis=0)
    bodies = ndimage.binary_dilation(healthy.vertebra_map > 0, np.ones((3, 3, 3)))
    assert changed.any()
    assert not (changed & ~bodies).any()


def test_a_lesion_of_contrast_0_is_no_different_from_a_sham():
    sham = case_of(4, lesion_probability=0.0, lesion_contrast=(0.0, 0.0))
    invisible = case_of(4, lesion_probability=1.0, lesion_contrast=(0.0, 0.0))
    assert "normal" in sham.classes.values()
    assert "normal" not in invisible.classes.values()
    np.testing.assert_array_equal(sham.image, invisible.image)


def test_distractors_do_not_depend_on_the_classes():
    for seed in range(4):
        healthy, ill = case_of(seed, lesion_probability=0.0), case_of(seed, lesion_probability=1.0)
        assert healthy.distractors == ill.distractors
        assert healthy.classes != ill.classes


def test_distractors_change_no_voxel_of_a_body():
    without = case_of(2, distractors_per_vertebra=0.0)
    many = case_of(2, distractors_per_vertebra=4.0)
    changed = (without.image != many.image).any(axis=0)
    assert len(many.distractors) > 5
    assert changed.any()
    assert not (changed & (many.vertebra_map > 0)).any()


def test_each_lesion_outline_lies_in_its_own_vertebra_and_has_a_size(cases):
    for case in cases:
        seen = np.zeros(case.vertebra_map.shape, bool)
        for level, name in case.classes.items():
            if name == "normal":
                continue
            body = ndimage.binary_dilation(case.vertebra_map == LEVEL_CODES[level], np.ones((3, 3, 3)))
            lesion = body & (case.structure_map == LESION_CODES[name])
            extents_mm = np.ptp(np.argwhere(lesion), axis=0) * case.geometry.spacing_mm + case.geometry.spacing_mm
            assert extents_mm.max() >= 6
            seen |= lesion
        np.testing.assert_array_equal(seen, np.isin(case.structure_map, list(LESION_CODES.values())))


@pytest.mark.parametrize(("channel", "sign"), [("T2", 1), ("STIR", 1), ("T1", -1)])
def test_oedema_is_bright_on_t2_and_stir_and_dark_on_t1(channel, sign):
    healthy = case_of(0, lesion_probability=0.0, channels=(channel,))
    ill = case_of(0, lesion_probability=1.0, channels=(channel,))
    inside = ill.structure_map == LESION_CODES["inflammatory"]
    difference = ill.image[0][inside].astype(float) - healthy.image[0][inside]
    assert inside.sum() > 20
    assert np.mean(np.sign(difference) == sign) > 0.95


def test_structural_lesions_are_dark_on_t2():
    healthy, ill = case_of(0, lesion_probability=0.0), case_of(0, lesion_probability=1.0)
    inside = ill.structure_map == LESION_CODES["structural"]
    assert inside.sum() > 20
    assert np.mean(ill.image[0][inside] < healthy.image[0][inside]) > 0.95


def test_the_lesion_rate_is_the_one_asked_for():
    cases = [make_case(np.random.default_rng(seed), replace(SMALL, lesion_probability=0.3)) for seed in range(60)]
    positive = [name != "normal" for case in cases for name in case.classes.values()]
    four_standard_errors = 4 * np.sqrt(0.3 * 0.7 / len(positive))
    assert np.mean(positive) == pytest.approx(0.3, abs=four_standard_errors)


def test_the_same_seed_gives_the_same_case():
    first, second, other = case_of(7), case_of(7), case_of(8)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.vertebra_map, second.vertebra_map)
    assert first.centres_lps == second.centres_lps
    assert not np.array_equal(first.image, other.image)


def test_loose_annotation_leaves_out_visible_neighbours_and_calls_nothing_unknown():
    complete, loose = case_of(5), case_of(5, complete=False)
    assert 1 <= len(loose.centres_lps) < len(complete.centres_lps)
    levels = list(complete.centres_lps)
    first = levels.index(next(iter(loose.centres_lps)))
    assert list(loose.centres_lps) == levels[first : first + len(loose.centres_lps)]
    assert 255 not in loose.vertebra_map
    for level in loose.centres_lps:
        code = LEVEL_CODES[level]
        np.testing.assert_array_equal(loose.vertebra_map == code, complete.vertebra_map == code)


def test_channels_show_the_same_patient_with_their_own_contrast():
    case = case_of(1, channels=("T2", "T1"))
    assert case.image.shape == (2, 24, 96, 64)
    canal = case.structure_map == STRUCTURES["canal"]
    bodies = case.vertebra_map > 0
    assert np.median(case.image[0][canal]) > 1.2 * np.median(case.image[0][bodies])
    assert np.median(case.image[1][canal]) < 0.8 * np.median(case.image[1][bodies])


def test_noise_in_air_has_the_rayleigh_ratio_of_magnitude_images():
    plain = {"texture": 0.0, "bias_field": 0.0, "lesion_probability": 0.0, "distractors_per_vertebra": 0.0}
    clean = case_of(0, noise_sd=0.0, **plain).image
    noisy = case_of(0, noise_sd=0.1, **plain).image
    air = noisy[clean < 1.001 * clean.min()]
    assert air.size > 1000
    # Rayleigh: standard deviation / mean = sqrt(4 / pi - 1)
    assert air.std() / air.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.02)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_marked_voxel_has_the_orientation_that_simpleitk_reads(orientation):
    image = marked_voxel(orientation, (3, 17, 5), oblique_degrees=12.0)
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    assert code == orientation
    assert image[3, 17, 5] == 1
    assert sitk.GetArrayViewFromImage(image).sum() == 1


@pytest.mark.parametrize("orientation", ["PIR", "LPS", "RAS", "LAS", "SAL", "AIR"])
@pytest.mark.parametrize("oblique_degrees", [0.0, 18.0])
def test_written_orientations_keep_the_value_at_a_world_point(orientation, oblique_degrees):
    case = make_case(np.random.default_rng(2), replace(SMALL, oblique_degrees=oblique_degrees))
    image = to_image(case.image[0], case.geometry, orientation)
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == orientation
    for voxel_zyx in [(0, 0, 0), (3, 40, 11), (15, 59, 47)]:
        point_lps = case.geometry.to_world(voxel_zyx)
        at = image.TransformPhysicalPointToIndex([float(value) for value in point_lps])
        assert image[at] == case.image[(0, *voxel_zyx)]


def test_canonical_arrays_run_to_the_right_the_feet_and_the_back():
    case = make_case(np.random.default_rng(2), SMALL)
    steps_lps = np.array([case.geometry.to_world(step) - case.geometry.to_world((0, 0, 0)) for step in np.eye(3)])
    np.testing.assert_allclose(steps_lps, [[-5, 0, 0], [0, 0, -3], [0, 3, 0]], atol=1e-9)


@pytest.mark.parametrize(
    "faulty",
    [
        {"orientation": "PIX"},
        {"channels": ()},
        {"fields": ("lumbar",)},
        {"variants": ("L7",)},
        {"lesion_probability": 1.5},
        {"lesion_contrast": (5.0, 4.0)},
        {"spacing_mm": (4.0, 0.0, 2.0)},
        {"oblique_degrees": 60.0},
    ],
)
def test_faulty_options_are_refused_by_name(faulty):
    with pytest.raises(UsageError, match=next(iter(faulty))):
        PhantomOptions(**faulty)


def test_a_marked_voxel_outside_its_image_is_refused():
    with pytest.raises(UsageError, match="voxel_xyz"):
        marked_voxel("LPS", (9, 0, 0))


def test_a_dataset_has_the_folders_and_tables_of_the_format(tmp_path):
    options = replace(SMALL, channels=("T2", "T1"), orientation="LAS", complete=False)
    folder = write_dataset(
        tmp_path / "Dataset901_Phantom", 3, seed=1, options=options, patients=2, num_test=1, num_unlabelled=1
    )
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    training = [f"phantom_00{index}" for index in range(3)]
    expected = ["dataset.json", "vertebraeTr.csv", "vertebraeTs.csv"]
    expected += [f"imagesTr/{case}_000{channel}.nii.gz" for case in training for channel in (0, 1)]
    expected += [f"{kind}Tr/{case}.nii.gz" for case in training for kind in ("labels", "structures")]
    expected += [f"imagesTs/test_000_000{channel}.nii.gz" for channel in (0, 1)]
    expected += ["labelsTs/test_000.nii.gz"]
    expected += [f"imagesUn/unlabelled_000_000{channel}.nii.gz" for channel in (0, 1)]
    assert names == sorted(expected)
    description = json.loads((folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T2", "1": "T1"}
    assert description["classes"] == {"normal": 0, "inflammatory": 1, "structural": 2}
    assert (description["numTraining"], description["vertebrae_complete"]) == (3, False)
    rows = read_csv(folder / "vertebraeTr.csv")
    assert {(row["case"], row["patient"]) for row in rows} == {
        ("phantom_000", "patient_000"),
        ("phantom_001", "patient_001"),
        ("phantom_002", "patient_000"),
    }


def test_written_centres_lie_in_their_vertebra_of_the_written_map(tmp_path):
    folder = write_dataset(tmp_path / "Dataset902_Phantom", 1, options=replace(SMALL, orientation="RSA"))
    image = sitk.ReadImage(str(folder / "labelsTr" / "phantom_000.nii.gz"))
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == "RSA"
    rows = read_csv(folder / "vertebraeTr.csv")
    assert len(rows) >= 3
    for row in rows:
        at = image.TransformPhysicalPointToIndex([float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")])
        assert image[at] == LEVEL_CODES[row["vertebra"]]


def test_a_larger_dataset_of_the_same_seed_begins_with_the_bytes_of_the_smaller(tmp_path):
    hashes = []
    for count in (1, 2):
        folder = write_dataset(tmp_path / f"Dataset90{count}_Phantom", count, seed=5, options=SMALL)
        parts = ("imagesTr/phantom_000_0000.nii.gz", "labelsTr/phantom_000.nii.gz", "structuresTr/phantom_000.nii.gz")
        hashes.append(content_hash(*(folder / part for part in parts)))
    assert hashes[0] == hashes[1]
