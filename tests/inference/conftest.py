"""Results of the trained phantom that a test may change, and hand-made validations."""

import csv
import shutil

import numpy as np
import pytest

MODEL = "AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture
def results(trained_phantom, tmp_path, monkeypatch):
    """A copy of the results with one model; the folder of its dataset."""
    shutil.copytree(trained_phantom / "results", tmp_path / "results")
    monkeypatch.setenv("spinecls_results", str(tmp_path / "results"))
    return tmp_path / "results/Dataset001_Phantom"


def write_validation(fold, names, patients, signal, seed=0):
    """vertebrae.csv of a fold as if each patient had four vertebrae whose probabilities know the class so well."""
    rng = np.random.default_rng([len(names), *map(int, patients)])
    truth = rng.integers(0, len(names), (len(patients), 4))
    noise = np.random.default_rng(seed).normal(size=(len(patients), 4, len(names)))
    logits = noise + signal * np.eye(len(names))[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    folder = fold / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "vertebrae.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "patient", "level", "class", "found", *(f"p_{name}" for name in names)])
        for i, patient in enumerate(patients):
            for j, level in enumerate(("L1", "L2", "L3", "L4")):
                writer.writerow([f"case{patient}", patient, level, names[truth[i, j]], "identified", *p[i, j]])
    return truth, p


@pytest.fixture
def two_folds(results):
    """The model with a second fold, a copy of the first, and a validation of 24 patients in each; its folder."""
    from spinecls.planning.plan import load_plan

    model = results / MODEL
    shutil.copytree(model / "fold_0", model / "fold_1")
    names = load_plan(model / "plan.json").class_names
    write_validation(model / "fold_0", names, range(24), signal=2.0)
    write_validation(model / "fold_1", names, range(24, 48), signal=2.0, seed=1)
    return model
