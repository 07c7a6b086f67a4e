import csv

import numpy as np
import pytest

from spinecls.anatomy import LEVELS, chain
from spinecls.evaluation import patients
from spinecls.evaluation.intervals import draw_patients
from spinecls.evaluation.matching import CaseTruth, judge

GRADES = ("none", "mild", "severe")
PLACES = {"T12": (0, 0, 80), "L1": (0, 0, 40), "L2": (0, 0, 0)}
SHROUT_FLEISS = np.asarray([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


@pytest.fixture
def numbers(vertebra, case, description):
    """Numbers of scans with grades; a level without probabilities is missed."""

    def make(truth, predicted, ordered=True, patient_of=lambda name: name, places=PLACES):
        about = description(class_names=GRADES, class_order=ordered)
        cases = [
            CaseTruth(
                identifier=name,
                patient=patient_of(name),
                centres_lps={lv: PLACES[lv] for lv in classes},
                classes=classes,
            )
            for name, classes in truth.items()
        ]
        predictions = [
            case(name, [vertebra(lv, places[lv], p) for lv, p in found.items()], GRADES)
            for name, found in predicted.items()
        ]
        return patients.case_numbers(judge(predictions, cases, about, None), about)

    return make


@pytest.fixture
def one(numbers):
    """A scan of T12 severe, L1 mild, L2 none; L1 was missed."""
    return numbers({"a": {"T12": 2, "L1": 1, "L2": 0}}, {"a": {"T12": (0.2, 0.5, 0.3), "L2": (0.7, 0.1, 0.2)}})[0]


@pytest.mark.parametrize(
    ("name", "true", "decided", "expected"),
    [
        ("n_mild", 1, 1, 0.5 + 0.1),
        ("n_severe", 1, 0, 0.3 + 0.2),
        ("affected", 2, 1, 0.8 + 0.3),
        ("grade_sum", 3, 1, (0.5 + 0.6) + (0.1 + 0.4)),
        # T12/L1 and L1/L2; of L1 nothing is predicted, so each rests on the other vertebra alone.
        ("affected_units", 2, 1, 0.8 + 0.3),
    ],
)
def test_number_of_a_scan_by_hand(one, name, true, decided, expected):
    assert one.numbers[name] == pytest.approx({"true": true, "decided": decided, "expected": expected})


def test_scan_says_how_many_vertebrae_it_rests_on(one):
    assert (one.vertebrae, one.identified, one.units) == (3, 2, 2)


def test_unit_is_affected_unless_both_vertebrae_are_free(numbers):
    found = numbers({"a": {"L1": 0, "L2": 1}}, {"a": {"L1": (0.6, 0.4, 0), "L2": (0.5, 0.2, 0.3)}})[0]
    assert found.numbers["affected_units"] == pytest.approx({"true": 1, "decided": 0, "expected": 1 - 0.6 * 0.5})


def test_misnamed_vertebra_adds_nothing_to_what_is_predicted(numbers):
    # What is called T12 lies at L1.
    found = numbers({"a": {"L1": 1}}, {"a": {"T12": (0, 1, 0)}}, places={"T12": PLACES["L1"]})[0]
    assert found.identified == 0
    assert found.numbers["affected"] == {"true": 1.0, "decided": 0.0, "expected": 0.0}


def test_unordered_classes_have_no_sum_of_grades(numbers):
    assert "grade_sum" not in numbers({"a": {"L1": 1}}, {}, ordered=False)[0].numbers


def test_vertebra_without_a_class_does_not_count(numbers):
    found = numbers({"a": {"L1": 1, "L2": None}}, {"a": {"L2": (0, 0, 1)}})[0]
    assert (found.vertebrae, found.units, found.numbers["affected"]["expected"]) == (1, 0, 0.0)


def test_scan_without_any_class_is_left_out(numbers):
    assert [n.case for n in numbers({"a": {"L1": None}, "b": {"L1": 0}}, {})] == ["b"]


def test_whole_spine_has_23_units_from_c2_to_s1():
    levels = chain()
    units = [(levels[upper], levels[lower]) for upper, lower in patients.discovertebral_units(levels)]
    assert len(units) == 23
    assert (units[0], units[-1]) == (("C2", "C3"), ("L5", "S1"))


def test_numerical_variants_are_in_the_chain_where_they_are():
    levels = list(LEVELS[-7:])
    assert levels == ["L1", "L2", "L3", "L4", "L5", "L6", "S1"]
    assert (4, 5) in patients.discovertebral_units(levels)
    assert (4, 5) in patients.discovertebral_units([level for level in levels if level != "L6"])


def test_gap_in_the_levels_is_no_unit():
    assert patients.discovertebral_units(["L1", "L3", "L4"]) == [(1, 2)]


def test_icc_of_shrout_and_fleiss():
    # Their table 2; ICC(2,1) = (11.24 - 1.02) / (11.24 + 3 x 1.02 + 4 x (32.49 - 1.02) / 6) = 0.29 in table 4.
    assert patients.icc_agreement(SHROUT_FLEISS, np.ones((1, 6)))[0] == pytest.approx(0.2898, abs=5e-5)


def test_icc_falls_by_a_constant_offset():
    # Rows 1, 2, 3 against 2, 3, 4: MSR 2, MSE 0, MSC 1.5, so 2 / (2 + 2 x 1.5 / 3).
    ratings = np.asarray([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]])
    assert patients.icc_agreement(ratings, np.ones((1, 3))) == pytest.approx([2 / 3])


def test_icc_of_equal_ratings_is_one():
    assert patients.icc_agreement(np.asarray([[1.0, 1.0], [4.0, 4.0]]), np.ones((1, 2))) == pytest.approx([1.0])


@pytest.mark.parametrize("ratings", [[[2.0, 2.0]] * 3, [[1.0, 3.0]]])
def test_icc_without_any_spread_or_of_one_case_is_undefined(ratings):
    assert np.isnan(patients.icc_agreement(np.asarray(ratings), np.ones((1, len(ratings))))[0])


def test_icc_of_a_draw_is_that_of_copied_cases():
    weights = np.asarray([[2.0, 0.0, 1.0, 3.0, 1.0, 0.0]])
    copies = np.repeat(SHROUT_FLEISS, weights[0].astype(int), axis=0)
    expected = patients.icc_agreement(copies, np.ones((1, 7)))
    assert patients.icc_agreement(SHROUT_FLEISS, weights) == pytest.approx(expected)


def test_limits_of_agreement_by_hand():
    # Mean 1, standard deviation 2.
    found = patients.limits_of_agreement(np.asarray([-1.0, 1.0, 3.0]), np.ones((1, 3)))[0]
    assert found == pytest.approx([1.0, 1 - 1.96 * 2, 1 + 1.96 * 2])


def test_limits_of_one_case_are_undefined():
    middle, low, high = patients.limits_of_agreement(np.asarray([2.0]), np.ones((1, 1)))[0]
    assert middle == 2.0
    assert np.isnan([low, high]).all()


def test_agreement_compares_predicted_with_true(numbers):
    truth = {"a": {"L1": 1, "L2": 1}, "b": {"L1": 0, "L2": 1}, "c": {"L1": 0, "L2": 0}}
    sure = {name: {lv: np.eye(3)[k] for lv, k in classes.items()} for name, classes in truth.items()}
    sure["c"]["L2"] = (0.2, 0.8, 0)
    found = patients.agreement(numbers(truth, sure), draw_patients("abc", 40))["agreement"]["affected"]
    assert found["decided"]["mean_difference"]["estimate"] == pytest.approx(1 / 3)
    assert found["expected"]["mean_difference"]["estimate"] == pytest.approx(0.8 / 3)
    assert found["decided"]["icc"]["estimate"] == pytest.approx(
        patients.icc_agreement(np.asarray([[2.0, 2], [1, 1], [0, 1]]), np.ones((1, 3)))[0]
    )


def test_scans_of_one_patient_are_drawn_together(numbers):
    truth = {"a": {"L1": 1}, "b": {"L1": 0}}
    found = patients.agreement(numbers(truth, {}, patient_of=lambda _: "p"), draw_patients(["p"], 20))
    assert (found["cases"], found["patients"]) == (2, 1)
    difference = found["agreement"]["affected"]["decided"]["mean_difference"]
    assert (difference["estimate"], difference["no_interval"]) == (-0.5, "one patient")


def test_agreement_of_no_scan_is_empty():
    assert patients.agreement([], draw_patients([], 5)) == {"cases": 0, "patients": 0, "agreement": {}}


def test_table_has_one_row_a_scan(tmp_path, one):
    patients.write_patients(tmp_path / "patients.csv", [one])
    with open(tmp_path / "patients.csv", newline="") as stream:
        row = next(csv.DictReader(stream))
    assert (row["case"], row["patient"], row["vertebrae"], row["identified"], row["units"]) == ("a", "a", "3", "2", "2")
    assert (row["n_mild_true"], row["n_mild_decided"], row["n_mild_expected"]) == ("1.0", "1.0", "0.6")
    assert row["grade_sum_expected"] == "1.6"
