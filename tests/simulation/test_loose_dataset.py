"""`spinecls_loosen`: raw datasets that the check accepts, with the truth that a form leaves."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from support import run_cli

from spinecls import files
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_chance_map, read_label_map
from spinecls.records import AnnotationForm, AnnotationForms
from spinecls.simulation.loose_dataset import LoosenOptions, loosen_dataset
from spinecls.testing.phantom import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("loosen") / "Dataset001_Phantom", 3, seed=5)


def made(source, tmp_path, **options):
    loosen_dataset(source, tmp_path / "Dataset002_Loose", LoosenOptions(**options))
    return load_dataset(tmp_path / "Dataset002_Loose")


def centres(source):
    found = {}
    for case in load_dataset(source).cases:
        labels, geometry = read_label_map(case.vertebra_maps[""])
        for vertebra in case.vertebrae:
            code = load_dataset(source).description.levels[vertebra.level]
            found[case.identifier, vertebra.level] = geometry.to_world(np.argwhere(labels == code).mean(axis=0))
    return found


def test_the_table_of_cases_is_kept(source, tmp_path):
    shutil.copytree(source, tmp_path / "Dataset003_Told")
    (tmp_path / "Dataset003_Told/cases.csv").write_text("case,sequence\nphantom_000,STIR\n")
    made(tmp_path / "Dataset003_Told", tmp_path, form="point")
    assert (tmp_path / "Dataset002_Loose/cases.csv").read_text() == "case,sequence\nphantom_000,STIR\n"


def test_points_stand_in_the_table_and_there_is_no_map(source, tmp_path):
    loose = made(source, tmp_path, form="point", jitter_mm=2.0)
    truth = centres(source)
    for case in loose.cases:
        assert not case.vertebra_maps
        assert case.annotation_form.vertebrae == AnnotationForm(form="point", jitter_mm=2.0)
        for vertebra in case.vertebrae:
            assert np.linalg.norm(vertebra.centre_lps - truth[case.identifier, vertebra.level]) < 12


def test_loose_boxes_hold_the_centre(source, tmp_path):
    loose = made(source, tmp_path, form="box", slack_mm=(2.0, 6.0))
    truth = centres(source)
    for case in loose.cases:
        assert case.annotation_form.vertebrae == AnnotationForm(form="box", slack_mm=4.0)
        for vertebra in case.vertebrae:
            low, high = np.array(vertebra.box_lps)
            assert (low < truth[case.identifier, vertebra.level]).all()
            assert (truth[case.identifier, vertebra.level] < high).all()


@pytest.mark.parametrize(
    ("form", "told"),
    [("coarse", {"tolerance_mm": 2.5}), ("scribble", {})],
)
def test_drawn_forms_are_maps_that_say_how_loose_they_are(form, told, source, tmp_path):
    loose = made(source, tmp_path, form=form, tolerance_mm=2.5)
    for case, exact in zip(loose.cases, load_dataset(source).cases, strict=True):
        assert case.annotation_form.vertebrae == AnnotationForm(form=form, **told)
        before, _ = read_label_map(exact.vertebra_maps[""])
        after, _ = read_label_map(case.vertebra_maps[""])
        assert after.shape == before.shape
        assert not np.array_equal(after, before)


def test_slices_are_named(source, tmp_path):
    loose = made(source, tmp_path, form="slices", every=3)
    for case in loose.cases:
        told = case.annotation_form.vertebrae
        after, _ = read_label_map(case.vertebra_maps[""])
        assert told.form == "slices"
        assert [n for n in range(len(after)) if (after[n] != 255).any()] == list(told.slices)


def test_none_leaves_classes_without_any_position(source, tmp_path):
    loose = made(source, tmp_path, form="none", exact_cases=1)
    with_map = [case for case in loose.cases if case.vertebra_maps]
    assert len(with_map) == 1
    for case in loose.cases:
        if case not in with_map:
            assert not any(vertebra.has_position for vertebra in case.vertebrae)
            assert all(vertebra.readings for vertebra in case.vertebrae)


def test_structures_can_be_loosened_alone(source, tmp_path):
    loose = made(source, tmp_path, form="coarse", kind="structures")
    for case in loose.cases:
        assert case.annotation_form == AnnotationForms(structures=AnnotationForm(form="coarse", tolerance_mm=3.0))
        assert case.vertebra_maps


def test_maps_of_chances_stay_when_structures_are_loosened(source, tmp_path):
    exact = shutil.copytree(source, tmp_path / "Dataset003_Probable")
    chances = 0.9 * sitk.Cast(sitk.ReadImage(str(exact / "labelsTr/phantom_000.nii.gz")) > 0, sitk.sitkFloat32)
    sitk.WriteImage(chances, str(exact / "labelsTr/phantom_000__probability.nii.gz"))
    files.write_json(exact / "annotationsTr.json", {"phantom_000": {"vertebrae": {"form": "probability"}}})
    case = made(exact, tmp_path, form="coarse", kind="structures").cases[0]
    assert case.chance_map.name == "phantom_000__probability.nii.gz"
    assert read_chance_map(case.chance_map)[0].max() == pytest.approx(0.9)


def readings(dataset):
    return {(c.identifier, v.level): v.readings for c in dataset.cases for v in c.vertebrae}


def test_without_noise_the_classes_stay(source, tmp_path):
    assert readings(made(source, tmp_path, form="point")) == readings(load_dataset(source))


def test_noise_replaces_its_share_of_the_classes(source, tmp_path):
    before, after = readings(load_dataset(source)), readings(made(source, tmp_path, class_noise=1.0))
    assert all(before[key][0].classes != after[key][0].classes for key in before)


def test_sets_hold_what_was_read(source, tmp_path):
    before, after = readings(load_dataset(source)), readings(made(source, tmp_path, class_sets=0.5))
    sizes = [len(after[key][0].classes) for key in before]
    assert 0.2 < np.mean(np.array(sizes) == 2) < 0.8
    assert all(set(before[key][0].classes) <= set(after[key][0].classes) for key in before)


def test_readers_read_as_well_as_told(source, tmp_path):
    before = readings(load_dataset(source))
    after = readings(made(source, tmp_path, reader_accuracy=(1.0, 0.0)))
    for key, (first, second) in after.items():
        assert (first.reader, second.reader) == ("reader1", "reader2")
        assert first.classes == before[key][0].classes
        assert second.classes != before[key][0].classes


def test_images_are_the_same_and_times_are_listed(source, tmp_path):
    loose = made(source, tmp_path, form="box")
    for case in loose.cases:
        for path in case.images:
            assert path.read_bytes() == (source / "imagesTr" / path.name).read_bytes()
    rows = files.read_csv(tmp_path / "Dataset002_Loose/loosening.csv")
    assert len(rows) == sum(len(case.vertebrae) for case in loose.cases)
    assert {row["seconds"] for row in rows} == {"14.0"}


def test_the_same_seed_gives_the_same_files(source, tmp_path):
    for name in ("a", "b"):
        loosen_dataset(source, tmp_path / name, LoosenOptions(form="coarse", class_noise=0.3, seed=4))
    for path in sorted((tmp_path / "a").rglob("*.*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.name == "dataset.json" or path.read_bytes() == other.read_bytes(), path


WRONG = [
    (("--form", "circle"), "--form circle: expected one of"),
    (("--form", "box", "--kind", "structures"), "boxes and points of vertebrae only"),
    (("--form", "coarse", "--kind", "discs"), "--kind discs: expected"),
    (("--form", "box", "--slack_mm", "6", "2"), "the smaller first"),
    (("--form", "box", "--slack_mm", "6"), "expected two numbers"),
    (("--class_noise", "1.5"), "--class_noise 1.5: expected a share"),
    (("--readers", "0.9", "2"), "expected chances"),
    (("--form", "coarse", "--tolerance_mm", "-1"), "expected 0 mm or more"),
    (("--form", "slices", "--every", "0"), "--every 0"),
    ((), "Nothing to loosen"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_a_wrong_request_says_what_is_wrong(words, said, source, tmp_path, capsys):
    assert run_cli("loosen", "-d", source, "-o", tmp_path / "x" / "Dataset003_New", *words) == 2
    assert said in capsys.readouterr().err


def test_an_existing_target_is_refused(source, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert run_cli("loosen", "-d", source, "-o", tmp_path / "there", "--form", "point") == 2
    assert "exists" in capsys.readouterr().err


def test_the_command_tells_what_drawing_takes(source, tmp_path, capsys):
    assert run_cli("loosen", "-d", source, "-o", tmp_path / "new" / "Dataset003_New", "--form", "point") == 0
    assert "instead of" in capsys.readouterr().out


def test_a_vertebra_that_no_drawn_slice_shows_is_pointed_at(source, tmp_path):
    loose = made(source, tmp_path, form="slices", every=50)
    # The check accepts the dataset, so every vertebra that lost its voxels has a place in the table.
    lost = [v for case in loose.cases for v in case.vertebrae if not v.in_map]
    assert all(v.centre_lps is not None for v in lost)


def test_no_position_at_all_is_refused(source, tmp_path, capsys):
    assert run_cli("loosen", "-d", source, "-o", tmp_path / "x" / "Dataset003_New", "--form", "none") == 2
    assert "Give --exact_cases" in capsys.readouterr().err
