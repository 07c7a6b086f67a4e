import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from simulation_scans import CODES, body_map, geometry, scan

from spinecls.errors import DatasetError, UsageError
from spinecls.files import content_hash, read_csv
from spinecls.io.case_table import read_sequences
from spinecls.io.dataset import check_dataset
from spinecls.simulation.options import SimulationOptions
from spinecls.simulation.simulated_dataset import simulate_dataset
from spinecls.simulation.sources import sequence_of
from spinecls.testing.phantom_images import to_image

CASES = ("a", "b", "c")


def write_source(folder, orientation="PIR", channel="T2", cases=CASES, dtype=np.uint8):
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, case in enumerate(cases):
        image = to_image(scan(number)[0].astype(dtype), geometry(), orientation)
        sitk.WriteImage(image, str(folder / "imagesTr" / f"{case}_0000.nii.gz"))
        array = to_image(body_map().astype(np.uint8), geometry(), orientation)
        sitk.WriteImage(array, str(folder / "labelsTr" / f"{case}.nii.gz"))
    rows = [f"{case},p{case},here,{level}," for case in cases for level in CODES]
    (folder / "vertebraeTr.csv").write_text("\n".join(["case,patient,site,vertebra,class", *rows]) + "\n")
    content = {
        "channel_names": {"0": channel}, "classes": {}, "vertebrae": CODES, "file_ending": ".nii.gz",
        "vertebrae_complete": False, "reference": "made up", "licence": "CC0",
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("raw") / "Dataset001_Source")


OPTIONS = SimulationOptions(seed=2, prevalence=0.6, distractors=1.0)


@pytest.fixture(scope="module")
def target(source):
    return simulate_dataset(source, source.parent / "Dataset002_Simulated", OPTIONS)


def canonical(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR"))


def hashes(folder) -> dict[str, str]:
    return {str(p.relative_to(folder)): content_hash(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def voxels(folder, case="a") -> np.ndarray:
    return canonical(folder / "imagesTr" / f"{case}_0000.nii.gz")


def test_the_result_passes_the_check_of_a_raw_dataset(target):
    report = check_dataset(target)
    assert not report.errors
    assert report.cases == CASES


def test_scores_of_the_result_can_be_told_apart_by_sequence(target):
    assert read_sequences(target) == dict.fromkeys(CASES, "T2")


def test_the_description_has_a_structure_a_class_and_what_the_source_says(target):
    content = json.loads((target / "dataset.json").read_text())
    assert content["classes"] == {"normal": 0, "inflammatory": 1, "structural": 2}
    assert content["structures"] == {"inflammatory_lesion": 1, "structural_lesion": 2}
    assert content["lesion_structures"] == {
        "inflammatory_lesion": "inflammatory", "structural_lesion": "structural"}  # fmt: skip
    assert (content["reference"], content["licence"], content["vertebrae_complete"]) == ("made up", "CC0", False)
    assert (content["numTraining"], content["name"]) == (3, "Dataset002_Simulated")


def test_patients_and_sites_are_kept_and_every_vertebra_has_a_class(target):
    table = read_csv(target / "vertebraeTr.csv")
    assert [(r["case"], r["patient"], r["site"], r["vertebra"]) for r in table] == [
        (case, f"p{case}", "here", level) for case in CASES for level in CODES
    ]
    assert {row["class"] for row in table} == {"normal", "inflammatory", "structural"}


def test_maps_are_copies(source, target):
    assert hashes(source / "labelsTr") == hashes(target / "labelsTr")


def test_maps_of_chances_are_taken_over(tmp_path):
    probable = write_source(tmp_path / "Dataset001_Source", cases=("a",))
    chances = to_image((0.7 * (body_map() > 0)).astype(np.float32), geometry(), "PIR")
    sitk.WriteImage(chances, str(probable / "labelsTr/a__probability.nii.gz"))
    (probable / "annotationsTr.json").write_text(json.dumps({"a": {"vertebrae": {"form": "probability"}}}))
    result = simulate_dataset(probable, tmp_path / "Dataset002_New", OPTIONS)
    assert not check_dataset(result).errors
    assert hashes(result / "labelsTr") == hashes(probable / "labelsTr")


def test_normal_vertebrae_in_the_files_are_those_of_the_source(source, target):
    normal = [row for row in read_csv(target / "vertebraeTr.csv") if row["class"] == "normal"]
    assert normal
    for row in normal:
        body = body_map() == CODES[row["vertebra"]]
        np.testing.assert_array_equal(voxels(target, row["case"])[body], voxels(source, row["case"])[body])


def test_a_scan_of_whole_numbers_stays_one_in_a_file_of_whole_numbers(target):
    image = sitk.ReadImage(str(target / "imagesTr/a_0000.nii.gz"))
    assert image.GetPixelIDTypeAsString() == "8-bit unsigned integer"


def test_the_listed_lesions_are_those_in_the_outlines(source, target):
    listed = [row for row in read_csv(target / "lesions.csv") if row["role"] == "lesion"]
    assert listed
    for row in listed:
        image = sitk.ReadImage(str(target / "structuresTr" / f"{row['case']}.nii.gz"))
        outline = canonical(target / "structuresTr" / f"{row['case']}.nii.gz") == {
            "inflammatory": 1, "structural": 2}[row["class"]]  # fmt: skip
        outline &= body_map() == CODES[row["vertebra"]]
        assert float(row["volume_mm3"]) == outline.sum() * 4
        change = voxels(target, row["case"]).astype(float) - voxels(source, row["case"])
        contrast = abs(change[outline].mean()) / float(row["marrow_deviation"])
        assert contrast == pytest.approx(float(row["contrast"]), rel=1e-3)
        oriented = sitk.DICOMOrient(image, "PIR")
        middle = np.argwhere(outline).mean(axis=0)[::-1].tolist()
        expected = oriented.TransformContinuousIndexToPhysicalPoint(middle)
        np.testing.assert_allclose([float(row[k]) for k in ("x_mm", "y_mm", "z_mm")], expected, atol=0.01)


def test_the_settings_are_written_and_the_progress_is_gone(target):
    content = json.loads((target / "simulation.json").read_text())
    assert content["options"]["seed"] == 2
    assert content["sequences"] == {case: ["T2"] for case in CASES}
    assert not (target / "simulation_progress").exists()


def test_the_same_seed_gives_the_same_files_and_another_seed_others(source, target, tmp_path):
    again = simulate_dataset(source, tmp_path / target.name, OPTIONS)
    assert hashes(again) == hashes(target)
    other = simulate_dataset(source, tmp_path / "Dataset003_Other", SimulationOptions(seed=9, prevalence=0.6))
    assert (voxels(other) != voxels(target)).any()


def test_leaving_out_cases_changes_nothing_for_the_others(source, target, tmp_path):
    options = SimulationOptions(seed=2, prevalence=0.6, distractors=1.0, exclude_cases=("b",))
    fewer = simulate_dataset(source, tmp_path / "Dataset003_Fewer", options)
    assert sorted(p.name for p in (fewer / "labelsTr").iterdir()) == ["a.nii.gz", "c.nii.gz"]
    for case in ("a", "c"):
        path = f"imagesTr/{case}_0000.nii.gz"
        assert content_hash(fewer / path) == content_hash(target / path)


@pytest.mark.parametrize("orientation", ["LAS", "RSP", "AIL"])
def test_another_axis_order_of_the_files_gives_the_same_lesions(orientation, target, tmp_path):
    turned = write_source(tmp_path / "Dataset001_Source", orientation)
    result = simulate_dataset(turned, tmp_path / "Dataset002_Simulated", OPTIONS)
    image = sitk.ReadImage(str(result / "imagesTr/a_0000.nii.gz"))
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == orientation
    np.testing.assert_array_equal(voxels(result), voxels(target))
    assert read_csv(result / "lesions.csv") == read_csv(target / "lesions.csv")


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(source, target, tmp_path):
    begun = shutil.copytree(target, tmp_path / target.name)
    stopped_at = {"a": {"vertebrae": [], "lesions": []}}
    (begun / "simulation_progress").mkdir()
    (begun / "simulation_progress/a.json").write_text(json.dumps(stopped_at["a"]))
    (begun / "dataset.json").unlink()
    (begun / "imagesTr/b_0000.nii.gz").unlink()
    before = (begun / "imagesTr/a_0000.nii.gz").stat().st_mtime_ns
    simulate_dataset(source, begun, OPTIONS)
    assert (begun / "imagesTr/a_0000.nii.gz").stat().st_mtime_ns == before
    assert hashes(begun / "imagesTr") == hashes(target / "imagesTr")
    assert {row["case"] for row in read_csv(begun / "vertebraeTr.csv")} == {"b", "c"}


def test_a_complete_dataset_is_left_as_it_is(source, target):
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    simulate_dataset(source, target, OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_other_settings_for_the_same_target_are_refused(source, target):
    with pytest.raises(UsageError, match="options differ"):
        simulate_dataset(source, target, SimulationOptions(seed=3))


def test_a_folder_of_something_else_is_refused(source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not made by this command"):
        simulate_dataset(source, tmp_path, OPTIONS)


def test_a_source_without_any_map_is_refused(source, tmp_path):
    bare = shutil.copytree(source, tmp_path / "Dataset001_Source")
    shutil.rmtree(bare / "labelsTr")
    (bare / "vertebraeTr.csv").write_text("case,patient,vertebra,class,x_mm,y_mm,z_mm\na,pa,L2,,0,-5,6\n")
    with pytest.raises(DatasetError, match="for each case"):
        simulate_dataset(bare, tmp_path / "Dataset002_New", OPTIONS)


def test_sequences_of_an_unnamed_channel_come_from_the_table_of_cases(tmp_path):
    unnamed = write_source(tmp_path / "Dataset001_Source", channel="MRI")
    (unnamed / "cases.csv").write_text("case,sequence\na,T1\nb,STIR\n")
    result = simulate_dataset(unnamed, tmp_path / "Dataset002_New", OPTIONS)
    content = json.loads((result / "simulation.json").read_text())
    assert content["sequences"] == {"a": ["T1"], "b": ["STIR"], "c": ["T2"]}
    assert "taken as T2: 1 case, such as c" in content["notes"][0]


def test_a_second_channel_of_unknown_sequence_is_refused(tmp_path):
    folder = write_source(tmp_path / "Dataset001_Source")
    for case in CASES:
        shutil.copy(folder / f"imagesTr/{case}_0000.nii.gz", folder / f"imagesTr/{case}_0001.nii.gz")
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "channel_names": {"0": "T2", "1": "PD"}}))
    with pytest.raises(DatasetError, match="'PD'"):
        simulate_dataset(folder, tmp_path / "Dataset002_New", OPTIONS)


def test_kinds_that_look_like_oedema_are_put_in_when_asked_for_and_noted(source, tmp_path):
    made = SimulationOptions(seed=2, prevalence=0.9, distractors=0.0, kinds=("corner_oedema", "fat"))
    result = simulate_dataset(source, tmp_path / "Dataset002_New", made)
    assert {row["kind"] for row in read_csv(result / "lesions.csv")} == {"corner_oedema", "fat"}
    assert "on T2, fat differ from oedema" in json.loads((result / "simulation.json").read_text())["notes"][0]


@pytest.mark.parametrize(
    ("name", "sequence"),
    [("T2", "T2"), ("t2w_tse", "T2"), ("T1w", "T1"), ("STIR", "STIR"), ("TIRM", "STIR"), ("T2_fs", "STIR"),
     ("T2 STIR", "STIR"), ("T1_fs", None), ("MRI", None), ("PD", None)],
)  # fmt: skip
def test_a_channel_name_tells_its_sequence(name, sequence):
    assert sequence_of(name) == sequence


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"task": "ordinal"}, ["normal", "grade1", "grade2", "grade3"]),
        ({"task": "binary"}, ["normal", "lesion"]),
        ({"kinds": ("sclerosis",)}, ["normal", "structural"]),
    ],
)
def test_the_classes_are_those_of_the_task_and_the_kinds(options, classes, source, tmp_path):
    made = SimulationOptions(seed=2, prevalence=0.9, **options)
    result = simulate_dataset(source, tmp_path / "Dataset002_New", made)
    content = json.loads((result / "dataset.json").read_text())
    assert list(content["classes"]) == classes
    assert content.get("class_order", False) == (options.get("task") == "ordinal")


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        ({"kinds": ("edema",)}, "edema"),
        ({"kinds": ("corner_edema",)}, "Did you mean corner_oedema"),
        ({"task": "ternary"}, "ternary"),
        ({"contrast": "strong"}, "strong"),
        ({"shortcuts": ("m6",)}, "m6"),
        ({"sequence": "PD"}, "PD"),
        ({"prevalence": 0.0}, "prevalence"),
        ({"shortcut_correlation": 1.2}, "shortcut_correlation"),
        ({"shortcut_contrast": 0.0}, "shortcut_contrast"),
        ({"distractors": -0.1}, "distractors"),
        ({"seed": -1}, "seed"),
    ],
)
def test_faulty_options_are_refused_by_name(faulty, said):
    with pytest.raises(UsageError, match=said):
        SimulationOptions(**faulty)


def test_a_real_scan_gets_lesions_in_its_own_bodies(real_data, tmp_path):
    folder = real_data / "Dataset002_LumbarMRI"
    options = SimulationOptions(seed=1, cases=("VB3_01",), prevalence=0.9, distractors=0.0)
    result = simulate_dataset(folder, tmp_path / "Dataset002_New", options)
    change = voxels(result, "VB3_01").astype(int) - voxels(folder, "VB3_01")
    bodies = canonical(folder / "labelsTr/VB3_01.nii.gz")
    outline = canonical(result / "structuresTr/VB3_01.nii.gz")
    assert not change[bodies == 0].any()
    codes = {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24}
    ill = {row["vertebra"] for row in read_csv(result / "lesions.csv") if row["role"] == "lesion"}
    assert len(ill) >= 3
    for level, code in codes.items():
        assert change[bodies == code].any() == outline[bodies == code].any() == (level in ill)
