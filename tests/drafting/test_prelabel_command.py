"""The loop of a user: classes alone, drafts, corrections, training, and drafts again."""

import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import SimpleITK as sitk
from support import SMALL, run_cli, set_roots

from spinecls import files
from spinecls.anatomy import LEVEL_CODES
from spinecls.drafting.drafts import FORMS, TABLE
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_label_map
from spinecls.io.preprocessed_records import read_native

NAME = "Dataset002_Bare"
PLANNING = ("plan_and_preprocess", "-d", "2", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--set", *SMALL[1:])


@pytest.fixture
def bare(phantom, tmp_path, monkeypatch):
    """Four phantoms with classes and no place of any vertebra; the folder of the dataset."""
    set_roots(monkeypatch, tmp_path)
    source, target = phantom / "raw/Dataset001_Phantom", tmp_path / "raw" / NAME
    others = shutil.ignore_patterns(*(f"*00{number}_*" for number in "4567"))
    shutil.copytree(source / "imagesTr", target / "imagesTr", ignore=others)
    content = files.read_json(source / "dataset.json")
    kept = ("channel_names", "classes", "file_ending")
    files.write_json(target / "dataset.json", {key: content[key] for key in kept})
    rows = [row for row in files.read_csv(source / "vertebraeTr.csv") if row["case"] < "phantom_004"]
    columns = [name for name in rows[0] if not name.endswith("_mm")]
    files.write_csv(target / "vertebraeTr.csv", columns, [{name: row[name] for name in columns} for row in rows])
    return target


def truth(phantom, case):
    return next((phantom / "raw/Dataset001_Phantom/labelsTr").glob(f"{case}.*"))


class Knowing:
    """Stands for a model that draws the truth, and is sure of the names of some cases."""

    plan = SimpleNamespace(register_channels=False, channel_names=("MRI",))
    level_codes = LEVEL_CODES

    def __init__(self, phantom, case, sure):
        self.phantom, self.case, self.sure = phantom, case, sure

    def image_warnings(self, image, geometry):
        return ()

    def predict_volume(self, image, geometry, unlike):
        drawn, _ = read_label_map(truth(self.phantom, self.case))
        drawn[drawn == 255] = 0
        probability = 0.99 if self.sure else 0.5
        present = [level for level, code in LEVEL_CODES.items() if (drawn == code).any()]
        vertebrae = [SimpleNamespace(level=level, level_probability=probability, flags=()) for level in present]
        return SimpleNamespace(level_map=drawn, vertebrae=vertebrae)


@pytest.fixture
def knowing(phantom, monkeypatch):
    """Lets a model that knows the truth draw, surely but for one case; lists the cases that it was asked for."""
    asked = []

    @contextmanager
    def predictors(dataset, folder, device):
        def of(case):
            asked.append(case)
            return Knowing(phantom, case, case != "phantom_002")

        yield of

    monkeypatch.setattr("spinecls.drafting.predictors.predictors", predictors)
    return asked


def forms(bare):
    return {case: entry["vertebrae"] for case, entry in files.read_json(bare / FORMS).items()}


def test_planning_drafts_a_dataset_without_places_and_goes_on(bare, knowing, capsys):
    assert run_cli(*PLANNING) == 0
    told = capsys.readouterr().out
    assert "the finder that comes with spinecls makes the start" in told
    assert "4 cases drafted, 3 of them sure" in told
    native = bare.parents[1] / "preprocessed" / NAME
    assert read_native(native, "phantom_000").annotation_form.vertebrae.form == "draft"
    assert any(vertebra.centre_lps for vertebra in read_native(native, "phantom_000").vertebrae)
    assert not any(vertebra.centre_lps for vertebra in read_native(native, "phantom_002").vertebrae)


def test_planning_drafts_once(bare, knowing):
    assert run_cli(*PLANNING) == 0
    assert set(knowing) == {f"phantom_00{number}" for number in range(4)}
    knowing.clear()
    assert run_cli(*PLANNING) == 0
    assert not knowing


def test_a_dry_run_draws_nothing(bare, knowing, capsys):
    words = (*PLANNING[: PLANNING.index("--set")], "--dry_run")
    assert run_cli(*words) == 3
    assert "Run spinecls_prelabel" in " ".join(capsys.readouterr().err.split())
    assert not knowing
    assert not (bare / "labelsTr").exists()


def test_the_table_begins_with_what_to_look_at_first(bare, knowing):
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    rows = files.read_csv(bare / TABLE)
    assert [row["case"] for row in rows] == ["phantom_002", "phantom_000", "phantom_001", "phantom_003"]
    assert [row["sure"] for row in rows] == ["no", "yes", "yes", "yes"]
    assert forms(bare)["phantom_002"] == {"form": "draft", "sure": False}


def test_a_correction_counts_as_exact_and_is_not_drawn_over(bare, knowing, phantom, tmp_path):
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    back = tmp_path / "back"
    back.mkdir()
    shutil.copy(truth(phantom, "phantom_002"), back)
    assert run_cli("prelabel", "2", "--apply", back) == 0
    assert "phantom_002" not in forms(bare)
    knowing.clear()
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    assert "phantom_002" not in knowing
    assert "phantom_002" not in forms(bare)


def test_a_draft_that_somebody_changed_is_left_as_it_is_and_said(bare, knowing, caplog):
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    path = bare / "labelsTr" / "phantom_001.nii.gz"
    image = sitk.ReadImage(str(path))
    level = int(sitk.GetArrayViewFromImage(image).max())
    sitk.WriteImage(image * sitk.Cast(image != level, image.GetPixelID()), str(path))
    changed = files.content_hash(path)
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    assert files.content_hash(path) == changed
    assert "phantom_001: changed since they were drafted" in caplog.text
    assert run_cli("prelabel", "2", "-device", "cpu") == 0
    assert files.content_hash(path) == changed


def test_where_every_case_is_placed_there_is_nothing_to_draft(phantom, tmp_path, monkeypatch, capsys):
    set_roots(monkeypatch, phantom, results=tmp_path / "results")
    assert run_cli("prelabel", "1") == 2
    assert "nothing to draft" in " ".join(capsys.readouterr().err.split())


def test_a_channel_that_is_not_there_is_refused(bare, knowing, capsys):
    assert run_cli("prelabel", "2", "-device", "cpu", "--channel", "T9") == 2
    assert "--channel T9: the dataset has T2" in " ".join(capsys.readouterr().err.split())
    assert not (bare / "labelsTr").exists()


@pytest.mark.slow
def test_the_loop_of_drafts_corrections_and_training_runs(bare, trained_phantom, phantom, tmp_path):
    """With a model that was trained on other scans; two corrections are enough for the next."""
    model = "results/{}/AuxSegTrainer__spineclsPlans__3d_fullres"
    first = trained_phantom / model.format("Dataset001_Phantom")
    assert run_cli("prelabel", "2", "-m", first, "-device", "cpu") == 0
    order = [row["case"] for row in files.read_csv(bare / TABLE)]
    assert sorted(order) == [f"phantom_00{n}" for n in range(4)]
    back = tmp_path / "back"
    back.mkdir()
    for case in order[:2]:
        shutil.copy(truth(phantom, case), back)
    assert run_cli("prelabel", "2", "--apply", back) == 0
    assert {case.identifier for case in load_dataset(bare).cases if case.vertebra_maps} >= set(order[:2])
    assert run_cli(*PLANNING) == 0
    training = ("train", "2", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu")
    assert run_cli(*training, "--set", "steps=3", "reader_steps=3", "members=1") == 0
    assert run_cli("prelabel", "2", "-m", tmp_path / model.format(NAME), "-device", "cpu") == 0
    assert set(forms(bare)) == set(order[2:])
