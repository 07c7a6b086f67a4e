import numpy as np
import pytest

from spinecls.errors import DatasetError
from spinecls.evaluation.label_audit import (
    ReadVertebra,
    audit,
    confident_classes,
    corrected_rows,
    corrections,
    held_out_predictions,
    label_noise,
)
from spinecls.io.predictions import write_case_json
from spinecls.records import CasePrediction, ClassReading

NAMES = ("normal", "inflammatory", "structural")


def vertebra(*classes, p=(0.8, 0.1, 0.1), level="L1", case="c"):
    readings = tuple(ClassReading(classes=tuple(told.split("|")), reader=f"r{i}") for i, told in enumerate(classes))
    return ReadVertebra(case, "p", level, readings, None if p is None else np.array(p))


def crowd():
    """Twenty vertebrae on which labels and models agree."""
    return [
        vertebra(name, p=np.where(np.arange(3) == k, 0.8, 0.1), level=f"v{k}{i}")
        for k, name in enumerate(NAMES[:2])
        for i in range(10)
    ]


def test_the_confident_joint_by_hand():
    given = np.array([0, 0, 0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    noise = label_noise(given, p)
    # Thresholds 0.7 and 0.75: three of class 0 are confident, the fourth counts as 1; of class 1 only the first counts.
    assert noise.thresholds == pytest.approx([0.7, 0.75])
    assert noise.joint == pytest.approx(np.array([[3 / 6, 1 / 6], [0, 2 / 6]]))
    assert noise.rate == pytest.approx(1 / 6)


def test_the_noise_of_simulated_labels_is_recovered():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=4000)
    wrong = rng.random(4000) < 0.2
    given = np.where(wrong, (truth + rng.integers(1, 3, 4000)) % 3, truth)
    logits = 3 * np.eye(3)[truth] + rng.normal(0, 1, (4000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert label_noise(given, p).rate == pytest.approx(0.2, abs=0.04)


def test_it_is_the_joint_of_cleanlab():
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    rng = np.random.default_rng(1)
    given = rng.integers(3, size=300)
    p = rng.dirichlet(np.ones(3), 300) + 0.5 * np.eye(3)[given]
    p /= p.sum(axis=1, keepdims=True)
    expected = count.estimate_joint(given, p)
    assert label_noise(given, p).joint == pytest.approx(expected, abs=0.01)


def test_the_listed_labels_and_their_order_are_those_of_cleanlab():
    filtering = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    rng = np.random.default_rng(2)
    given = rng.integers(3, size=300)
    p = rng.dirichlet(np.ones(3), 300) + 0.5 * np.eye(3)[np.where(rng.random(300) < 0.2, (given + 1) % 3, given)]
    p /= p.sum(axis=1, keepdims=True)
    expected = filtering.find_label_issues(
        given, p, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    rows, _ = audit([vertebra(NAMES[k], p=p[i], level=str(i)) for i, k in enumerate(given)], NAMES)
    assert len(rows) > 20
    assert {int(row["vertebra"]) for row in rows} == set(expected.tolist())
    # In the table probabilities are rounded, so that some are alike.
    assert [row["p_given"] for row in rows] == pytest.approx(p[expected, given[expected]], abs=1e-4)


@pytest.mark.parametrize(("rate", "q"), [(0.04, 0.0), (0.1, 0.3), (0.3, 0.7)])
def test_more_wrong_labels_ask_for_a_more_forgiving_loss(rate, q):
    noise = label_noise(np.array([0]), np.array([[1.0, 0.0]]))
    assert type(noise)(rate, noise.joint, noise.thresholds).q == q


def test_a_class_that_no_label_has_is_never_believed():
    assert confident_classes(np.array([[0.2, 0.8]]), np.array([0.1, np.inf])).tolist() == [0]


def test_a_contradicted_label_is_listed_with_what_the_models_say():
    rows, _ = audit([*crowd(), vertebra("normal", p=(0.05, 0.9, 0.05))], NAMES)
    assert len(rows) == 1
    assert rows[0]["given"] == "normal"
    assert rows[0]["predicted"] == "inflammatory"
    assert rows[0]["why"] == "models that never saw this scan say inflammatory"
    assert (rows[0]["p_given"], rows[0]["p_predicted"]) == (0.05, 0.9)


def test_labels_that_the_models_share_are_not_listed():
    assert audit(crowd(), NAMES)[0] == []


def test_readers_who_disagree_are_listed_with_what_each_said():
    rows, _ = audit([*crowd(), vertebra("normal", "normal", "inflammatory")], NAMES)
    assert rows[0]["why"] == "readers disagree"
    assert rows[0]["readings"] == "r0: normal; r1: normal; r2: inflammatory"


def test_a_set_of_classes_is_listed_with_the_one_that_is_favoured():
    rows, _ = audit([*crowd(), vertebra("inflammatory|structural", p=(0.1, 0.2, 0.7))], NAMES)
    assert rows[0]["given"] == ""
    assert rows[0]["predicted"] == "structural"


def test_the_most_doubtful_label_comes_first():
    of_given = {"L1": 0.15, "L2": 0.02, "L3": 0.1}
    doubtful = [vertebra("normal", p=(p, 0.99 - p, 0.01), level=level) for level, p in of_given.items()]
    rows, _ = audit([*crowd(), *doubtful], NAMES)
    assert [row["vertebra"] for row in rows] == ["L2", "L3", "L1"]


def test_a_vertebra_that_was_not_found_is_listed_only_when_readers_disagree():
    missed = [vertebra("normal", p=None), vertebra("normal", "structural", p=None)]
    rows, _ = audit([*crowd(), *missed], NAMES)
    assert [row["why"] for row in rows] == ["readers disagree"]


def test_without_any_label_there_is_nothing_to_audit():
    with pytest.raises(DatasetError, match="nothing to audit"):
        audit([], NAMES)


def test_predictions_of_all_folds_are_read_with_the_vertebrae_that_they_misnamed(tmp_path):
    folders = [tmp_path / "fold_0/validation", tmp_path / "fold_1/validation"]
    for folder, case, found in zip(folders, ("a", "b"), ("misnamed", "identified"), strict=True):
        write_case_json(folder, CasePrediction(identifier=case, class_names=NAMES, vertebrae=(), model={}))
        (folder / "vertebrae.csv").write_text(f"case,level,found\n{case},L1,{found}\n{case},L2,no_position\n")
    predictions, misnamed = held_out_predictions(folders)
    assert [p.identifier for p in predictions] == ["a", "b"]
    assert misnamed == {("a", "L1")}


def table(path, *rows):
    path.write_text("case,vertebra,corrected\n" + "\n".join(rows) + "\n")
    return path


def test_filled_rows_are_corrections(tmp_path):
    path = table(tmp_path / "t.csv", "c,L1,", "c,L2,structural", "d,L1,normal|structural")
    assert corrections(path, NAMES) == {("c", "L2"): "structural", ("d", "L1"): "normal|structural"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["c,L1,odd"], "line 2: class 'odd' is unknown"),
        (["c,L1,normal", "c,L1,normal"], "line 3: c L1 is corrected twice"),
    ],
)
def test_faulty_corrections_are_refused(rows, words, tmp_path):
    with pytest.raises(DatasetError, match=words):
        corrections(table(tmp_path / "t.csv", *rows), NAMES)


def test_a_table_without_the_column_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("case,vertebra\nc,L1\n")
    with pytest.raises(DatasetError, match="column 'corrected' is missing"):
        corrections(path, NAMES)


def test_a_table_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such table"):
        corrections(tmp_path / "t.csv", NAMES)


def test_one_row_of_a_corrected_vertebra_stays():
    rows = [
        {"case": "c", "vertebra": "L1", "class": "normal", "reader": "a", "confidence": "0.5", "x_mm": "3"},
        {"case": "c", "vertebra": "L1", "class": "structural", "reader": "b", "confidence": "", "x_mm": ""},
        {"case": "c", "vertebra": "L2", "class": "normal", "reader": "a", "confidence": "", "x_mm": ""},
    ]
    result = corrected_rows(rows, {("c", "L1"): "inflammatory"})
    assert result[0] == {**rows[0], "class": "inflammatory", "reader": "audit", "confidence": ""}
    assert result[1:] == [rows[2]]


def test_a_place_in_a_row_that_goes_is_kept():
    rows = [
        {"case": "c", "vertebra": "L1", "class": "normal", "x_mm": ""},
        {"case": "c", "vertebra": "L1", "class": "structural", "x_mm": "-3.5"},
    ]
    assert corrected_rows(rows, {("c", "L1"): "normal"}) == [{**rows[0], "x_mm": "-3.5"}]


def test_a_table_with_other_column_names_is_refused():
    with pytest.raises(DatasetError, match="no column 'vertebra'"):
        corrected_rows([{"case": "c", "Vertebra": "L1", "class": "normal"}], {("c", "L1"): "normal"})


def test_a_correction_of_an_unknown_vertebra_is_refused():
    with pytest.raises(DatasetError, match="c L9: has no row"):
        corrected_rows([{"case": "c", "vertebra": "L1", "class": "normal"}], {("c", "L9"): "normal"})
