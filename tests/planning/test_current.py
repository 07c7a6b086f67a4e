"""Guards against going by what the raw data no longer say: training, planning and judging on stale truth."""

import csv
import os
import shutil
import stat

import pytest
import SimpleITK as sitk
from support import SMALL, run_cli, set_roots

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.io import voxel_checks
from spinecls.model_folder import FoldFolder
from spinecls.planning.current import changed_since_validation, require_current, require_current_folds
from spinecls.planning.plan import load_plan

DATASET = "Dataset001_Phantom"
PARTS = ("imagesTr", "labelsTr", "structuresTr")


@pytest.fixture
def own(phantom, tmp_path, monkeypatch):
    """Raw and preprocessed phantoms that the test may change."""
    for name in ("raw", "preprocessed"):
        shutil.copytree(phantom / name, tmp_path / name)
    set_roots(monkeypatch, tmp_path)
    return tmp_path / "raw" / DATASET


def plan_of(raw):
    return load_plan(raw.parents[1] / "preprocessed" / DATASET / "spineclsPlans.json")


def table(raw):
    with open(raw / "vertebraeTr.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def edit_rows(raw, change):
    rows = [change(dict(row)) for row in table(raw)]
    files.write_csv(raw / "vertebraeTr.csv", list(rows[0]), rows)


def describe(raw, **entries):
    files.write_json(raw / "dataset.json", files.read_json(raw / "dataset.json") | entries)


def paint(path, code):
    """Give a few voxels of an image or map another value."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    array[0, 0, :3] = code
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))


def every_class(raw):
    turned = {"normal": "structural", "structural": "normal"}
    edit_rows(raw, lambda row: {**row, "class": turned.get(row["class"], row["class"])})


def one_class(raw):
    row = next(row for row in table(raw) if row["case"] == "phantom_002" and row["class"] == "normal")
    edit_rows(raw, lambda other: {**other, "class": "structural"} if other == row else other)


def patient(raw):
    edit_rows(raw, lambda row: {**row, "patient": "somebody"} if row["case"] == "phantom_002" else row)


def image(raw):
    path = raw / "imagesTr/phantom_002_0000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 1.01, str(path))


def map_corrected(raw):
    paint(raw / "labelsTr/phantom_002.nii.gz", 255)


def structures_drawn(raw):
    paint(raw / "structuresTr/phantom_002.nii.gz", 2)


def form(raw):
    files.write_json(raw / "annotationsTr.json", {"phantom_002": {"vertebrae": {"form": "coarse", "tolerance_mm": 3}}})


def deleted(raw):
    for part in PARTS:
        for path in (raw / part).glob("phantom_002*"):
            path.unlink()
    rows = [row for row in table(raw) if row["case"] != "phantom_002"]
    files.write_csv(raw / "vertebraeTr.csv", list(rows[0]), rows)


def added(raw):
    for part in PARTS:
        for path in (raw / part).glob("phantom_003*"):
            shutil.copy(path, path.with_name(path.name.replace("003", "103")))
    copies = [{**row, "case": "phantom_103"} for row in table(raw) if row["case"] == "phantom_003"]
    rows = table(raw) + copies
    files.write_csv(raw / "vertebraeTr.csv", list(rows[0]), rows)


def classes_reordered(raw):
    describe(raw, classes={"inflammatory": 0, "normal": 1, "structural": 2})


def class_order(raw):
    describe(raw, class_order=True)


def structure_renamed(raw):
    describe(raw, structures={"disk": 1, "canal": 2, "inflammatory_lesion": 3, "structural_lesion": 4})


def lesions_of_another_class(raw):
    describe(raw, lesion_structures={"inflammatory_lesion": "structural", "structural_lesion": "inflammatory"})


def channel(raw):
    describe(raw, channel_names={"0": "STIR"})


def own_folds(raw):
    path = raw.parents[1] / "preprocessed" / DATASET / "splits_final.json"
    files.write_json(raw / "splits_final.json", files.read_json(path)[::-1])


CHANGES = {
    every_class: "changed: phantom_000, phantom_001",
    one_class: "  changed: phantom_002\n",
    patient: "  changed: phantom_002\n",
    image: "  changed: phantom_002\n",
    map_corrected: "  changed: phantom_002\n",
    structures_drawn: "  changed: phantom_002\n",
    form: "  changed: phantom_002\n",
    deleted: "  no longer there: phantom_002\n",
    added: "  new: phantom_103\n",
    classes_reordered: 'classes is now ["inflammatory", "normal", "structural"], planned was ["normal", "inflammatory"',
    class_order: "dataset.json: class_order is now true, planned was false",
    structure_renamed: 'dataset.json: structures is now {"disk": 1',
    lesions_of_another_class: "dataset.json: lesion_structures is now",
    channel: 'dataset.json: channel_names is now ["STIR"], planned was ["T2"]',
    own_folds: "splits_final.json: not the folds of ",
}


@pytest.mark.parametrize(("change", "said"), CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_what_changed_is_named_with_the_command_to_run(change, said, own):
    change(own)
    with pytest.raises(DatasetError) as refused:
        require_current("1", plan_of(own))
    text = str(refused.value)
    assert said in text
    assert f"Run spinecls_plan_and_preprocess -d {DATASET} again" in text
    assert refused.value.exit_code == 3


def touched(raw):
    for path in raw.rglob("*"):
        os.utime(path)


def written_anew(raw):
    edit_rows(raw, dict)
    describe(raw, reference="told otherwise")


def more_to_predict(raw):
    shutil.copytree(raw / "imagesTs", raw / "imagesTs_more")


@pytest.mark.parametrize("change", [touched, written_anew, more_to_predict], ids=lambda change: change.__name__)
def test_what_says_the_same_passes(change, own):
    change(own)
    require_current("1", plan_of(own))


def test_no_file_is_read_again_whose_size_and_time_are_the_same(own, monkeypatch):
    require_current("1", plan_of(own))
    # Older than the index of hashes, as after any while.
    for path in own.rglob("*.nii.gz"):
        os.utime(path, (1e9, 1e9))
    require_current("1", plan_of(own))
    monkeypatch.setattr("spinecls.files.content_hash", lambda *paths: pytest.fail(f"read again: {paths}"))
    monkeypatch.setattr(voxel_checks, "inspect_cases", lambda *rest: pytest.fail("judged again"))
    require_current("1", plan_of(own))


def test_a_fault_of_the_raw_data_is_told_as_such(own):
    edit_rows(own, lambda row: {**row, "class": "strctural"} if row["class"] == "structural" else row)
    with pytest.raises(DatasetError, match="E705"):
        require_current("1", plan_of(own))


def test_raw_data_that_are_elsewhere_are_said_to_be_so_and_not_missed(own, caplog):
    own.rename(own.with_name("moved"))
    with caplog.at_level("INFO"):
        require_current(DATASET, plan_of(own))
    said = "The raw data of Dataset001_Phantom are not here, so it is not checked whether they changed since."
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_dataset_given_by_its_path_is_compared_with_what_lies_there(own):
    elsewhere = own.parents[1] / "elsewhere" / DATASET
    shutil.copytree(own, elsewhere)
    one_class(elsewhere)
    require_current("1", plan_of(own))
    with pytest.raises(DatasetError, match="changed: phantom_002"):
        require_current(str(elsewhere), plan_of(own))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write anywhere")
def test_a_preprocessed_folder_that_cannot_be_written_to_is_only_read(own):
    folder = own.parents[1] / "preprocessed" / DATASET
    touched(own)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        require_current("1", plan_of(own))
    finally:
        folder.chmod(stat.S_IRWXU)


def test_nothing_is_written_where_the_folder_is_read_only(own, monkeypatch):
    touched(own)
    monkeypatch.setattr("spinecls.planning.current.os.access", lambda path, mode: False)
    monkeypatch.setattr("spinecls.files.write_json", lambda path, content: pytest.fail(f"{path} was written"))
    require_current("1", plan_of(own))


WORDS = {
    "train": ("train", "1", "3d_fullres", "0", "-device", "cpu"),
    "train --c": ("train", "1", "3d_fullres", "0", "-device", "cpu", "--c"),
    "train --val": ("train", "1", "3d_fullres", "0", "-device", "cpu", "--val"),
    "compare": ("compare", "1", "-c", "3d_fullres", "-tr", "BaselineTrainer", "AuxSegTrainer", "-device", "cpu"),
    "plan_experiment": ("plan_experiment", "-d", "1", "-device", "cpu"),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_commands_that_read_what_was_made_before_refuse_what_changed_since(words, own, capfd):
    one_class(own)
    assert run_cli(*words) == 3
    said = capfd.readouterr().err
    assert "phantom_002\n" in said
    assert "again, with the options of the first time" in said


def test_preprocessing_by_a_plan_for_other_classes_is_refused(own, capfd):
    classes_reordered(own)
    assert run_cli("preprocess", "-d", "1", "-np", "1") == 3
    assert "planned was" in capfd.readouterr().err


def test_after_the_command_that_is_named_all_is_well(own):
    one_class(own)
    words = ("-d", "1", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--set", *SMALL[1:])
    assert run_cli("preprocess", *words[:6]) == 0
    # The images are preprocessed anew, but what they are compared with is not measured anew.
    with pytest.raises(DatasetError, match="changed since it was measured: phantom_002"):
        require_current("1", plan_of(own))
    assert run_cli("plan_and_preprocess", *words) == 0
    require_current("1", plan_of(own))


def test_folds_are_not_judged_by_a_truth_that_changed_since(own, tmp_path):
    fold = FoldFolder(tmp_path / "fold_0")
    native = own.parents[1] / "preprocessed" / DATASET / "native"
    present = {name: files.read_json(native / f"{name}.json")["inputs"] for name in ("phantom_001", "phantom_002")}
    files.write_json(fold.summary, {"inputs": present})
    require_current_folds(DATASET, "spineclsPlans", [fold])
    files.write_json(fold.summary, {"inputs": present | {"phantom_002": "another table"}})
    assert changed_since_validation(DATASET, fold) == ["phantom_002"]
    with pytest.raises(DatasetError, match=r"fold_0: validated before these cases changed: phantom_002\."):
        require_current_folds(DATASET, "spineclsPlans", [fold])


def test_a_validation_that_noted_nothing_is_taken_as_it_is(own, tmp_path):
    folds = [FoldFolder(tmp_path / name) for name in ("fold_0", "fold_1")]
    files.write_json(folds[0].summary, {"cases": 2})
    assert [changed_since_validation(DATASET, fold) for fold in folds] == [[], []]
