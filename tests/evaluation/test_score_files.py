import csv

from spinecls.evaluation.matching import CaseTruth, judge
from spinecls.evaluation.score_files import flat_scores, write_scores

SCORE = {"estimate": 0.5, "low": 0.25, "high": 1.0, "items": 4, "patients": 2, "valid_draws": 9, "no_interval": None}


def test_flat_row_names_the_keys_that_lead_to_a_score():
    content = {"dataset": "D", "location": {"dice": SCORE, "by": {"L1": {"rate": SCORE}}}, "draws": 5}
    assert list(flat_scores(content)) == [
        {"group": "location", "score": "dice", "estimate": 0.5, "low": 0.25, "high": 1.0, "patients": 2, "items": 4,
         "no_interval": None},
        {"group": "location/by/L1", "score": "rate", "estimate": 0.5, "low": 0.25, "high": 1.0, "patients": 2,
         "items": 4, "no_interval": None},
    ]  # fmt: skip


def test_flat_scores_pass_over_what_has_no_interval():
    assert list(flat_scores({"prior": [0.5], "classification": None, "counts": {"a": 3}})) == []


def written(tmp_path, description, **more):
    outcomes = judge(
        [], [CaseTruth(identifier="a", patient="p", centres_lps={"L1": (0, 0, 0)}, **more)], description, None
    )
    write_scores(tmp_path, {"location": {"dice": SCORE}}, outcomes, description)
    return sorted(path.name for path in tmp_path.iterdir())


def test_four_tables_are_written(tmp_path, description):
    assert written(tmp_path, description(), classes={"L1": 1}) == [
        "patients.csv", "summary.csv", "summary.json", "vertebrae.csv",
    ]  # fmt: skip
    with open(tmp_path / "summary.csv", newline="") as stream:
        assert next(csv.DictReader(stream))["estimate"] == "0.5"


def test_dataset_without_classes_has_no_table_of_patients(tmp_path, description):
    assert "patients.csv" not in written(tmp_path, description(class_names=()))
