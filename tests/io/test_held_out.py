"""The gate looks at test cases too: faults of theirs, and whatever makes a test case one that training has seen."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset


@pytest.fixture
def folder(tmp_path):
    """The tiny dataset with two test cases of its own patients."""
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    for number, case in enumerate(("t1", "t2"), start=10):
        tiny.write(path / f"imagesTs/{case}_0000.nii.gz", tiny.voxels(number))
        tiny.write(path / f"labelsTs/{case}.nii.gz", tiny.vertebra_map())
    write_table(path)
    return path


def write_table(folder, patients=("q1", "q2"), cases=("t1", "t2")):
    rows = [f"{c},{p},L1,normal" for c, p in zip(cases, patients, strict=True)]
    (folder / "vertebraeTs.csv").write_text("\n".join(["case,patient,vertebra,class", *rows]) + "\n")


def found(folder, **options):
    return [(f.code, f.case, f.text) for f in check_dataset(folder, **options).findings]


def test_good_test_cases_are_counted_apart_and_pass(folder):
    report = check_dataset(folder)
    assert (report.cases, report.test_cases, report.findings) == (tiny.CASES, ("t1", "t2"), ())


@pytest.mark.parametrize("emptied", ["imagesTs", "labelsTs"])
def test_empty_folder_for_test_cases_is_no_fault(tmp_path, emptied):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    (path / emptied).mkdir()
    (path / emptied / ".gitkeep").touch()
    assert found(path) == []


def test_test_images_without_annotation_are_no_fault(folder):
    shutil.rmtree(folder / "labelsTs")
    (folder / "vertebraeTs.csv").unlink()
    assert found(folder) == []


FAULTS = {
    "damaged image": (lambda f: (f / "imagesTs/t1_0000.nii.gz").write_bytes(b""), "E301", "t1"),
    "constant image": (lambda f: tiny.write(f / "imagesTs/t1_0000.nii.gz", tiny.voxels(1) * 0), "E502", "t1"),
    "map without image": (lambda f: (f / "imagesTs/t1_0000.nii.gz").unlink(), "E207", "t1"),
    "unknown code": (lambda f: tiny.write(f / "labelsTs/t1.nii.gz", tiny.vertebra_map() + 90), "E603", "t1"),
    "map on another grid": (
        lambda f: tiny.write(f / "labelsTs/t1.nii.gz", tiny.vertebra_map(), origin=(99.0, 20.0, 30.0)), "E412", "t1"),
    "unknown class": (lambda f: (f / "vertebraeTs.csv").write_text(
        "case,patient,vertebra,class\nt1,q1,L1,odd\n"), "E705", "t1"),
    "maps without images": (lambda f: shutil.rmtree(f / "imagesTs"), "E110", ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_test_cases_are_found_as_those_of_training_cases(folder, fault):
    damage, code, case = FAULTS[fault]
    damage(folder)
    assert (code, case) in [finding[:2] for finding in found(folder)]


def test_what_concerns_the_whole_dataset_is_told_once(folder):
    tiny.description(folder, description="of another tool")
    assert [code for code, _, _ in found(folder)] == ["W102"]


def recompressed(source, target):
    sitk.WriteImage(sitk.ReadImage(str(source)), str(target), useCompression=False)


def as_float(source, target):
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(source)), sitk.sitkFloat32), str(target))


def turned(source, target):
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(source)), "RAS"), str(target))


COPIES = {"the same file": shutil.copy, "recompressed": recompressed, "as float": as_float, "along other axes": turned}


@pytest.mark.parametrize("copy", COPIES)
def test_training_image_among_test_images_is_an_error_however_it_is_stored(folder, copy):
    COPIES[copy](folder / "imagesTr/a2_0000.nii.gz", folder / "imagesTs/t1_0000.nii.gz")
    shutil.copy(folder / "labelsTr/a2.nii.gz", folder / "labelsTs/t1.nii.gz")
    errors = [finding for finding in found(folder) if finding[0].startswith("E")]
    assert errors == [
        ("E220", "t1", "test image has the same voxels as imagesTr/a2_0000.nii.gz; the model learns from it, so its "
         "score says nothing. Remove one of them."),
    ]  # fmt: skip


def test_unlabelled_scan_that_is_a_test_image_is_told(folder):
    (folder / "imagesUn").mkdir()
    shutil.copy(folder / "imagesTs/t2_0000.nii.gz", folder / "imagesUn/u_0000.nii.gz")
    assert found(folder) == [
        ("W221", "t2", "test image has the same voxels as imagesUn/u_0000.nii.gz, which a trainer of unlabelled scans "
         "learns from"),
    ]  # fmt: skip


def test_unlabelled_scan_that_is_a_training_image_is_told(folder):
    (folder / "imagesUn").mkdir()
    shutil.copy(folder / "imagesTr/a1_0000.nii.gz", folder / "imagesUn/u_0000.nii.gz")
    assert [(code, case) for code, case, _ in found(folder)] == [("E505", "u")]


def test_patient_in_training_and_test_is_told_with_both_cases(folder):
    write_table(folder, patients=("p0", "q2"))
    [(code, case, text)] = found(folder)
    assert (code, case) == ("W223", "t1")
    assert text.startswith("test case of patient 'p0', who is in training too (a1)")


def test_case_name_in_training_and_test_is_told(folder):
    for place, ending in (("imagesTs", "_0000.nii.gz"), ("labelsTs", ".nii.gz")):
        (folder / place / f"t1{ending}").rename(folder / place / f"a1{ending}")
    write_table(folder, cases=("a1", "t2"))
    assert [(code, case) for code, case, _ in found(folder)] == [("W222", "a1")]


def test_cases_without_patients_are_not_taken_as_one_patient(folder):
    (folder / "vertebraeTs.csv").write_text("case,vertebra,class\nt1,L1,normal\nt2,L1,normal\n")
    assert "W223" not in [code for code, _, _ in found(folder)]


def test_missing_table_of_test_cases_is_told_where_the_dataset_has_classes(folder):
    (folder / "vertebraeTs.csv").unlink()
    assert [(code, text[:26]) for code, _, text in found(folder)] == [("W120", "vertebraeTs.csv is missing")]


def test_images_are_not_compared_where_voxels_are_left_alone(folder):
    shutil.copy(folder / "imagesTr/a2_0000.nii.gz", folder / "imagesTs/t1_0000.nii.gz")
    assert found(folder, verify_voxels=False) == []


def test_two_equal_test_images_of_two_patients_are_an_error(folder):
    shutil.copy(folder / "imagesTs/t1_0000.nii.gz", folder / "imagesTs/t2_0000.nii.gz")
    assert [(code, case) for code, case, _ in found(folder)] == [("E505", "t2")]


def test_digests_know_the_voxels_and_nothing_else():
    from spinecls.io.image_digests import image_digests

    image = tiny.voxels(0).astype(np.float32)
    changed = image.copy()
    changed[0, 0, 0] += 1
    first, second, third = image_digests([image, np.asfortranarray(image), changed])
    assert first == second != third
