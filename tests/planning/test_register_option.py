"""`--register` from the command line to the stored cases and to prediction."""

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_datasets import CPU
from support import SMALL, run_cli

from spinecls import files
from spinecls.inference import predict_folder
from spinecls.planning.stages import MACHINE
from spinecls.testing.phantom import PhantomOptions, write_dataset

MOVED_MM = (0.0, 6.0, -8.0)
ARGUMENTS = ("-d", "2", "-c", "3d_fullres", "-np", "1", "-device", "cpu")


@pytest.fixture
def dataset(roots):
    """Two-channel phantoms; the second channel of phantom_001 was scanned after the patient moved."""
    folder = write_dataset(
        roots / "raw" / "Dataset002_Moved", 3, seed=5, options=PhantomOptions(channels=("T2", "T1"), shape=(24, 96, 72))
    )
    path = folder / "imagesTr" / "phantom_001_0001.nii.gz"
    image = sitk.ReadImage(str(path))
    shift = sitk.TranslationTransform(3, MOVED_MM).GetInverse()
    sitk.WriteImage(sitk.Resample(image, image, shift, sitk.sitkLinear, 0.0), str(path))
    preprocessed = roots / "preprocessed" / "Dataset002_Moved"
    # As if measured before, which saves seconds.
    asked = {"device": "cpu", "cores": os.cpu_count()}
    files.write_json(preprocessed / MACHINE, {"asked": asked, "profile": dataclasses.asdict(CPU)})
    return preprocessed


def record(dataset, case, part="native"):
    return files.read_json(dataset / part / f"{case}.json")


def arrays(dataset):
    return {path.name: path.read_bytes() for path in sorted((dataset / "native").glob("*.b2nd"))}


def test_the_motion_of_each_further_channel_is_recorded(dataset):
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "--register", "--set", *SMALL[1:]) == 0
    (moved,) = record(dataset, "phantom_001")["registration"]
    assert moved["translation_mm"] == pytest.approx(MOVED_MM, abs=0.7)
    assert np.abs(moved["rotation_degrees"]).max() < 0.7
    (still,) = record(dataset, "phantom_000")["registration"]
    assert np.linalg.norm(still["translation_mm"]) < 0.3


def test_without_the_option_nothing_is_aligned(dataset):
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "--set", *SMALL[1:]) == 0
    assert record(dataset, "phantom_001")["registration"] == []
    assert files.read_json(dataset / "spineclsPlans.json")["register_channels"] is False


def test_preprocess_with_the_option_redoes_the_cases_and_tells_the_plan(dataset):
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "--set", *SMALL[1:]) == 0
    before = arrays(dataset)
    assert run_cli("preprocess", *ARGUMENTS[:-2], "--register") == 0
    after = arrays(dataset)
    assert files.read_json(dataset / "spineclsPlans.json")["register_channels"] is True
    assert after.keys() == before.keys()
    assert after["phantom_001.b2nd"] != before["phantom_001.b2nd"]
    # Without the option the plan decides, so nothing changes back.
    assert run_cli("preprocess", *ARGUMENTS[:-2]) == 0
    assert arrays(dataset) == after


def test_planning_without_the_option_takes_it_back(dataset):
    setting = ("--set", *SMALL[1:])
    assert run_cli("plan_and_preprocess", *ARGUMENTS, *setting) == 0
    before = arrays(dataset)
    assert run_cli("preprocess", *ARGUMENTS[:-2], "--register") == 0
    assert run_cli("plan_and_preprocess", *ARGUMENTS, *setting) == 0
    assert arrays(dataset) == before


def test_a_dataset_of_one_channel_is_not_redone_for_the_option(phantom, tmp_path, monkeypatch, capsys):
    for name in ("raw", "results"):
        monkeypatch.setenv(f"spinecls_{name}", str(phantom / name))
    monkeypatch.setenv("spinecls_preprocessed", str(tmp_path))
    words = ("plan_and_preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--set", *SMALL[1:])
    assert run_cli(*words) == 0
    assert run_cli(*words, "--register") == 0
    assert "0 cases done, 8 unchanged" in capsys.readouterr().out


@pytest.mark.parametrize("asked", [True, False])
def test_prediction_aligns_the_channels_when_the_plan_says_so(tmp_path, monkeypatch, asked):
    class Stop(Exception):
        """Ends the prediction once the image is asked for."""

    def read_image(paths, register):
        raise Stop(register)

    predictor = SimpleNamespace(plan=SimpleNamespace(register_channels=asked), evidence_names=())
    monkeypatch.setattr(predict_folder, "read_image", read_image)
    case = predict_folder.InputCase("c", (tmp_path / "c.nii.gz",))
    with pytest.raises(Stop) as stopped:
        predict_folder._predict_case(predictor, case, tmp_path, {}, predict_folder.FolderOptions())
    assert stopped.value.args == (asked,)
