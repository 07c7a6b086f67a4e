from types import SimpleNamespace

import numpy as np
import pytest
from native_records import write_native

from spinecls.beliefs.readers import Reading
from spinecls.dataloading import readings
from spinecls.dataloading.readings import (
    can_be_judged,
    judged_counts,
    known_readers,
    label_of,
    readers_of,
    readings_of,
)
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.records import ClassReading

NAMES = ("normal", "inflammatory", "structural")
PLAN = SimpleNamespace(class_names=NAMES, readers=("anna", "ben", "eve"), readers_judged=True)
CASES = ["one", "two"]


def vertebra(*readings, level="L1", **others):
    told = (ClassReading(classes=tuple(classes.split("|")), confidence=c, reader=r) for r, classes, c in readings)
    return PreparedVertebra(level=level, readings=tuple(told), **others)


@pytest.fixture
def folder(tmp_path):
    """Two cases of twenty vertebrae each, all read by anna and ben, those of the first by eve as well."""
    for case in CASES:
        said = [("anna", "normal", 1.0), ("ben", "normal", 1.0)]
        said += [("eve", "structural", 1.0)] if case == "one" else []
        rows = [vertebra(*said, level=f"{case}{i}") for i in range(20)]
        write_native(tmp_path, case, rows)
    return tmp_path


def test_readers_with_thirty_vertebrae_that_others_read_are_known(folder):
    assert known_readers(folder, CASES) == ("anna", "ben")


def test_readers_of_fewer_cases_are_not_known(folder):
    assert known_readers(folder, ["one"]) == ()


def test_readers_can_be_judged_when_three_of_them_read_enough_vertebrae(folder, monkeypatch):
    monkeypatch.setattr(readings, "FEWEST_COMPARED", 20)
    assert can_be_judged(folder, CASES, PLAN.readers)
    assert not can_be_judged(folder, ["two"], PLAN.readers)


def test_pairs_of_readers_cannot_be_judged(folder, monkeypatch):
    monkeypatch.setattr(readings, "FEWEST_COMPARED", 20)
    assert not can_be_judged(folder, CASES, ("anna", "ben"))


def test_few_vertebrae_do_not_judge_readers(folder):
    assert not can_be_judged(folder, CASES, PLAN.readers)


def test_where_nobody_says_anything_nobody_is_judged(folder):
    for case in CASES:
        write_native(folder, case, [vertebra(("anna", "|".join(NAMES), 1.0))])
    assert readers_of(folder, CASES, PLAN).matrices is None


def test_classes_are_counted_as_judged_readers_make_them_likely(folder):
    # Anna and Ben call all 40 normal; Eve, who contradicts them in 20, is in the wrong.
    counts = judged_counts(folder, CASES, PLAN)
    assert sum(counts.values()) == 40
    assert counts["normal"] >= 38


def test_known_readers_are_judged_by_what_they_said_of_all_cases(folder):
    readers = readers_of(folder, CASES, PLAN)
    quality = {name: said["accuracy"] for name, said in readers.described().items()}
    assert list(quality) == ["anna", "ben", "eve"]
    assert quality["eve"] < 0.5 < quality["anna"]


def test_readers_who_cannot_be_judged_are_told_apart(folder):
    plan = SimpleNamespace(class_names=NAMES, readers=("anna", "ben"), readers_judged=False)
    readers = readers_of(folder, CASES, plan)
    assert readers.names == ("anna", "ben")
    assert readers.matrices is None


def test_what_an_earlier_round_expects_is_judged_with_them(folder):
    expected = {case: {f"{case}{i}": np.array([0.9, 0.05, 0.05]) for i in range(20)} for case in CASES}
    alone, together = readers_of(folder, CASES, PLAN), readers_of(folder, CASES, PLAN, expected)
    model = -2
    assert together.matrices[model][0, 0] > alone.matrices[model][0, 0] + 0.05


def test_readings_are_classes_by_number():
    read = readings_of(vertebra(("anna", "normal|structural", 0.8)), PLAN)
    assert read == [Reading((0, 2), 0.8, "anna")]


def test_of_a_truncated_vertebra_half_is_believed():
    whole = label_of(vertebra(("", "normal", 1.0)), PLAN)
    cut = label_of(vertebra(("", "normal", 1.0), truncated=True), PLAN)
    assert cut.weight == pytest.approx(0.5 * whole.weight)


def test_of_a_vertebra_whose_name_is_doubtful_less_is_believed_however_many_read_it(folder):
    readers = readers_of(folder, CASES, PLAN)
    said = [("anna", "normal", 1.0), ("ben", "normal", 1.0)]
    sure, doubtful = (label_of(vertebra(*said), PLAN, readers, certainty=c) for c in (1.0, 0.6))
    assert doubtful.masses == pytest.approx(0.6 * sure.masses)


def test_what_is_expected_of_a_level_sharpens_its_set():
    told = vertebra(("", "inflammatory|structural", 1.0))
    plain = label_of(told, PLAN)
    sharpened = label_of(told, PLAN, expected={"L1": np.array([0.0, 1.0, 0.0])})
    assert plain.singletons()[1] == 0
    # Half of the mass moves, of which one class gets nine tenths at most.
    assert sharpened.singletons()[1] == pytest.approx(0.45)
