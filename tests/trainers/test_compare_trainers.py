"""`spinecls_compare`: whom a draw takes, and a whole comparison on phantoms."""

from collections import Counter

import pytest
from filelock import FileLock
from support import run_cli

from spinecls import files
from spinecls.trainers.comparison import patient_order

COUNTS = {f"p{i:02d}": Counter({"normal": 4, ("rare" if i % 5 == 0 else "normal"): 1}) for i in range(20)}


def test_every_patient_joins_once_and_a_draw_is_reproducible():
    order = patient_order(COUNTS, 0)
    assert sorted(order) == sorted(COUNTS)
    assert order == patient_order(COUNTS, 0)
    assert order != patient_order(COUNTS, 1)


@pytest.mark.parametrize("draw", range(5))
def test_small_sets_hold_the_rare_class_about_as_often_as_all_patients_do(draw):
    chosen = patient_order(COUNTS, draw)[:10]
    assert sum("rare" in COUNTS[p] for p in chosen) in (1, 2, 3)


def test_patients_without_any_class_can_be_drawn():
    assert len(patient_order({"a": Counter(), "b": Counter()}, 0)) == 2


COMMAND = (
    "compare", "1", "-tr", "BaselineTrainer", "AuxSegTrainer", "--patients", "3", "all", "--draws", "1",
    "-device", "cpu", "--set", "steps=3",
)  # fmt: skip


@pytest.mark.slow
def test_a_comparison_trains_goes_on_and_adds_draws(phantom_roots, tmp_path, capsys):
    assert run_cli(*COMMAND) == 0
    assert "no verdict from one draw" in capsys.readouterr().out
    folder = tmp_path / "results/Dataset001_Phantom/comparison__spineclsPlans__3d_fullres__fold_0"
    rows = files.read_csv(folder / "comparison.csv")
    assert all(0 <= float(row["auc"]) <= 1 for row in rows)
    assert [(r["trainer"], r["draws"]) for r in rows] == [("BaselineTrainer", "1"), ("AuxSegTrainer", "1")] * 2
    runs = files.read_csv(folder / "runs.csv")
    small, whole = (set(runs[i]["training_cases"].split()) for i in (0, 2))
    assert small < whole
    assert runs[0]["training_cases"] == runs[1]["training_cases"]
    assert (folder / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("checkpoint_final.pt")}
    assert len(before) == 4
    more = [*COMMAND[:8], "--draws", "2", *COMMAND[10:]]
    assert run_cli(*more) == 0
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("checkpoint_final.pt")}
    assert len(after) == 8
    assert all(after[p] == time for p, time in before.items())


@pytest.mark.slow
def test_what_another_process_trains_is_left_to_it(phantom_roots, tmp_path, capsys):
    folder = tmp_path / "results/Dataset001_Phantom/comparison__spineclsPlans__3d_fullres__fold_0"
    theirs = folder / "draw_0/patients_3/BaselineTrainer"
    theirs.mkdir(parents=True)
    with FileLock(theirs / ".lock"):
        assert run_cli(*COMMAND[:6], "3", *COMMAND[8:]) == 0
    assert [row["trainer"] for row in files.read_csv(folder / "runs.csv")] == ["AuxSegTrainer"]
    assert not (theirs / "checkpoint_final.pt").exists()


def test_when_others_train_everything_there_is_nothing_to_tell(phantom_roots, tmp_path, capsys):
    root = tmp_path / "results/Dataset001_Phantom/comparison__spineclsPlans__3d_fullres__fold_0/draw_0/patients_3"
    locks = [FileLock(root / name / ".lock") for name in ("BaselineTrainer", "AuxSegTrainer")]
    for name, lock in zip(("BaselineTrainer", "AuxSegTrainer"), locks, strict=True):
        (root / name).mkdir(parents=True)
        lock.acquire()
    try:
        assert run_cli(*COMMAND[:6], "3", *COMMAND[8:]) == 4
    finally:
        for lock in locks:
            lock.release()
    assert "other processes are training every run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-tr", "BaselineTrainer"), "two trainers or more"),
        (("-tr", "BaselineTrainer", "AuxSegTrainer", "--patients", "99"), "--patients 99: expected a number from 1 to"),
        (("-tr", "BaselineTrainer", "AuxSegTrainer", "--patients", "few"), "--patients few: expected"),
        (("-tr", "BaselineTrainer", "PretrainAETrainer"), "nothing to compare"),
        (("-tr", "BaselineTrainer", "AuxSegTrainer", "-f", "9"), "Fold '9' does not exist"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(words, said, phantom_roots, capsys):
    assert run_cli("compare", "1", *words, "-device", "cpu") == 2
    assert said in capsys.readouterr().err


def test_runs_of_other_settings_are_not_mixed_in(phantom_roots, tmp_path, capsys):
    folder = tmp_path / "results/Dataset001_Phantom/comparison__spineclsPlans__3d_fullres__fold_0"
    files.write_json(folder / "comparison.json", {"overrides": {"steps": "9"}, "reference": "BaselineTrainer"})
    assert run_cli(*COMMAND) == 2
    assert "Give another --name" in capsys.readouterr().err
