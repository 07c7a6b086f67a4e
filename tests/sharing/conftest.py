"""A model of two folds that was hardly trained and yet finds something, and its bundle."""

import shutil

import pytest
import torch
from bundles import members_of
from support import run_cli, set_roots

from spinecls.inference.locating import PEAK_THRESHOLD
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.inference.sliding_window import open_maps
from spinecls.io.images import read_image
from spinecls.planning.volume import preprocess_volume
from spinecls.sharing.export import export_model
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint

NAME = "Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
HEAT = "finder.heads.heatmap.bias"


@pytest.fixture(scope="session")
def phantom_results(phantom, tmp_path_factory):
    """Results folder with the model, for reading only."""
    results = tmp_path_factory.mktemp("sharing") / "results"
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, phantom, results)
        settings = ("--set", "steps=1", "task_weighting=fixed")
        assert run_cli("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", *settings) == 0
    folder = results / NAME
    path = folder / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"][HEAT] += missing_heat(folder, phantom)
    save_checkpoint(path, content)
    shutil.copytree(folder / "fold_0", folder / "fold_1")
    content["weights"]["readers.1.evidence.bias"] += 1
    save_checkpoint(folder / "fold_1/checkpoint_final.pt", content)
    return results


def missing_heat(folder, phantom):
    """What the warmest voxels of a test image lack to be taken for centres."""
    predictor = load_predictor(choose_model(ModelChoice(folder=folder)), torch.device("cpu"), augment=False)
    volume = read_image([sorted((phantom / "raw/Dataset001_Phantom/imagesTs").iterdir())[0]])
    used = predictor.configuration
    image = preprocess_volume(volume.array, volume.geometry, used).image
    maps = open_maps(predictor.models, image, used.patch_size, used.network.divisor, predictor.device, mirror=False)
    return torch.logit(torch.tensor(PEAK_THRESHOLD + 0.03)) - torch.logit(torch.tensor(maps["heatmap"].max()))


@pytest.fixture(scope="session")
def model(phantom_results):
    return choose_model(ModelChoice(folder=phantom_results / NAME))


@pytest.fixture(scope="session")
def bundle(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.spinecls"
    export_model(model, path)
    return path


@pytest.fixture(scope="session")
def members(bundle):
    return members_of(bundle)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A world whose results folder does not exist yet."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"spinecls_{name}", str(tmp_path / name))
    return tmp_path
