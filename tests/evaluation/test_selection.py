"""Choosing among models: what cannot be told apart is not called better."""

import numpy as np
import pytest

from spinecls.errors import DatasetError
from spinecls.evaluation.selection import Candidate, classification_candidate, select
from spinecls.evaluation.vertebra_table import ReadVertebrae, joined

PATIENTS = tuple(f"p{i // 4}" for i in range(160))
TRUTH = np.random.default_rng(0).integers(0, 2, 160)
NAMES = tuple((p, str(i)) for i, p in enumerate(PATIENTS))


def table(signal, seed=0, found=None):
    p = 1 / (1 + np.exp(-signal * (2 * TRUTH - 1) - np.random.default_rng(seed).normal(size=160)))
    return ReadVertebrae(
        NAMES, PATIENTS, TRUTH, np.column_stack([1 - p, p]), np.ones(160, bool) if found is None else found
    )


def single(name, made):
    return classification_candidate([name], [made])


def test_the_clearly_best_is_chosen_and_the_others_are_worse():
    judged = select([single("weak", table(0.2)), single("strong", table(2.0))])
    assert [j.models for j in judged] == [("strong",), ("weak",)]
    assert [j.verdict for j in judged] == ["chosen", "worse"]
    assert judged[1].gain.estimate == pytest.approx(judged[1].score.estimate - judged[0].score.estimate)


def test_a_pair_that_is_not_shown_to_be_better_is_not_chosen():
    one, two = table(1.5, seed=1), table(1.5, seed=1)
    judged = select([single("one", one), classification_candidate(["one", "two"], [one, two])])
    assert judged[0].models == ("one",)
    assert judged[1].verdict == "no difference shown"


def test_a_pair_that_is_shown_to_be_better_is_chosen():
    tables = [table(0.8, seed=s) for s in range(2)]
    pair = classification_candidate(["one", "two"], tables)
    judged = select([single("one", tables[0]), single("two", tables[1]), pair])
    assert judged[0].models == ("one", "two")
    assert {j.verdict for j in judged[1:]} == {"worse"}


def test_of_models_that_cannot_be_told_apart_the_one_with_the_best_score_is_chosen():
    judged = select([single("a", table(1.5, seed=1)), single("b", table(1.6, seed=1))])
    assert judged[0].score.estimate >= judged[1].score.estimate


def test_a_vertebra_that_one_model_missed_has_the_probabilities_of_the_other():
    found = np.arange(160) % 2 == 0
    missing, whole = table(1.0, 1, found), table(1.0, 2)
    pair = classification_candidate(["m", "w"], [missing, whole])
    expected = np.where(found, (missing.probabilities[:, 1] + whole.probabilities[:, 1]) / 2, whole.probabilities[:, 1])
    positive = expected[TRUTH == 1][:, None]
    other = expected[TRUTH == 0][None]
    by_hand = (positive > other).mean()
    assert pair.score(np.ones((1, 160)))[0] == pytest.approx(by_hand)


def test_models_of_other_vertebrae_are_not_compared():
    made = table(1.0)
    other = ReadVertebrae(
        made.names[1:], made.patients[1:], made.truth[1:], made.probabilities[1:], made.identified[1:]
    )
    with pytest.raises(DatasetError, match="b was tested on 159 vertebrae, a on 160"):
        classification_candidate(["a", "b"], [made, other])


def test_nothing_to_choose_from_is_an_error():
    with pytest.raises(DatasetError, match="nothing to choose"):
        select([])


def test_candidates_without_a_score_are_an_error():
    never = Candidate(("a",), ("p", "q"), lambda weights: np.full(len(weights), np.nan))
    with pytest.raises(DatasetError, match="None of 1 candidates that may be chosen has a score"):
        select([never])


def test_folds_are_joined_by_name_whatever_their_order():
    made = table(1.0)

    def part(rows):
        rows = list(rows)
        return ReadVertebrae(
            tuple(made.names[i] for i in rows),
            tuple(made.patients[i] for i in rows),
            made.truth[rows],
            made.probabilities[rows],
            made.identified[rows],
        )

    first, second = joined([part(range(80)), part(range(80, 160))]), joined([part(range(159, 79, -1)), part(range(80))])
    assert first.names == second.names
    assert np.array_equal(first.probabilities, second.probabilities)
