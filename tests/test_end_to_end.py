"""The three commands and the evaluation, as a user types them, on phantoms and on two real cases."""

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from support import SMALL, run_cli

pytestmark = pytest.mark.slow

COLUMNS = ["case", "vertebra", "x_mm", "y_mm", "z_mm", "class"]


def check_prediction_folder(folder, images, class_names):
    """Everything that a prediction folder must hold, for each image."""
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for image_path in images:
        case = image_path.name.removesuffix(".nii.gz").removesuffix("_0000")
        image = sitk.ReadImage(str(image_path))
        levels = sitk.ReadImage(str(folder / f"{case}.nii.gz"))
        evidence = sitk.ReadImage(str(folder / f"{case}_evidence.nii.gz"))
        for written in (levels, evidence):
            assert written.GetSize() == image.GetSize()
            assert written.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
            assert written.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-4)
            assert written.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-5)
        content = json.loads((folder / f"{case}.json").read_text())
        mine = [row for row in rows if row["case"] == case]
        assert [row["vertebra"] for row in mine] == [v["level"] for v in content["vertebrae"]]
        for vertebra in content["vertebrae"]:
            assert sum(vertebra["class_probabilities"].values()) == pytest.approx(1, abs=1e-4)
            assert "uncalibrated" in vertebra["flags"]
            assert set(vertebra["prediction_set"]) == set(class_names)
        if not mine:
            assert not np.any(sitk.GetArrayFromImage(evidence))
    assert list(rows[0])[:6] == COLUMNS if rows else True
    assert (folder / "failed.csv").exists()


def test_three_commands_on_phantoms(trained_phantom, tmp_path, monkeypatch, capfd):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"spinecls_{name}", str(trained_phantom / name))
    source = trained_phantom / "raw/Dataset001_Phantom/imagesTs"
    assert run_cli("predict", "-i", source, "-o", tmp_path / "out", "-device", "cpu") == 0
    check_prediction_folder(tmp_path / "out", sorted(source.iterdir()), ("normal", "inflammatory", "structural"))
    assert run_cli("evaluate", "-i", tmp_path / "out", "-gt", "1", "--split", "Ts", "--draws", "50") == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["cases"], summary["remarks"]) == (2, [])
    assert summary["location"]["identification_rate"]["estimate"] is not None
    before = (tmp_path / "out/predictions.csv").read_bytes()
    assert run_cli("predict", "-i", source, "-o", tmp_path / "out", "-device", "cpu", "--continue_prediction") == 0
    assert (tmp_path / "out/predictions.csv").read_bytes() == before
    training = trained_phantom / "raw/Dataset001_Phantom/imagesTr"
    assert run_cli("predict", "-i", training, "-o", tmp_path / "training", "-device", "cpu", "--disable_tta") == 0
    assert run_cli("evaluate", "-i", tmp_path / "training", "-gt", "1", "--draws", "5") == 0
    summary = json.loads((tmp_path / "training/summary.json").read_text())
    splits = json.loads((trained_phantom / "preprocessed/Dataset001_Phantom/splits_final.json").read_text())
    assert sorted(summary["cases_learned_from"]) == sorted(splits[0]["train"])
    assert (summary["cases"], summary["missed_cases"]) == (len(splits[0]["val"]), {})
    assert "Traceback" not in "".join(capfd.readouterr())


def test_three_commands_on_two_real_cases(real_data, roots):
    source = real_data / "Dataset001_LumbarSpA"
    dataset = roots / "raw" / source.name
    cases = ("VB3_01", "VB3_02")
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz"), ("structuresTr", ".nii.gz")):
        (dataset / part).mkdir(parents=True)
        for case in cases:
            shutil.copy(source / part / f"{case}{ending}", dataset / part)
    description = json.loads((source / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(description | {"numTraining": 2}))
    lines = (source / "vertebraeTr.csv").read_text().splitlines()
    (dataset / "vertebraeTr.csv").write_text("\n".join([lines[0], *(r for r in lines if r.startswith(cases))]) + "\n")

    settings = (
        "--set", "network.features=8,12,16,16", "patch_size=12,64,64", "reader_network.features=8,12,16",
        "sealed_size=20,32,32", "members=2",
    )  # fmt: skip
    assert run_cli("plan_and_preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1", "-device", "cpu", *settings) == 0
    steps = ("--set", "steps=25", "reader_steps=10")
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", *steps) == 0
    splits = json.loads((roots / "preprocessed" / source.name / "splits_final.json").read_text())
    assert len(splits) == 2
    unseen = splits[0]["val"][0]
    (roots / "in").mkdir()
    shutil.copy(dataset / "imagesTr" / f"{unseen}_0000.nii.gz", roots / "in")
    assert run_cli("predict", "-i", roots / "in", "-o", roots / "out", "-device", "cpu", "--disable_tta") == 0
    check_prediction_folder(roots / "out", sorted((roots / "in").iterdir()), description["classes"])
    assert run_cli("evaluate", "-i", roots / "out", "-gt", "1", "--draws", "20") == 0


def test_small_settings_fit_the_phantom(phantom):
    plan = json.loads((phantom / "preprocessed/Dataset001_Phantom/spineclsPlans.json").read_text())
    assert plan["configurations"]["3d_fullres"]["patch_size"] == [8, 48, 32]
    assert len(SMALL) == len(plan["overrides"]) + 1
