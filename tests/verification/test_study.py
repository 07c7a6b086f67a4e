"""Which vertebrae are examined, and what is known of them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation.matching import CaseTruth
from spinecls.inference.models import TrainedModel
from spinecls.verification import cohort
from spinecls.verification.study import Place, evenly, spread


def test_vertebrae_are_chosen_evenly_over_scans():
    chosen = evenly([5, 1, 4], 7, np.random.default_rng(0))
    counts = [sum(place.scan == scan for place in chosen) for scan in range(3)]
    assert counts == [3, 1, 3]
    assert len(set(chosen)) == 7


def test_all_vertebrae_are_chosen_where_there_are_few():
    assert evenly([2, 1], 50, np.random.default_rng(0)) == (Place(0, 0), Place(0, 1), Place(1, 0))


def test_the_same_seed_chooses_the_same():
    first, second = (evenly([9, 9], 4, np.random.default_rng(5)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("count", "limit", "kept"), [(10, 5, 5), (10, 4, 4), (3, 8, 3)])
def test_places_are_spread(count, limit, kept):
    places = [Place(n, 0) for n in range(count)]
    assert len(spread(places, limit)) == kept
    assert spread(places, limit)[0] == places[0]


def test_a_class_belongs_to_the_nearest_bone_within_ten_millimetres():
    centres_lps = {"L1": (0.0, 0.0, 30.0), "L2": (0.0, 0.0, 0.0)}
    truth = CaseTruth(identifier="case", patient="p", centres_lps=centres_lps, classes={"L1": 2, "L2": None})
    centres = np.array([[0.0, 6.0, 38.0], [0.0, 6.0, 37.0], [0.0, 0.0, 1.0], [0.0, 0.0, 15.0]])
    located = SimpleNamespace(centres_lps=centres, regions=(None,) * 4)
    # 10 mm, 9.2 mm, 1 mm from a vertebra that was not read, 15 mm from both
    assert cohort.classes_at(located, truth) == (2, 2, None, None)


def test_a_case_without_annotation_has_no_classes():
    located = SimpleNamespace(centres_lps=np.zeros((2, 3)), regions=(None, None))
    assert cohort.classes_at(located, CaseTruth(identifier="case", patient="p")) == (None, None)


def test_a_model_of_one_fold_is_examined_on_the_cases_it_did_not_learn_from(instrument, phantom_model, trained_phantom):
    cases = cohort.dataset_cohort(trained_phantom / "raw/Dataset001_Phantom", instrument.predictor.plan, phantom_model)
    validation = phantom_model.path / "fold_0/validation"
    assert cases.held_out
    assert {source.identifier for source in cases.sources} == {
        path.stem for path in validation.glob("*.json") if path.stem != "summary"
    }


def test_of_several_folds_every_case_is_taken_and_said_to_be_learned_from(instrument, phantom_model, trained_phantom):
    several = dataclasses.replace(phantom_model, folds=("0", "1"))
    cases = cohort.dataset_cohort(trained_phantom / "raw/Dataset001_Phantom", instrument.predictor.plan, several)
    assert len(cases.sources) == 8
    assert cases.held_out is False
    assert "learned from these cases" in cases.note


def test_a_dataset_of_other_classes_is_refused(instrument, phantom_model, trained_phantom):
    plan = dataclasses.replace(instrument.predictor.plan, class_names=("well", "ill"))
    with pytest.raises(UsageError, match="well, ill"):
        cohort.dataset_cohort(trained_phantom / "raw/Dataset001_Phantom", plan, phantom_model)


def test_cases_without_vertebrae_are_left_out_and_none_at_all_is_an_error(instrument, monkeypatch):
    sources = [cohort.Source(identifier="empty", patient="p", images=())]
    monkeypatch.setattr(cohort, "read_scan", lambda instrument, source: None)
    with pytest.raises(DatasetError, match="nothing to examine"):
        cohort.build_study(instrument, cohort.Cohort(sources=sources), 4, 2, 0)


def test_a_scan_knows_classes_and_lesions_of_its_dataset(study):
    assert any(known is not None for scan in study.scans for known in scan.truth)
    assert any(outline.any() for scan in study.scans for outline in scan.lesions.values())


def test_a_trained_model_without_validation_files_has_no_held_out_cases(tmp_path):
    model = TrainedModel(tmp_path, "Dataset001_A", "T", "P", "C", ("0",))
    assert cohort._held_out_cases(model) == set()
