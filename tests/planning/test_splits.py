"""Folds; guards against training on folds that somebody has edited since they were made."""

import pytest
from native_records import write_native

from spinecls import files
from spinecls.errors import PlanError
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.planning.splits import SplitCase, check_split, make_folds, split_cases, stored_folds
from spinecls.records import Case, ClassReading, VertebraAnnotation


def _cases(count, scans=1, rare=(), sites=("",)):
    return [
        SplitCase(
            case=f"c{p:02d}_{s}",
            patient=f"p{p:02d}",
            site=sites[p % len(sites)],
            classes=("normal", "rare") if p in rare else ("normal",),
        )
        for p in range(count)
        for s in range(scans)
    ]


def test_every_case_is_validated_once():
    folds = make_folds(_cases(23), seed=1).folds
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(c.case for c in _cases(23))


def test_no_patient_is_on_both_sides():
    cases = _cases(17, scans=3)
    patient = {c.case: c.patient for c in cases}
    for fold in make_folds(cases, seed=3).folds:
        assert not {patient[c] for c in fold["train"]} & {patient[c] for c in fold["val"]}


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_five_patients_reaches_every_fold(seed):
    rare = {0, 1, 2, 11, 19}
    for fold in make_folds(_cases(20, rare=rare), seed=seed).folds:
        assert len({f"c{p:02d}_0" for p in rare} & set(fold["val"])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_sites_are_spread_evenly(seed):
    cases = _cases(30, sites=("a", "b", "b"))
    site = {c.case: c.site for c in cases}
    for fold in make_folds(cases, seed=seed).folds:
        assert sum(site[c] == "a" for c in fold["val"]) == 2


def test_the_same_seed_gives_the_same_folds_whatever_the_order():
    cases = _cases(20)
    assert make_folds(cases, seed=7) == make_folds(cases[::-1], seed=7)


def test_another_seed_gives_other_folds():
    assert make_folds(_cases(20), seed=7) != make_folds(_cases(20), seed=8)


def test_fold_sizes_differ_by_one_patient_at_most():
    sizes = [len(fold["val"]) for fold in make_folds(_cases(53, rare={1, 5, 9}), seed=0).folds]
    assert sorted(sizes) == [10, 10, 11, 11, 11]


def test_three_patients_get_three_folds_and_it_is_said():
    result = make_folds(_cases(3))
    assert len(result.folds) == 3
    assert "3 patients allow 3 folds; 5 were asked for." in result.notes


def test_a_class_that_some_folds_miss_is_said():
    notes = make_folds(_cases(20, rare={4, 5})).notes
    assert any("'rare' is seen in 2 patient(s) only, so 3 of 5 folds" in note for note in notes)


def test_one_patient_cannot_be_split():
    with pytest.raises(PlanError, match=r"at least 2 patients.*fold `all`"):
        make_folds(_cases(1, scans=8))


def test_classes_of_a_case_are_those_read_exactly():
    case = Case(
        identifier="c",
        patient="p",
        images=(),
        vertebrae=(
            VertebraAnnotation(level="L1", readings=(ClassReading(classes=("b",)),)),
            VertebraAnnotation(level="L2", readings=(ClassReading(classes=("a", "c")),)),
        ),
    )
    assert split_cases([case])[0].classes == ("b",)


def test_a_sound_split_is_returned():
    split = [{"train": ["c00_0"], "val": ["c01_0"]}]
    assert check_split(split, _cases(3)) == tuple(split)


def test_all_faults_of_a_split_are_told_at_once():
    split = [
        {"train": ["c00_0", "c01_0", "nobody"], "val": ["c00_1"]},
        {"train": ["c02_0", "c02_1"], "val": []},
        {"train": ["c00_0", "c00_0"], "val": ["c01_0", "c00_0"]},
        {"training": ["c00_0"], "val": ["c01_0"]},
    ]
    with pytest.raises(PlanError) as caught:
        check_split(split, _cases(3, scans=2))
    text = str(caught.value)
    for expected in (
        "fold 0: train names cases that are not in the dataset: nobody",
        "fold 0: patient(s) p00 in both train and val",
        "fold 1: val is empty",
        "fold 2: train names c00_0 more than once",
        "fold 2: c00_0 in both train and val",
        "fold 3: expected the keys train and val",
    ):
        assert expected in text


@pytest.mark.parametrize("split", [{}, [], "c00", [["c00_0"]], [{"train": "c00_0", "val": ["c01_0"]}]])
def test_a_file_of_another_form_is_refused(split):
    with pytest.raises(PlanError, match='"train": \\["case"'):
        check_split(split, _cases(3))


def test_a_class_is_spread_by_patients_even_when_one_has_many_scans():
    rare = range(10)
    cases = [c for c in _cases(20, scans=9, rare=rare) if c.patient == "p03" or c.case.endswith("_0")]
    patient = {c.case: c.patient for c in cases}
    for fold in make_folds(cases, seed=5).folds:
        assert len({patient[c] for c in fold["val"]} & {f"p{p:02d}" for p in rare}) == 2


def _stored(folder, split, patients, unlabelled=()):
    for case, patient in patients.items():
        vertebrae = [] if case in unlabelled else [PreparedVertebra(level="L1")]
        write_native(folder, case, vertebrae, patient)
    files.write_json(folder / "splits_final.json", split)
    return folder


PATIENTS = {"a": "p1", "b": "p2", "c": "p3", "d": "p3", "u": "p4"}
EDITED = {
    "validated cases also train": ([{"train": ["a", "b"], "val": ["b"]}], "b in both train and val"),
    "an unknown case": ([{"train": ["a", "x"], "val": ["b"]}], "train names cases that are not preprocessed.*: x"),
    "a scan without annotation": ([{"train": ["a"], "val": ["b", "u"]}], "not preprocessed with an annotation: u"),
    "a case twice": ([{"train": ["a", "a"], "val": ["b"]}], "train names a more than once"),
    "a patient on both sides": ([{"train": ["a", "c"], "val": ["d"]}], r"patient\(s\) p3 in both train and val"),
    "nobody to learn from": ([{"train": [], "val": ["b"]}], "train is empty"),
    "nobody to validate": ([{"train": ["a"], "val": []}], "val is empty"),
    "another form": ({"train": ["a"], "val": ["b"]}, "expected a list with one entry a fold"),
}


@pytest.mark.parametrize(("split", "said"), EDITED.values(), ids=EDITED)
def test_folds_that_were_edited_wrongly_are_refused_when_used(split, said, tmp_path):
    with pytest.raises(PlanError, match=f"splits_final.json: .*{said}.*Correct the file, or delete it and run"):
        stored_folds(_stored(tmp_path, split, PATIENTS, "u"))


def test_folds_that_were_edited_well_are_used(tmp_path):
    split = [{"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["c", "d"], "val": ["a"]}]
    assert stored_folds(_stored(tmp_path, split, PATIENTS, "u")) == tuple(split)


def test_of_one_patient_alone_nothing_is_validated(tmp_path):
    split = [{"train": ["a"], "val": []}]
    # A scan without annotation is of another patient, and nothing can be validated on it.
    assert stored_folds(_stored(tmp_path, split, {"a": "p1", "u": "p2"}, "u")) == tuple(split)


def test_folds_that_are_missing_are_told_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(PlanError, match=r"no folds. Run spinecls_plan_and_preprocess -d"):
        stored_folds(tmp_path)
