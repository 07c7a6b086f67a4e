import itertools

import numpy as np
import pytest

from spinecls.errors import DatasetError
from spinecls.evaluation import matching
from spinecls.evaluation.matching import CaseTruth, DetectionCounts

# Pitch 40 mm: half the pitch is 20 mm at every level.
TRUE = {"L1": (0, 0, 80), "L2": (0, 0, 40), "L3": (0, 0, 0)}


def test_centre_within_20_mm_under_the_right_name_is_identified():
    match = matching.match_levels({"L2": (0, 12, 45)}, TRUE)["L2"]
    assert (match.status, match.named, match.error_mm) == ("identified", "L2", 13.0)


@pytest.mark.parametrize(("distance_mm", "status"), [(20.0, "identified"), (20.01, "missed")])
def test_border_of_identification_is_20_mm(distance_mm, status):
    assert matching.match_levels({"L2": (distance_mm, 0, 40)}, TRUE)["L2"].status == status


def test_right_name_nearer_to_another_annotated_centre_is_not_identified():
    close = {"C3": (0, 0, 16), "C4": (0, 0, 0)}
    matches = matching.match_levels({"C4": (0, 0, 9)}, close)
    assert matches["C4"].status == "missed"
    assert (matches["C3"].status, matches["C3"].named) == ("off_by_one", "C4")


def test_level_named_one_up_is_off_by_one():
    shifted = {"T12": (0, 0, 80), "L1": (0, 0, 40), "L2": (0, 0, 0)}
    matches = matching.match_levels(shifted, TRUE)
    assert [(m.status, m.named) for m in matches.values()] == [
        ("off_by_one", "T12"), ("off_by_one", "L1"), ("off_by_one", "L2"),
    ]  # fmt: skip


def test_level_named_two_up_is_misnamed():
    match = matching.match_levels({"T12": (0, 0, 40)}, TRUE)["L2"]
    assert (match.status, match.named, match.error_mm) == ("misnamed", "T12", None)


def test_off_by_one_is_only_what_is_located():
    assert matching.match_levels({"L1": (0, 0, 61)}, TRUE)["L2"].status == "missed"


def test_l5_is_next_to_s1_where_there_is_no_l6():
    assert matching.match_levels({"L5": (0, 0, 0)}, {"S1": (0, 0, 0)})["S1"].status == "off_by_one"


def test_l5_is_two_from_s1_where_there_is_an_l6():
    truth = {"L6": (0, 0, 36), "S1": (0, 0, 0)}
    assert matching.match_levels({"L5": (0, 0, 0)}, truth)["S1"].status == "misnamed"


def test_t12_called_t13_is_off_by_one():
    assert matching.match_levels({"T13": (0, 0, 0)}, {"T12": (0, 0, 0)})["T12"].status == "off_by_one"


def test_half_pitch_is_stricter_in_the_neck():
    neck = {"C3": (0, 0, 32), "C4": (0, 0, 16), "C5": (0, 0, 0)}
    matches = matching.match_levels({"C3": (0, 7.9, 32), "C4": (0, 8.1, 16)}, neck)
    assert [matches[level].status for level in ("C3", "C4")] == ["identified", "identified"]
    assert [matches[level].within_half_pitch for level in ("C3", "C4")] == [True, False]


def test_half_pitch_may_reach_beyond_20_mm():
    wide = {"L1": (0, 0, 100), "L2": (0, 0, 50), "L3": (0, 0, 0)}
    match = matching.match_levels({"L2": (24, 0, 50)}, wide)["L2"]
    assert (match.status, match.within_half_pitch) == ("missed", True)


def test_nothing_predicted_misses_everything():
    assert {m.status for m in matching.match_levels({}, TRUE).values()} == {"missed"}


def test_nothing_annotated_judges_nothing():
    assert matching.match_levels({"L1": (0, 0, 0)}, {}) == {}


def test_local_pitch_is_the_mean_to_both_neighbours():
    pitch = matching.local_pitch_mm({"L3": (0, 0, 0), "L1": (0, 0, 70), "L2": (0, 0, 40)})
    assert pitch == {"L1": 30.0, "L2": 35.0, "L3": 40.0}


def test_gap_of_levels_is_divided_by_its_steps():
    assert matching.local_pitch_mm({"T12": (0, 0, 90), "L3": (0, 0, 0)}) == {"T12": 30.0, "L3": 30.0}


def test_l5_to_s1_is_one_step():
    assert matching.local_pitch_mm({"L5": (0, 0, 33), "S1": (0, 0, 0)})["S1"] == 33.0


def test_lonely_vertebra_has_a_typical_pitch():
    assert matching.local_pitch_mm({"C4": (0, 0, 0)}) == {"C4": 18.0}


def test_span_reaches_half_a_pitch_beyond_the_ends():
    uneven = {"L1": (0, 0, 80), "L2": (0, 0, 50), "L3": (0, 0, 0)}
    points = [(0, 0, 95), (0, 0, 95.1), (99, 0, 40), (0, 0, -25), (0, 0, -25.1)]
    assert matching.inside_span(points, uneven).tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_detection_pairs_as_many_as_any_pairing_can(seed):
    generator = np.random.default_rng(seed)
    predicted = dict(zip(("L1", "L2", "L3", "L4"), generator.uniform(0, 18, (4, 3)), strict=True))
    true = dict(zip(("T1", "T2", "T3", "T4", "T5"), generator.uniform(0, 18, (5, 3)), strict=True))
    best = max(
        sum(np.linalg.norm(p - true[t]) <= 10 for p, t in zip(predicted.values(), order, strict=True))
        for order in itertools.permutations(true, 4)
    )
    assert matching.detect(predicted, true) == DetectionCounts(
        true_positives=best, false_positives=4 - best, false_negatives=5 - best
    )


def test_greedy_pairing_would_lose_a_pair():
    # The closest pair (b, second) leaves no partner for a; the best pairing has both.
    predicted = {"L1": (0, 0, 0), "L2": (0, 0, 12)}
    true = {"T1": (0, 0, 9), "T2": (0, 0, 21)}
    assert matching.detect(predicted, true).true_positives == 2


def test_detection_ignores_names():
    assert matching.detect({"C1": (0, 0, 3)}, {"L5": (0, 0, 0)}) == DetectionCounts(
        true_positives=1, false_positives=0, false_negatives=0
    )


def test_one_annotated_vertebra_is_detected_once():
    counts = matching.detect({"L1": (0, 0, 1), "L2": (0, 0, 2)}, {"L1": (0, 0, 0)})
    assert counts == DetectionCounts(true_positives=1, false_positives=1, false_negatives=0)


def test_detection_of_nothing_counts_what_was_missed():
    assert matching.detect({}, TRUE) == DetectionCounts(true_positives=0, false_positives=0, false_negatives=3)


def truth(**more):
    return CaseTruth(identifier="a", patient="p", centres_lps=TRUE, classes={"L1": 0, "L2": 1, "L3": None}, **more)


@pytest.mark.parametrize(("complete", "false_positives"), [(True, 1), (False, 0)])
def test_prediction_outside_the_annotated_span_harms_only_complete_cases(
    vertebra, case, description, complete, false_positives
):
    predicted = [vertebra(level, centre) for level, centre in TRUE.items()] + [vertebra("L4", (0, 0, -40))]
    (outcome,) = matching.judge([case("a", predicted)], [truth()], description(complete), None)
    assert outcome.detection.false_positives == false_positives
    assert outcome.detection.true_positives == 3


@pytest.mark.parametrize(("complete", "status"), [(True, "identified"), (False, "missed")])
def test_prediction_outside_the_annotated_span_does_not_help(vertebra, case, description, complete, status):
    # Pitch 30: the span ends 15 mm above L1, the prediction lies 18 mm above it.
    near = CaseTruth(identifier="a", patient="p", centres_lps={"L1": (0, 0, 30), "L2": (0, 0, 0)})
    (outcome,) = matching.judge([case("a", [vertebra("L1", (0, 0, 48))])], [near], description(complete), None)
    assert outcome.vertebrae[0].match.status == status


def test_superfluous_prediction_inside_the_span_harms_incomplete_cases(vertebra, case, description):
    predicted = [vertebra("L2", (0, 0, 40)), vertebra("L4", (60, 0, 20))]
    (outcome,) = matching.judge([case("a", predicted)], [truth()], description(complete=False), None)
    assert outcome.detection.false_positives == 1


def test_misnamed_vertebra_keeps_no_prediction(vertebra, case, description):
    predicted = [vertebra("L1", (0, 0, 40)), vertebra("L3", (0, 0, 0))]
    (outcome,) = matching.judge([case("a", predicted)], [truth()], description(), None)
    assert [v.prediction is not None for v in outcome.vertebrae] == [False, False, True]


def test_case_without_prediction_is_missed(description):
    (outcome,) = matching.judge([], [truth()], description(), "L3")
    assert [(v.match.status, v.counter_right) for v in outcome.vertebrae] == [("missed", False)] * 3


def test_counter_is_right_where_the_lowest_body_has_the_usual_name(vertebra, case, description):
    wrong_names = [vertebra("T1", (0, 0, 0)), vertebra("T2", (0, 0, 40)), vertebra("T3", (0, 0, 80))]
    (outcome,) = matching.judge([case("a", wrong_names)], [truth()], description(), "L3")
    assert [v.counter_right for v in outcome.vertebrae] == [True, True, True]
    assert {v.match.status for v in outcome.vertebrae} == {"misnamed"}


def test_counter_is_wrong_where_the_scan_ends_elsewhere(vertebra, case, description):
    predicted = [vertebra(level, centre) for level, centre in TRUE.items()]
    (outcome,) = matching.judge([case("a", predicted)], [truth()], description(), "L5")
    assert [v.counter_right for v in outcome.vertebrae] == [False, False, False]


def test_class_without_position_is_judged_by_the_prediction_of_its_name(vertebra, case, description):
    unplaced = CaseTruth(identifier="a", patient="p", classes={"L1": 1, "L2": 0})
    (outcome,) = matching.judge([case("a", [vertebra("L1", (0, 0, 0))])], [unplaced], description(), None)
    assert [(v.match, v.prediction is not None) for v in outcome.vertebrae] == [(None, True), (None, False)]
    assert outcome.detection is None


@pytest.mark.parametrize(
    ("vertebrae", "words"),
    [
        ([("L1", (0, 0, 0), (0.5, 0.5)), ("L1", (0, 0, 9), (0.5, 0.5))], "occur twice: L1"),
        ([("L9", (0, 0, 0), (0.5, 0.5))], "levels that are unknown or occur twice: L9"),
        ([("L1", (0, 0, float("nan")), (0.5, 0.5))], "L1: centre and class probabilities must be finite"),
        ([("L1", (0, 0, 0), (0.5, 0.6))], "expected >= 0 with the sum 1"),
    ],
)
def test_faulty_prediction_is_named(vertebra, case, description, vertebrae, words):
    with pytest.raises(DatasetError, match=words):
        matching.judge([case("a", [vertebra(*v) for v in vertebrae])], [truth()], description(), None)


def test_prediction_of_other_classes_is_refused(case, description):
    with pytest.raises(DatasetError, match="classes normal, fat; expected those of Dataset007_Test: normal, oedema"):
        matching.judge([case("a", [], class_names=("normal", "fat"))], [truth()], description(), None)


def test_prediction_without_truth_is_refused(case, description):
    with pytest.raises(DatasetError, match="without annotation in Dataset007_Test: b"):
        matching.judge([case("b", [])], [truth()], description(), None)
