"""Vertebrae are found without a trained model: by the finder that comes with spinecls."""

import shutil
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import NAME
from safetensors.torch import load
from support import run_cli

from spinecls import files
from spinecls.errors import ModelError
from spinecls.inference.models import load_predictor
from spinecls.sharing import shipped
from spinecls.sharing.shipped import BUNDLE, shipped_finder
from spinecls.testing.phantom_case import make_case
from spinecls.testing.phantom_options import PhantomOptions


@pytest.fixture
def scans(phantom, empty):
    folder = empty / "in"
    folder.mkdir()
    shutil.copy(sorted((phantom / "raw/Dataset001_Phantom/imagesTs").iterdir())[0], folder)
    return folder


def predict(scans, *words):
    return run_cli("predict", "-i", scans, "-o", scans.parent / "out", "-device", "cpu", "--disable_tta", *words)


def model_of(scans):
    return files.read_json(scans.parent / "out/model.json")["dataset"]


def test_it_is_taken_and_named_where_no_model_is_trained(scans, capsys):
    assert predict(scans) == 0
    told = capsys.readouterr().out
    assert "No model is trained in" in told
    assert "It locates, names and outlines lumbar vertebrae; it tells no classes." in told
    assert model_of(scans) == "Dataset002_LumbarMRI"


def test_it_is_not_taken_unasked_where_a_model_is_trained(scans, phantom_results):
    shutil.copytree(phantom_results / NAME, scans.parent / "results" / NAME)
    assert predict(scans) == 0
    assert model_of(scans) == "Dataset001_Phantom"


def test_it_is_taken_by_name_whatever_is_trained(scans, phantom_results):
    shutil.copytree(phantom_results / NAME, scans.parent / "results" / NAME)
    assert predict(scans, "-m", "finder") == 0
    assert model_of(scans) == "Dataset002_LumbarMRI"


def test_a_folder_of_that_name_goes_before(scans, capsys):
    (scans.parent / "home/finder").mkdir()
    assert predict(scans, "-m", "finder") == 3
    assert "finder: not a model folder" in " ".join(capsys.readouterr().err.split())


def test_it_leaves_nothing_in_the_results(scans):
    assert predict(scans) == 0
    assert not (scans.parent / "results").exists()


@pytest.mark.parametrize(("words", "told"), [(("-f", "0"), "has no folds"), (("--prevalence", "a=1"), "no prevalence")])
def test_what_it_does_not_have_is_refused(scans, capsys, words, told):
    assert predict(scans, "-m", "finder", *words) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_an_asked_for_model_that_is_not_there_is_not_replaced_by_it(scans, capsys):
    assert predict(scans, "-tr", "AuxSegTrainer") == 3
    assert "No trained model fits" in " ".join(capsys.readouterr().err.split())


def test_an_installation_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "BUNDLE", tmp_path / "finder.spinecls")
    with pytest.raises(ModelError, match="Install spinecls again"), shipped_finder():
        pass


def test_it_is_small_and_its_weights_are_in_half_precision():
    assert BUNDLE.stat().st_size <= 8e6
    with zipfile.ZipFile(BUNDLE) as archive:
        weights = load(archive.read("fold_all/model.safetensors"))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_it_tells_no_classes():
    with shipped_finder() as model:
        predictor = load_predictor(model, torch.device("cpu"), augment=False)
    assert predictor.plan.class_names == ()
    assert predictor.segments


@pytest.mark.slow
def test_it_names_real_scans(empty, real_data):
    """It learned from these very scans, so this shows that it works here, not how well it does elsewhere."""
    raw = real_data / "Dataset002_LumbarMRI"
    scans = empty / "in"
    scans.mkdir()
    for case in ("VB1_03", "VB2_02", "VB3_01"):
        (image,) = (raw / "imagesTr").glob(f"{case}_0000.*")
        shutil.copy(image, scans)
    assert predict(scans) == 0
    rows = files.read_csv(empty / "out/predictions.csv")
    for case in ("VB1_03", "VB2_02", "VB3_01"):
        found = {row["vertebra"] for row in rows if row["case"] == case}
        assert {"L1", "L2", "L3", "L4", "L5"} <= found


@pytest.fixture(scope="module")
def finder():
    with shipped_finder() as model:
        return load_predictor(model, torch.device("cpu"), augment=False)


def certain(prediction):
    """Whether anything is named without a word of doubt."""
    doubts = {"numbering_ambiguous", "unfamiliar_image"}
    return any(not doubts & set(vertebra.flags) for vertebra in prediction.vertebrae)


def test_it_names_nothing_with_certainty_in_noise(finder):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 30, (17, 300, 200)).astype(np.float32))
    image.SetSpacing((1.0, 1.0, 4.0))
    assert not certain(finder.predict_image(image))


@pytest.mark.parametrize("field", ["cervical", "thoracic"])
def test_it_names_nothing_with_certainty_in_a_phantom_of_another_part(finder, field):
    case = make_case(np.random.default_rng(3), PhantomOptions(fields=(field,)))
    assert not certain(finder.predict_array(case.image, case.geometry))
