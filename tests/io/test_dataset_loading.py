from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls.anatomy import LEVEL_CODES
from spinecls.errors import DatasetError, UsageError
from spinecls.io.dataset import DatasetFaults, check_dataset, load_dataset, read_description
from spinecls.records import AnnotationForm, AnnotationForms, ClassReading

DATA = Path(os.environ.get("SPINECLS_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = DATA / "Dataset001_LumbarSpA"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "Dataset001_Tiny"
    tiny.write_good(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "Dataset001_Tiny")


def readings(folder, case, level):
    found = next(item for item in load_dataset(folder).cases if item.identifier == case)
    return next(item for item in found.vertebrae if item.level == level).readings


def test_good_dataset_is_read_whole(folder):
    dataset = load_dataset(folder)
    assert dataset.warnings == ()
    assert dataset.description.class_names == ("normal", "fracture")
    assert dataset.description.levels == {"L1": 20, "L2": 21, "L3": 22}
    assert [case.identifier for case in dataset.cases] == list(tiny.CASES)
    first = dataset.cases[0]
    assert first.patient == "p0"
    assert first.images == (folder / "imagesTr/a1_0000.nii.gz",)
    assert dict(first.vertebra_maps) == {"": folder / "labelsTr/a1.nii.gz"}
    assert first.structure_map == folder / "structuresTr/a1.nii.gz"
    assert [(v.level, v.in_map, v.readings[0].classes) for v in first.vertebrae] == [
        ("L1", True, ("normal",)), ("L2", True, ("fracture",)), ("L3", True, ("normal",)),
    ]  # fmt: skip


def test_without_voxel_pass_the_levels_of_maps_are_still_known(folder):
    tiny.table(folder, "case,vertebra,class", "a1,L1,0", "a1,L2,1")
    dataset = load_dataset(folder, verify_voxels=False)
    assert [(v.level, v.in_map, v.readings != ()) for v in dataset.cases[0].vertebrae] == [
        ("L1", True, True), ("L2", True, True), ("L3", True, False),
    ]  # fmt: skip


def test_all_errors_are_told_at_once_grouped_and_counted(folder):
    tiny.replace_in_table(folder, ",L1,normal", ",L1,odd")
    (folder / "imagesTr/a5_0000.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetFaults) as caught:
        load_dataset(folder)
    assert [finding.code for finding in caught.value.findings].count("E705") == 5
    text = str(caught.value)
    assert text.startswith(f"{folder}: 6 errors.")
    assert "[E705] unknown class (5)\n  a1: line 2: class 'odd'" in text
    assert "[E301] file cannot be opened (1)\n  a5: a5_0000.nii.gz" in text


def test_several_processes_find_what_one_finds(folder):
    tiny.write(folder / "labelsTr/a3.nii.gz", np.zeros(tiny.SHAPE, np.uint8))
    one = check_dataset(folder)
    assert one.errors
    assert check_dataset(folder, num_processes=2) == one


def test_missing_folder_is_a_finding_of_the_check(tmp_path):
    assert [finding.code for finding in check_dataset(tmp_path / "gone").findings] == ["E101"]


def test_unknown_split_is_a_usage_error(folder):
    with pytest.raises(UsageError, match="expected one of Tr, Ts"):
        load_dataset(folder, split="Va")


def test_test_split_is_read_from_its_own_folders(folder):
    for name in ("images", "labels"):
        shutil.move(folder / f"{name}Tr", folder / f"{name}Ts")
    shutil.move(folder / "vertebraeTr.csv", folder / "vertebraeTs.csv")
    dataset = load_dataset(folder, split="Ts")
    assert len(dataset.cases) == 5
    assert dataset.cases[0].images[0].parent.name == "imagesTs"
    assert dataset.cases[0].vertebrae[1].readings[0].classes == ("fracture",)


def test_images_without_annotation_are_unlabelled(folder):
    tiny.write(folder / "imagesTr/b1_0000.nii.gz", tiny.voxels(21))
    tiny.write(folder / "imagesUn/c1_0000.nii.gz", tiny.voxels(22))
    dataset = load_dataset(folder)
    assert [case.identifier for case in dataset.unlabelled] == ["b1", "c1"]
    assert len(dataset.cases) == 5


def test_case_with_rows_alone_is_a_case(folder):
    (folder / "labelsTr/a2.nii.gz").unlink()
    case = load_dataset(folder).cases[1]
    assert [(v.level, v.has_position) for v in case.vertebrae] == [("L1", False), ("L2", False), ("L3", False)]


def test_table_of_a_german_spreadsheet_is_read(folder):
    lines = ["\ufeffcase;patient;vertebra;class;confidence;x_mm;y_mm;z_mm", "a1;p0;LWK1;Fracture ;0,75;0,5;45,5;20,25"]
    lines += [f"a{n};p{n};L0{1 + n % 2};{n % 2};;;;" for n in range(2, 6)]
    tiny.table(folder, *lines)
    vertebra = load_dataset(folder).cases[0].vertebrae[0]
    assert vertebra.centre_lps == (0.5, 45.5, 20.25)
    assert vertebra.readings == (ClassReading(classes=("fracture",), confidence=0.75),)


@pytest.mark.parametrize(
    ("cell", "classes"),
    [
        ("FRACTURE", ("fracture",)),
        ("1", ("fracture",)),
        ("1.0", ("fracture",)),
        ('"1,0"', ("fracture",)),
        ("1|0", ("normal", "fracture")),
        ("fracture | normal", ("normal", "fracture")),
    ],
)
def test_class_may_be_a_name_an_index_or_a_set(folder, cell, classes):
    tiny.replace_in_table(folder, "a1,p0,L1,normal", f"a1,p0,L1,{cell}")
    assert readings(folder, "a1", "L1")[0].classes == classes


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "unknown", "-1"])
def test_vertebra_that_was_not_read_has_no_reading(folder, cell):
    tiny.replace_in_table(folder, "a1,p0,L1,normal", f"a1,p0,L1,{cell}")
    assert readings(folder, "a1", "L1") == ()


def test_rows_of_several_readers_are_several_readings(folder):
    rows = ["a1,L1,0,x", "a1,L1,1,y", "a1,L1,1,", "a2,L1,1,x", "a2,L1,1,x"]
    tiny.table(folder, "case,vertebra,class,reader", *rows)
    assert [(r.reader, r.classes[0]) for r in readings(folder, "a1", "L1")] == [
        ("x", "normal"), ("y", "fracture"), ("", "fracture"),
    ]  # fmt: skip
    assert len(readings(folder, "a2", "L1")) == 1


def test_points_and_boxes_of_rows_are_kept(folder):
    shutil.rmtree(folder / "labelsTr")
    header = "case,vertebra,class,x_mm,y_mm,z_mm,x_min_mm,y_min_mm,z_min_mm,x_max_mm,y_max_mm,z_max_mm"
    tiny.table(folder, header, "a1,L1,0,0,40,10,-5,35,5,5,45,15", "a1,L2,1,0,42,0,,,,,,", "a1,L2,0,0,40,0,,,,,,")
    first, second = load_dataset(folder).cases[0].vertebrae
    assert first.centre_lps == (0, 40, 10)
    assert first.box_lps == ((-5, 35, 5), (5, 45, 15))
    assert second.centre_lps == (0, 41, 0)
    assert second.box_lps is None


def test_maps_of_several_readers_belong_to_one_case(folder):
    shutil.move(folder / "labelsTr/a1.nii.gz", folder / "labelsTr/a1__anna.nii.gz")
    shutil.copy(folder / "labelsTr/a2.nii.gz", folder / "labelsTr/a1__ben.nii.gz")
    assert sorted(load_dataset(folder).cases[0].vertebra_maps) == ["anna", "ben"]


def test_a_map_of_chances_is_no_readers(folder):
    tiny.write(folder / "labelsTr/a1__probability.nii.gz", np.float32(0.5) * (tiny.vertebra_map() > 0))
    (folder / "annotationsTr.json").write_text(json.dumps({"a1": {"vertebrae": {"form": "probability"}}}))
    assert check_dataset(folder).findings == ()
    case = load_dataset(folder).cases[0]
    assert list(case.vertebra_maps) == [""]
    assert case.chance_map == folder / "labelsTr/a1__probability.nii.gz"


def test_form_of_a_case_overrides_the_default_of_its_kind(folder):
    default = {"vertebrae": {"form": "coarse", "tolerance_mm": 3}, "structures": {"form": "none"}}
    content = {"default": default, "a1": {"vertebrae": {"form": "box", "slack_mm": 0}}}
    (folder / "annotationsTr.json").write_text(json.dumps(content))
    first, second, *_ = load_dataset(folder).cases
    nothing = AnnotationForm(form="none")
    assert first.annotation_form == AnnotationForms(
        vertebrae=AnnotationForm(form="box", slack_mm=0), structures=nothing
    )
    assert second.annotation_form == AnnotationForms(
        vertebrae=AnnotationForm(form="coarse", tolerance_mm=3), structures=nothing
    )


def test_year_at_the_end_of_a_name_belongs_to_the_case(folder):
    tiny.write(folder / "imagesTr/scan_2021.nii.gz", tiny.voxels(30))
    assert [case.identifier for case in load_dataset(folder).unlabelled] == ["scan_2021"]


def test_map_in_another_axis_order_on_the_same_grid_passes(folder):
    # The canonical grid starts at (10, 20, 30); the file runs to the left, the back and the head from its other end.
    turned = tiny.vertebra_map()[::-1, ::-1].transpose(1, 2, 0)
    tiny.write(
        folder / "labelsTr/a1.nii.gz", np.ascontiguousarray(turned), spacing=(4, 1, 1),
        origin=(10 - 5 * 4, 20, 30 - 59), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
    )  # fmt: skip
    assert [finding.line for finding in check_dataset(folder).errors] == []


def test_description_takes_the_usual_codes_when_none_are_given(folder):
    tiny.description(folder, vertebrae=None, license="CC BY 4.0")
    description = read_description(folder / "dataset.json")
    assert dict(description.levels) == LEVEL_CODES
    assert description.licence == "CC BY 4.0"
    assert description.ignore_label == 255


def test_description_sorts_classes_by_index(folder):
    tiny.description(folder, classes={"severe": 2, "normal": 0, "mild": 1})
    assert read_description(folder / "dataset.json").class_names == ("normal", "mild", "severe")


def test_faulty_description_tells_every_fault(folder):
    tiny.description(folder, classes={"a": 0}, class_order=1, vertebrae={"X": 1})
    with pytest.raises(DatasetError, match=r"3 errors") as caught:
        read_description(folder / "dataset.json")
    assert [finding.code for finding in caught.value.findings] == ["E106", "E105", "E104"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data not found at {DATA} (set SPINECLS_TEST_DATA)")
def test_real_dataset_has_no_error():
    dataset = load_dataset(REAL, verify_voxels=False)
    assert len(dataset.cases) == 53
    assert sum(len(case.vertebrae) for case in dataset.cases) == 303
    assert all(vertebra.in_map for case in dataset.cases for vertebra in case.vertebrae)
