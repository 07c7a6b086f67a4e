"""Guards against defects that pass for hard cases in validation and placement, and against failures without a word."""

from types import SimpleNamespace

import pytest
from support import run_cli

from spinecls import files
from spinecls.errors import DatasetError, DefectiveCases, PartialFailure
from spinecls.inference.predictor import Predictor
from spinecls.model_folder import FoldFolder
from spinecls.planning.plan import load_plan
from spinecls.trainers import placement, validation
from spinecls.trainers.fold import Fold
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.request import TrainingRequest

CASES = ["phantom_000", "phantom_001"]
OWN = (DatasetError("83 detections in one column"), MemoryError(), RuntimeError("CUDA out of memory"))
DEFECTS = (KeyError("level"), ValueError("shapes differ"), RuntimeError("size mismatch"), IndexError("7"), TypeError())


@pytest.fixture
def validated(phantom, tmp_path, monkeypatch):
    """Validation of two cases of which the given ones raise what is given."""
    preprocessed = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(preprocessed / "spineclsPlans.json")
    request = TrainingRequest("1", "3d_fullres", "0")
    trainer = find_trainer(request.trainer)
    train, _ = fold_cases(preprocessed, "0")
    fold = Fold(request, trainer, preprocessed, FoldFolder(tmp_path), None, train, CASES, plan)
    monkeypatch.setattr(validation, "build_model", lambda content, path: None)
    monkeypatch.setattr(validation, "short_hash", lambda content, path: "0")

    def run(errors):
        left = iter(errors)

        def predict_volume(*arguments):
            raise next(left)

        stub = SimpleNamespace(predict_volume=predict_volume, augment=True, plan=plan)
        monkeypatch.setattr(validation, "Predictor", lambda *rest: stub)
        return validation.validate(fold, {})

    return run


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__ + str(error)[:5])
def test_a_hard_case_is_told_after_everything_is_written(error, validated, tmp_path):
    with pytest.raises(PartialFailure, match="2 of 2 cases failed") as told:
        validated([error, error])
    assert told.value.exit_code == 5
    assert {row["case"] for row in files.read_csv(tmp_path / "validation/failed.csv")} == set(CASES)
    assert files.read_json(tmp_path / "validation/summary.json")["cases"] == 2
    assert not list((tmp_path / "validation").glob("*.log"))


@pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
def test_a_defect_is_told_as_one_with_its_traceback_and_the_other_case_goes_on(error, validated, tmp_path):
    with pytest.raises(DefectiveCases, match="1 of them by a defect of spinecls") as told:
        validated([error, DatasetError("nothing there")])
    assert told.value.exit_code == 1
    log = (tmp_path / "validation" / "phantom_000.log").read_text()
    assert "Traceback" in log
    assert "predict_volume" in log
    reasons = {row["case"]: row["reason"] for row in files.read_csv(tmp_path / "validation/failed.csv")}
    assert reasons["phantom_000"].startswith("a defect of spinecls")
    assert reasons["phantom_001"] == "nothing there"


def places_of(errors, monkeypatch, tmp_path):
    left = iter(errors)

    def locate(*arguments):
        raise next(left)

    monkeypatch.setattr(placement, "Predictor", lambda *rest, **options: SimpleNamespace(locate=locate))
    model = SimpleNamespace(training=True, train=lambda mode: None)
    case = SimpleNamespace(native=SimpleNamespace(astype=lambda kind: None), native_geometry=None)
    cases = [SimpleNamespace(identifier=name, **vars(case)) for name in CASES]
    return placement.predict_places(model, None, None, cases, None, tmp_path)


@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__ + str(error)[:5])
def test_a_scan_that_cannot_be_looked_through_is_left_out_with_a_warning(error, monkeypatch, tmp_path, caplog):
    assert places_of([error, error], monkeypatch, tmp_path) == {}
    assert caplog.text.count("no vertebra could be placed") == 2


@pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
def test_a_placement_that_fails_everywhere_by_a_defect_ends_the_training(error, monkeypatch, tmp_path):
    with pytest.raises(DefectiveCases, match="by a defect of spinecls"):
        places_of([error, error], monkeypatch, tmp_path)
    assert "Traceback" in (tmp_path / "phantom_000.log").read_text()


@pytest.mark.parametrize(("error", "code"), [(DatasetError("nothing there"), 5), (KeyError("level"), 1)])
def test_a_training_whose_validation_fails_does_not_end_as_if_all_were_well(
    error, code, phantom_roots, tmp_path, monkeypatch, capfd
):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(Predictor, "predict_volume", fails)
    words = ("train", "1", "3d_fullres", "0", "1", "-device", "cpu", "--set", "steps=1")
    assert run_cli(*words) == code
    told = capfd.readouterr().err
    assert told.count("1 of 1 case failed (see ") == 2
    assert "2 folds trained, but not all cases could be validated; see above." in told
    model = tmp_path / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    # Both folds are there, the second too, though the first could not be validated.
    assert all((model / fold / "checkpoint_final.pt").exists() for fold in ("fold_0", "fold_1"))
