import csv
import dataclasses
import functools
import json

import pytest
import SimpleITK as sitk
from evaluation.scans import CASES, CLASSES, build_dataset, build_split, write_perfect

from spinecls.cli.evaluate import Split, evaluate
from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation.truth import truth_of
from spinecls.io import predictions as prediction_files
from spinecls.io.dataset import load_dataset


@pytest.fixture
def dataset(tmp_path):
    return build_dataset(tmp_path / "Dataset009_Tiny")


@pytest.fixture
def predict(tmp_path, dataset):
    """Write perfect predictions of some training cases."""
    return functools.partial(write_perfect, dataset, tmp_path / "predicted")


def scores(folder):
    return json.loads((folder / "summary.json").read_text())


def test_perfect_prediction_has_perfect_scores(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=20)
    content = scores(folder)
    assert content["cases"] == 2
    for name in ("identification_rate", "whole_case_right", "f1_10mm", "dice"):
        assert content["location"][name]["estimate"] == 1.0
    assert content["classification"]["end_to_end"]["auc_macro"]["estimate"] == 1.0


def test_prior_and_counter_come_from_the_cases_that_were_not_predicted(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=5)
    content = scores(folder)
    # c and d hold one oedema in six vertebrae.
    assert content["classification"]["prior"] == pytest.approx([5 / 6, 1 / 6])
    assert content["training_reference"]["cases"] == 2
    assert content["location"]["trivial_counter_lowest_level"] == "L5"


def test_where_all_were_predicted_the_reference_says_so(dataset, predict, capsys):
    folder = predict(*CASES)
    evaluate(folder, str(dataset), draws=5)
    assert scores(folder)["training_reference"] == {
        "cases": 4,
        "taken_from": "the scored cases themselves, because the dataset has no others",
    }
    assert "the scored cases themselves" in capsys.readouterr().out


def test_failed_case_counts_as_missed(dataset, predict):
    folder = predict("a", "b")
    prediction_files.write_failures(folder, [("c", "no memory"), ("stranger", "not of this dataset")])
    evaluate(folder, str(dataset), draws=5)
    content = scores(folder)
    assert content["failed_cases"] == ["c"]
    assert content["location"]["identification_rate"]["estimate"] == pytest.approx(6 / 9)
    assert content["location"]["dice"]["estimate"] == pytest.approx(6 / 9)


def test_stale_failure_of_a_predicted_case_is_ignored(dataset, predict):
    folder = predict("a", "b")
    prediction_files.write_failures(folder, [("a", "earlier run")])
    evaluate(folder, str(dataset), draws=5)
    assert (scores(folder)["failed_cases"], scores(folder)["cases"]) == ([], 2)


def test_predicted_case_without_annotation_is_left_out_and_named(dataset, predict, case):
    folder = predict("a")
    prediction_files.write_case_json(folder, case("stranger", [], CLASSES))
    evaluate(folder, str(dataset), draws=5)
    assert (scores(folder)["cases_without_annotation"], scores(folder)["cases"]) == (["stranger"], 1)


def test_cases_of_two_models_are_told(dataset, predict, capsys):
    folder = predict("a", "b")
    second = prediction_files.read_folder(folder)[1]
    prediction_files.write_case_json(folder, dataclasses.replace(second, model={"trainer": "Other"}))
    evaluate(folder, str(dataset), draws=5)
    assert "The cases were predicted by 2 models; the scores are of all together." in capsys.readouterr().out


def test_predictions_without_maps_have_no_dice(dataset, predict):
    folder = predict("a", maps=False)
    evaluate(folder, str(dataset), draws=5)
    assert scores(folder)["location"]["dice"] == {
        "estimate": None, "low": None, "high": None, "items": 0, "patients": 0, "valid_draws": 0,
        "no_interval": None,
    }  # fmt: skip


def test_table_has_one_row_an_annotated_vertebra(dataset, predict):
    folder = predict("b")
    evaluate(folder, str(dataset), draws=5)
    with open(folder / "vertebrae.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["level"] for row in rows] == ["L3", "L4", "L5"]
    assert rows[0] == {
        "case": "b", "patient": "b", "site": "", "sequence": "", "level": "L3", "class": "oedema",
        "found": "identified", "named": "L3", "error_mm": "0.0", "predicted_class": "oedema", "p_normal": "0.1",
        "p_oedema": "0.9", "prediction_set": "normal|oedema", "dice": "1.0",
    }  # fmt: skip


def test_missed_vertebra_has_empty_cells(dataset, predict):
    folder = predict("a")
    path = folder / "a.json"
    whole = prediction_files.read_case_json(path)
    prediction_files.write_case_json(folder, dataclasses.replace(whole, vertebrae=whole.vertebrae[1:]))
    evaluate(folder, str(dataset), draws=5)
    with open(folder / "vertebrae.csv", newline="") as stream:
        row = next(csv.DictReader(stream))
    assert (row["found"], row["named"], row["error_mm"], row["p_normal"]) == ("missed", "", "", "")


def test_figures_are_pictures_with_content(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=5)
    pictures = sorted((folder / "figures").iterdir())
    assert [path.name for path in pictures] == [
        "confusion.png", "patients.png", "reliability.png", "risk_coverage.png", "roc.png",
    ]  # fmt: skip
    for path in pictures:
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).std() > 5


def test_figures_of_an_earlier_evaluation_do_not_stay(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=5)
    for path in folder.glob("?.json"):
        case = prediction_files.read_case_json(path)
        prediction_files.write_case_json(folder, dataclasses.replace(case, vertebrae=()))
    evaluate(folder, str(dataset), draws=5)
    assert not (folder / "figures/reliability.png").exists()
    assert (folder / "figures/roc.png").exists()


def test_a_file_in_place_of_the_predictions_is_named_by_its_option(tmp_path, dataset):
    (tmp_path / "predictions.csv").write_text("")
    with pytest.raises(DatasetError, match=r"-i .*predictions\.csv: a file\. Expected a folder"):
        evaluate(tmp_path / "predictions.csv", str(dataset))


def test_output_folder_keeps_the_prediction_folder_clean(tmp_path, dataset, predict):
    folder = predict("a")
    evaluate(folder, str(dataset), output=tmp_path / "scores", draws=5)
    assert (tmp_path / "scores" / "summary.json").exists()
    assert not (folder / "summary.json").exists()


def test_sequences_of_the_table_of_cases_are_scored_apart(dataset, predict):
    (dataset / "cases.csv").write_text("case,sequence\na,T1\nb,STIR\nc,T1\n")
    folder = predict(*CASES)
    evaluate(folder, str(dataset), draws=5)
    by_sequence = scores(folder)["classification"]["by_sequence"]
    assert {name: group["vertebrae"] for name, group in by_sequence.items()} == {"STIR": 3, "T1": 6}
    with open(folder / "vertebrae.csv", newline="") as stream:
        assert {(row["case"], row["sequence"]) for row in csv.DictReader(stream)} == {
            ("a", "T1"), ("b", "STIR"), ("c", "T1"), ("d", ""),
        }  # fmt: skip


def test_flat_table_holds_the_scores_of_the_summary(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=5)
    with open(folder / "summary.csv", newline="") as stream:
        table = {(row["group"], row["score"]): row for row in csv.DictReader(stream)}
    row = table["classification/end_to_end", "auc_macro"]
    assert (row["estimate"], row["patients"], row["items"]) == ("1.0", "2", "6")
    assert ("classification/patients_summary/agreement/affected/decided", "icc") in table


def test_perfect_prediction_counts_the_affected_vertebrae(dataset, predict):
    folder = predict(*CASES)
    evaluate(folder, str(dataset), draws=5)
    with open(folder / "patients.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == list(CASES)
    assert [float(row["affected_true"]) for row in rows] == [sum(classes) for classes in CASES.values()]
    assert [row["affected_decided"] for row in rows] == [row["affected_true"] for row in rows]


def test_second_run_gives_the_same_summary(dataset, predict):
    folder = predict("a", "b")
    evaluate(folder, str(dataset), draws=30)
    first = (folder / "summary.json").read_bytes()
    evaluate(folder, str(dataset), draws=30)
    assert (folder / "summary.json").read_bytes() == first


def test_case_called_summary_is_not_overwritten(dataset, predict, case):
    folder = predict("a")
    prediction_files.write_case_json(folder, case("summary", [], CLASSES))
    with pytest.raises(UsageError, match="Give -o FOLDER"):
        evaluate(folder, str(dataset))


def test_predictions_of_another_dataset_are_refused(tmp_path, dataset, case):
    prediction_files.write_case_json(tmp_path / "other", case("z", [], CLASSES))
    with pytest.raises(DatasetError, match=r"none of its 1 case \(z\) is an annotated Tr case"):
        evaluate(tmp_path / "other", str(dataset))


def test_test_cases_take_the_prior_from_all_training_cases(dataset, predict, tmp_path, vertebra, case):
    build_split(dataset, "Ts", {"t": (1, 1, 0)})
    folder = tmp_path / "test_cases"
    raw = load_dataset(dataset, verify_voxels=False, split="Ts")
    truth = truth_of(raw.cases[0], raw.description)
    found = [vertebra(level, centre) for level, centre in truth.centres_lps.items()]
    prediction_files.write_case_json(folder, case("t", found, CLASSES))
    evaluate(folder, str(dataset), split=Split.Ts, draws=5)
    content = scores(folder)
    assert content["classification"]["prior"] == pytest.approx([9 / 12, 3 / 12])
    assert content["training_reference"] == {"cases": 4, "taken_from": "the training cases of the dataset"}
    assert content["location"]["identification_rate"]["estimate"] == 1.0
