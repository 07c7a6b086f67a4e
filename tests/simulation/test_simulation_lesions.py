import numpy as np
import pytest
from scipy import ndimage
from simulation_scans import CODES, SPACING_MM, body_map, diseased, geometry, rows, scan, simulated

from spinecls.simulation.case import simulate_case
from spinecls.simulation.options import KINDS, STRATA, SimulationOptions, class_names
from spinecls.simulation.streams import case_stream
from spinecls.testing.phantom_images import axes_lps

ALL_KINDS = [(kind, sign) for kind, sign in zip(KINDS, (1, 1, 1, -1, -1), strict=True)]


def many(count: int = 12, **options):
    return [simulated(case=f"c{number}", **options) for number in range(count)]


@pytest.fixture(scope="module")
def cases():
    return many()


def test_normal_vertebrae_are_untouched_to_the_bit(cases):
    seen = 0
    for case in cases:
        for level, ill in diseased(case).items():
            body = body_map() == CODES[level]
            if not ill:
                seen += 1
                np.testing.assert_array_equal(case.image[0][body], scan()[0][body])
    assert seen > 5


def test_without_distractors_and_markers_nothing_outside_the_bodies_changes(cases):
    for case in cases:
        np.testing.assert_array_equal(case.image[0][body_map() == 0], scan()[0][body_map() == 0])


def test_diseased_vertebrae_change_and_have_an_outline_of_their_class(cases):
    names = class_names("nominal", KINDS)
    for case in cases:
        for level, name in case.classes.items():
            body = body_map() == CODES[level]
            values = set(np.unique(case.outlines[body])) - {0}
            assert values == ({names.index(name)} if name != "normal" else set())
            assert (case.image[0][body] != scan()[0][body]).any() == (name != "normal")


def test_outlines_lie_inside_the_bodies(cases):
    for case in cases:
        assert not case.outlines[body_map() == 0].any()


def test_a_lesion_takes_at_least_12_square_millimetres_of_a_slice(cases):
    areas = []
    for case in cases:
        for level, ill in diseased(case).items():
            lesion = (case.outlines > 0) & (body_map() == CODES[level])
            if ill:
                areas.append(lesion.sum(axis=(1, 2)).max() * SPACING_MM[1] * SPACING_MM[2])
    assert len(areas) > 5
    assert min(areas) >= 12


def test_a_lesion_is_one_piece_at_the_border_of_its_body(cases):
    inner = ndimage.binary_erosion(body_map() > 0, np.ones((1, 7, 7)))
    for case in cases:
        for insert in rows(case, "lesion"):
            lesion = (case.outlines > 0) & (body_map() == CODES[insert.level])
            labels, _ = ndimage.label(lesion, np.ones((3, 3, 3)))
            sizes = np.bincount(labels[lesion])
            assert sizes.max() >= 0.9 * sizes.sum()
            assert (lesion & ~inner).any()


def marrow_deviation(image) -> float:
    """1.48 MAD of all voxels more than 3 mm from the edge of a body in plane, by erosion with a disc."""
    row, column = np.mgrid[-3:4, -3:4]
    inner = ndimage.binary_erosion(body_map() > 0, (row**2 + column**2 <= 9)[None])
    values = image[0][inner]
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.mark.parametrize("name", STRATA)
def test_the_contrast_measured_anew_lies_in_the_stratum_asked_for(name):
    low, high = STRATA[name]
    found = []
    for case in many(6, contrast=name, prevalence=0.9, kinds=("corner_oedema", "endplate_oedema")):
        for insert in rows(case, "lesion"):
            lesion = (case.outlines > 0) & (body_map() == CODES[insert.level])
            change = (case.image[0].astype(float) - scan()[0])[lesion].mean()
            found.append(abs(change) / marrow_deviation(scan()))
            assert insert.contrast == pytest.approx(found[-1], rel=1e-4)
            assert insert.stratum == name
    assert len(found) > 10
    assert all(low <= value <= high for value in found)


def test_a_contrast_that_the_tissue_does_not_allow_is_listed_as_what_was_reached():
    # Marrow 80, the darkest percentile about 46 and noise 6: darker by 65 % of 34 is 3.7 deviations.
    for insert in (i for case in many(4, contrast="intense", kinds=("sclerosis",)) for i in rows(case, "lesion")):
        assert insert.stratum == ("mid" if insert.contrast >= 3 else "subtle")
        assert 1.5 < insert.contrast < 4.2


@pytest.mark.parametrize(("kind", "sign"), ALL_KINDS)
def test_a_kind_brightens_or_darkens_t2(kind, sign):
    case = simulated(kinds=(kind,), prevalence=0.99)
    change = (case.image[0].astype(float) - scan()[0])[case.outlines > 0]
    assert len(change) > 20
    assert np.sign(change.mean()) == sign


@pytest.mark.parametrize(
    ("kind", "sequence", "sign"),
    [("corner_oedema", "T1", -1), ("corner_oedema", "STIR", 1), ("fat", "T1", 1), ("fat", "STIR", -1)],
)
def test_oedema_and_fat_change_sides_between_sequences(kind, sequence, sign):
    case = simulated(kinds=(kind,), prevalence=0.99, sequence=sequence)
    change = (case.image[0].astype(float) - scan()[0])[case.outlines > 0]
    assert np.sign(change.mean()) == sign


def test_every_channel_shows_the_same_lesion_in_its_own_way():
    both = np.concatenate([scan(0), scan(1)])
    options = SimulationOptions(seed=3, distractors=0, kinds=("corner_oedema",), prevalence=0.9)
    case = simulate_case(
        both, body_map(), geometry(), codes=CODES, sequences=["T2", "T1"], channel_names=["a", "b"],
        class_list=("normal", "inflammatory"), options=options, stream=case_stream(3, "a"),
    )  # fmt: skip
    change = (case.image.astype(float) - both)[:, case.outlines > 0].mean(axis=1)
    assert change[0] > 3
    assert change[1] < -3


def test_bigger_grades_are_bigger():
    medians = []
    for grade in (1, 2, 3):
        volumes = [
            insert.volume_mm3
            for case in many(10, task="ordinal", kinds=("corner_oedema",), prevalence=0.9)
            for insert in rows(case, "lesion")
            if insert.grade == grade
        ]
        medians.append(np.median(volumes))
    assert medians[0] * 1.5 < medians[1]
    assert medians[1] * 1.5 < medians[2]


def test_the_class_of_an_ordinal_task_is_the_size_grade():
    inserts = [insert for case in many(4, task="ordinal", prevalence=0.9) for insert in rows(case, "lesion")]
    assert {insert.grade for insert in inserts} == {1, 2, 3}
    assert all(insert.class_name == f"grade{insert.grade}" for insert in inserts)


def test_every_normal_vertebra_has_a_sham_of_contrast_0_inside_itself(cases):
    for case in cases:
        normal = [level for level, ill in diseased(case).items() if not ill]
        shams = rows(case, "sham")
        assert [insert.level for insert in shams] == normal
        for insert in shams:
            index = tuple(np.rint(geometry().to_index(insert.centre_lps)).astype(int))
            assert body_map()[index] == CODES[insert.level]
            assert insert.contrast == 0
            assert insert.volume_mm3 > 0


def test_a_vertebra_has_the_same_lesion_whatever_the_prevalence():
    compared = 0
    for few, most in zip(many(6, prevalence=0.4), many(6, prevalence=0.95), strict=True):
        for level in (level for level, ill in diseased(few).items() if ill):
            compared += 1
            body = body_map() == CODES[level]
            np.testing.assert_array_equal(few.image[0][body], most.image[0][body])
    assert compared > 3


def test_the_prevalence_is_the_one_asked_for():
    states = [ill for case in many(60, prevalence=0.3) for ill in diseased(case).values()]
    assert np.mean(states) == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / len(states)))


def test_a_turned_patient_has_the_same_lesions_turned():
    turn = axes_lps("LPS", 25.0)
    straight, oblique = simulated(prevalence=0.9), simulated(prevalence=0.9, grid=geometry(turn))
    np.testing.assert_array_equal(straight.outlines, oblique.outlines)
    assert straight.inserts
    for one, other in zip(straight.inserts, oblique.inserts, strict=True):
        np.testing.assert_allclose(turn @ one.centre_lps, other.centre_lps, atol=1e-6)


def test_a_vertebra_that_the_image_cuts_off_on_both_sides_is_not_read():
    image, array = scan()[:, :, 20:40], body_map()[:, 20:40]
    grid = geometry().cropped((0, 20, 0), (11, 40, 110))
    case = simulate_case(
        image, array, grid, codes=CODES, sequences=["T2"], channel_names=["T2"], class_list=("normal", "lesion"),
        options=SimulationOptions(task="binary", prevalence=0.99), stream=case_stream(0, "a"),
    )  # fmt: skip
    assert case.classes == {}
