"""A model of two folds that was hardly trained and yet finds something, and its bundle."""

import shutil

import pytest
from bundles import members_of
from support import run_cli

from spinecls.inference.models import ModelChoice, choose_model
from spinecls.sharing.export import export_model
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint

NAME = "Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
HEAT = "heads.heatmap.bias"


@pytest.fixture(scope="session")
def phantom_results(phantom, tmp_path_factory):
    """Results folder with the model, for reading only."""
    results = tmp_path_factory.mktemp("sharing") / "results"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed"):
            patch.setenv(f"spinecls_{name}", str(phantom / name))
        patch.setenv("spinecls_results", str(results))
        settings = ("--set", "steps=1", "task_weighting=fixed")
        assert run_cli("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", *settings) == 0
    shutil.copytree(results / NAME / "fold_0", results / NAME / "fold_1")
    for heat, path in enumerate(sorted(results.rglob("checkpoint_final.pt")), start=2):
        content = load_checkpoint(path)
        # Everything is warm enough to be a centre, so that there are vertebrae to compare.
        content["weights"][HEAT].fill_(heat)
        save_checkpoint(path, content)
    return results


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
