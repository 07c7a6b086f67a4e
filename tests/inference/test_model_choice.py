"""Where one of several models is taken unasked, one that found nothing is never taken over one that found some.

Guards against scores that nothing found is good for: a macro AUC is 0.5 where every vertebra has the prior.
"""

import json
import shutil

import numpy as np
import pytest
from inference.conftest import MODEL, write_validation

from spinecls import files
from spinecls.errors import ModelError
from spinecls.evaluation.intervals import draw_patients
from spinecls.evaluation.metrics import macro_auc
from spinecls.evaluation.selection import CHANCE, Candidate, preference, select
from spinecls.inference.best_configuration import BestRequest, find_best
from spinecls.inference.models import ModelChoice, choose_model

OTHER = MODEL.replace("AuxSeg", "Baseline")
DATASET = "Dataset001_Phantom"


def validated(model, auc, rate, fold="0"):
    """Say in a fold's summary how well it did; None = not defined."""
    path = model / f"fold_{fold}/validation/summary.json"
    content = files.read_json(path)
    content["classification"]["end_to_end"]["auc_macro"]["estimate"] = auc
    content["classification"]["identified"]["vertebrae"] = int(rate is None)
    content["location"]["identification_rate"]["estimate"] = rate
    path.write_text(json.dumps(content))


@pytest.fixture
def pair(results):
    """Function: say how well two models did; returns the name of the one that is chosen."""
    shutil.copytree(results / MODEL, results / OTHER)

    def chosen(first, second):
        validated(results / MODEL, *first)
        validated(results / OTHER, *second)
        return choose_model(ModelChoice(dataset=DATASET)).path.name

    return chosen


@pytest.mark.parametrize(
    ("nothing", "some"),
    [
        ((0.5, 0.0), (0.44, 0.2)),
        ((0.5, 0.0), (0.62, 0.2)),
        ((0.7, 0.0), (0.6, 0.1)),
        ((0.5, 0.0), (None, 0.2)),
        ((None, 0.0), (None, 0.2)),
        ((0.5, 0.0), (0.44, None)),
    ],
)
def test_a_model_that_found_nothing_is_not_taken_over_one_that_found_some(nothing, some, pair):
    assert pair(nothing, some) == OTHER
    assert pair(some, nothing) == MODEL


@pytest.mark.parametrize(
    ("better", "worse"),
    [((0.8, 0.3), (0.7, 0.9)), ((0.45, 0.9), (0.5, 0.3)), ((0.45, 0.9), (0.49, 0.3)), ((None, 0.9), (0.4, 0.3))],
    ids=["by the score", "at chance by what was found", "below chance by what was found", "without a score by it"],
)
def test_scores_up_to_chance_say_nothing_and_what_was_found_decides(better, worse, pair):
    assert pair(worse, better) == OTHER
    assert pair(better, worse) == MODEL


def test_more_folds_do_not_help_a_model_that_found_nothing(results, pair):
    shutil.copytree(results / MODEL / "fold_0", results / MODEL / "fold_1")
    validated(results / MODEL, 0.5, 0.0, "1")
    assert pair((0.5, 0.0), (0.4, 0.1)) == OTHER


def test_what_is_taken_is_said_with_what_it_found(pair, caplog):
    pair((0.5, 0.0), (0.44, 0.2))
    assert f"taking {DATASET}/{OTHER} (0.440, 20% identified, 1 fold)" in caplog.text
    assert f"Others: {DATASET}/{MODEL} (0.500, 0% identified, 1 fold)" in caplog.text


def test_models_of_which_none_was_validated_are_asked_for_by_name(results):
    shutil.copytree(results / MODEL, results / OTHER)
    for name in (MODEL, OTHER):
        (results / name / "fold_0/validation/summary.json").unlink()
    with pytest.raises(ModelError, match=r"none with a validation score.*Name one by -m, or by -d -c -tr"):
        choose_model(ModelChoice())


@pytest.mark.parametrize("ensembles", [False, True])
def test_the_best_configuration_is_not_a_model_that_found_nothing(ensembles, two_folds, capsys):
    other = two_folds.parent / OTHER
    shutil.copytree(two_folds, other)
    names = ("normal", "inflammatory", "structural")
    for number, fold in enumerate(("0", "1")):
        patients = range(24 * number, 24 * number + 24)
        # Worse than chance, and all of it found.
        write_validation(two_folds / f"fold_{fold}", names, patients, signal=-0.3, seed=number)
        path = other / f"fold_{fold}/validation/vertebrae.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        missed = [[*row[:4], "missed", *[""] * (len(row) - 5)] for row in rows[1:]]
        path.write_text("\n".join(",".join(row) for row in [rows[0], *missed]) + "\n")
    judged, _ = find_best(BestRequest(dataset=DATASET, ensembles=ensembles))
    assert (judged[0].models, judged[0].verdict) == ((MODEL,), "chosen")
    assert {j.models: j.verdict for j in judged}[(OTHER,)] == "found nothing"
    assert {j.models: j.score.estimate for j in judged}[(OTHER,)] == CHANCE > judged[0].score.estimate


def test_where_nothing_was_found_at_all_one_is_chosen():
    truth, patients = np.array([0, 1] * 6), tuple(str(i // 2) for i in range(12))
    even = macro_auc(truth, np.full((12, 2), 0.5))
    candidates = [Candidate((name,), patients, even, identified_share=0.0, chance=CHANCE) for name in ("a", "b")]
    assert select(candidates, draws=20)[0].models == ("a",)


def test_a_difference_that_hangs_on_one_patient_has_no_verdict():
    # Both vertebrae of the second class are of one patient of six.
    truth, patients = np.array([1, 1, 0, 0, 0, 0, 0]), ("a", "a", "b", "c", "d", "e", "f")
    good, bad = (np.column_stack([1 - p, p]) for p in (truth * 0.9, 0.9 - truth * 0.9))
    candidates = [Candidate((n,), patients, macro_auc(truth, p), chance=CHANCE) for n, p in (("g", good), ("b", bad))]
    found = select(candidates, draws=20)
    assert [j.verdict for j in found] == ["chosen", "no verdict (hangs on one patient)"]
    assert len(draw_patients(patients, 5).index) == 6


def test_preference_is_something_found_then_the_score_then_how_much_was_found():
    ascending = [
        preference(0.9, 0.0, CHANCE), preference(0.3, 0.1, CHANCE), preference(float("nan"), 0.2, CHANCE),
        preference(0.5, 0.3, CHANCE), preference(0.51, 0.1, CHANCE), preference(0.6, 0.1, CHANCE),
    ]  # fmt: skip
    assert ascending == sorted(ascending)


def test_of_several_models_those_with_the_folds_asked_for_are_chosen_among(results, pair):
    shutil.copytree(results / OTHER / "fold_0", results / OTHER / "fold_1")
    assert pair((0.9, 0.9), (0.6, 0.2)) == OTHER, "it has more folds"
    validated(results / MODEL, 0.9, 0.9)
    assert choose_model(ModelChoice(dataset=DATASET, folds=("1",))).path.name == OTHER
    assert choose_model(ModelChoice(dataset=DATASET, folds=("0",))).path.name == MODEL
