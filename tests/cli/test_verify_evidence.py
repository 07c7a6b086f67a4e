"""spinecls_verify_evidence, from the command line."""

import json

import pytest
from support import run_cli

MODEL = "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
SHORT = ("--vertebrae", "3", "--donors", "2", "--no_attribution", "-device", "cpu")


@pytest.fixture
def model(trained_phantom):
    return trained_phantom / MODEL


@pytest.fixture
def images(trained_phantom):
    return trained_phantom / "raw/Dataset001_Phantom/imagesTr"


def test_a_sealed_model_leaves_with_zero_and_a_verdict(model, images, tmp_path, capfd):
    assert run_cli("verify_evidence", "-m", model, "-i", images, "-o", tmp_path, *SHORT) == 0
    assert "Sealed (S2)" in capfd.readouterr().out
    content = json.loads((tmp_path / "verification.json").read_text())
    assert content["guarantee_broken"] is False
    assert content["vertebrae_examined"] == 3
    assert (tmp_path / "verification.csv").exists()


def test_a_leak_leaves_with_seven(model, images, tmp_path, monkeypatch, capfd):
    from spinecls.sealing import crop

    monkeypatch.setattr(
        crop, "seal", lambda image, region, marrow: crop.normalised(image[(slice(None), *region.slices)], marrow)
    )
    # Where the crop's voxels are larger than the image's, smoothing alone would keep the outside away.
    monkeypatch.setattr(crop, "smooth_inside", lambda sealed, mask, sigma_voxels: sealed)
    assert run_cli("verify_evidence", "-m", model, "-i", images, "-o", tmp_path, *SHORT) == 7
    shown = capfd.readouterr()
    assert "BROKEN" in shown.out
    assert "does not come from its own voxels alone" in shown.err
    assert json.loads((tmp_path / "verification.json").read_text())["guarantee_broken"] is True


def test_json_on_screen_is_the_file(model, trained_phantom, tmp_path, capfd):
    dataset = trained_phantom / "raw/Dataset001_Phantom"
    assert run_cli("verify_evidence", "-m", model, "-d", dataset, "-o", tmp_path, "--json", *SHORT) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown == json.loads((tmp_path / "verification.json").read_text())
    assert shown["note"] == "The model did not learn from these cases."


@pytest.mark.parametrize("given", [(), ("-i", "here", "-d", "1")], ids=["neither", "both"])
def test_either_images_or_a_dataset_are_needed(model, given):
    assert run_cli("verify_evidence", "-m", model, *given) == 2


def test_a_folder_that_is_no_model_is_bad_input(tmp_path, images):
    assert run_cli("verify_evidence", "-m", tmp_path, "-i", images) == 3
