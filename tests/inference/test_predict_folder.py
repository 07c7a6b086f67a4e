"""Guards against results of one case that pass for another's, and against cases that are lost over several calls."""

import csv
import dataclasses
import json
import logging
import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from test_open_and_sealed import predictor_of

from spinecls.errors import DatasetError, DefectiveCases, PartialFailure, ResourceError, UsageError
from spinecls.inference.case_results import VolumePrediction
from spinecls.inference.models import TrainedModel
from spinecls.inference.predict_folder import FolderOptions, predict_folder, refuse_equal_channels
from spinecls.io.prediction_folder import alone_in
from spinecls.io.predictions import read_case_json, read_failures
from spinecls.records import VertebraPrediction

MODEL = TrainedModel(Path("results"), "Dataset001_X", "T", "P", "C", ("0",))
SHAPE = (8, 24, 20)
NOTHING, MISTAKE = 50, 60
"""Voxel values of scans in which nothing is found, and at which the program makes a mistake."""


class Finder:
    """A model that finds one vertebra, at a place that tells which image it was."""

    def __init__(self, **changes):
        self.seen = []
        self.base = dataclasses.replace(predictor_of("S2", checkpoints={"0": "abc"}), **changes)

    def __getattr__(self, name):
        return getattr(self.base, name)

    def predict_volume(self, image, geometry, unlike=False):
        value = round(float(np.median(image)))
        self.seen.append(value)
        if value == MISTAKE:
            return {}["vertebra"]
        found = () if value == NOTHING else (vertebra(value),)
        posterior = np.zeros((len(found), 27))
        return VolumePrediction(
            vertebrae=found,
            level_map=np.full(geometry.shape, value, np.uint8),
            evidence=np.zeros(geometry.shape, np.float32),
            contributions={name: np.zeros(geometry.shape, np.float32) for name in self.base.evidence_names},
            located=SimpleNamespace(
                centres_lps=np.zeros((len(found), 3)), decoding=SimpleNamespace(posterior=posterior)
            ),
            sealed=None,
        )


def vertebra(value):
    return VertebraPrediction(
        level="L1", level_probability=0.9, runner_up="L2", runner_up_probability=0.1,
        centre_lps=(float(value), 0.0, 0.0), box_lps=((0.0,) * 3, (1.0,) * 3), score=1.0,
        class_probabilities=(0.5, 0.25, 0.25), prediction_set=("a", "b"), entropy=1.0, visible_fraction=1.0, region={},
    )  # fmt: skip


def scan(folder, name, value):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(value)
    image = sitk.GetImageFromArray((value + rng.uniform(-0.4, 0.4, SHAPE)).astype(np.float32))
    image.SetSpacing((1.0, 1.0, 4.0))
    sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))


@pytest.fixture
def source(tmp_path):
    for name, value in (("a", 11), ("b", 22)):
        scan(tmp_path / "in", name, value)
    return tmp_path / "in"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out"


def run(source, target, finder=None, *, go_on=False, save=False):
    """Values of the images that were predicted; earlier results are not looked at."""
    finder = finder or Finder()
    predict_folder(finder, MODEL, source, target, FolderOptions(continue_prediction=go_on, save_probabilities=save))
    return finder.seen


def rows(target, name="predictions.csv"):
    with open(target / name, newline="") as stream:
        return list(csv.DictReader(stream))


def places(target):
    return {row["case"]: float(row["x_mm"]) for row in rows(target)}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "half a map": (lambda t: cut(t / "a.nii.gz"), "<case>.nii.gz is not as it was written"),
    "empty evidence": (lambda t: (t / "a_evidence.nii.gz").write_bytes(b""), "<case>_evidence.nii.gz is not as it"),
    "map gone": (lambda t: (t / "a_evidence_class1.nii.gz").unlink(), "<case>_evidence_class1.nii.gz is missing"),
    "other map": (lambda t: shutil.copy(t / "b.nii.gz", t / "a.nii.gz"), "<case>.nii.gz is not as it was written"),
    "other probabilities": (lambda t: flip(t / "a_probabilities.npz"), "<case>_probabilities.npz is not as it was"),
    "half a JSON": (lambda t: cut(t / "a.json"), "its JSON file is damaged"),
    "edited JSON": (lambda t: edit(t / "a.json", lambda c: c["vertebrae"][0].update(level="L5")),
                    "<case>.json is not as it was written"),
    "JSON of another case": (lambda t: shutil.copy(t / "b.json", t / "a.json"),
                             "its JSON file is that of another case"),
    "earlier version": (lambda t: edit(t / "a.json", lambda c: (c.pop("input"), c.pop("outputs"))),
                        "written by an earlier version"),
    "no JSON": (lambda t: (t / "a.json").unlink(), "not predicted yet"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_is_not_whole_is_predicted_again(damage, source, target, caplog):
    breaks, reason = DAMAGES[damage]
    run(source, target, save=True)
    before = {path.name: path.read_bytes() for path in target.glob("*.nii.gz")}
    breaks(target)
    with caplog.at_level(logging.INFO):
        assert run(source, target, go_on=True, save=True) == [11]
    assert {path.name: path.read_bytes() for path in target.glob("*.nii.gz")} == before
    assert places(target) == {"a": 11, "b": 22}
    assert "1 of 2 results are kept" in caplog.text
    assert f"1 predicted (a): {reason}" in caplog.text


def test_whole_results_are_kept(source, target, caplog):
    run(source, target)
    with caplog.at_level(logging.INFO):
        assert run(source, target, go_on=True) == []
    assert f"{target}: 2 of 2 results are kept." in caplog.text
    assert places(target) == {"a": 11, "b": 22}


def test_another_image_under_the_same_name_is_predicted(source, target, caplog):
    run(source, target)
    scan(source, "a", 33)
    with caplog.at_level(logging.INFO):
        assert run(source, target, go_on=True) == [33]
    assert "1 predicted (a): the input has changed" in caplog.text
    assert places(target) == {"a": 33, "b": 22}


def test_of_a_header_with_detached_voxels_the_voxels_count(tmp_path, target):
    for value in (11, 33):
        scan(tmp_path / "made", "a", value)
        image = sitk.ReadImage(str(tmp_path / "made/a.nii.gz"))
        (tmp_path / "in").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / "in/a.mhd"))
        assert run(tmp_path / "in", target, go_on=True) == [value]


PLAN = predictor_of("S2").plan
OTHER_WAYS = {
    "checkpoint": {"checkpoints": {"0": "def"}},
    "views": {"augment": False},
    "prevalence": {"prevalence": {"a": 0.9, "b": 0.05, "c": 0.05}},
    "plan": {"plan": dataclasses.replace(PLAN, class_counts={"a": 30, "b": 2, "c": 2})},
}
SAID = {
    "checkpoint": "checkpoints was {'0': 'abc'} and is {'0': 'def'}",
    "views": "test_time_augmentation was True and is False",
    "prevalence": "prevalence",
    "plan": "plan_hash was",
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_results_of_another_model_or_way_are_not_kept(way, source, target, caplog):
    run(source, target)
    with caplog.at_level(logging.INFO):
        assert run(source, target, Finder(**OTHER_WAYS[way]), go_on=True) == [11, 22]
    assert f"2 predicted (a, b): by another model, or in another way: {SAID[way]}" in caplog.text


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_another_model_or_way_does_not_mix_with_the_cases_of_an_earlier_call(way, source, target):
    run(source, target)
    (source / "a.nii.gz").unlink()
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(UsageError, match=r"holds 1 case of an earlier call \(a\) by another model.*another folder"):
        run(source, target, Finder(**OTHER_WAYS[way]))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_probabilities_that_are_asked_for_later_are_made(source, target):
    run(source, target)
    assert run(source, target, go_on=True, save=True) == [11, 22]
    assert run(source, target, go_on=True) == []


def test_tables_hold_the_cases_of_all_calls(source, target, caplog):
    run(source / "a.nii.gz", target)
    with caplog.at_level(logging.INFO):
        run(source / "b.nii.gz", target)
    assert places(target) == {"a": 11, "b": 22}
    assert f"The tables of {target} also hold 1 case of earlier calls (a)." in caplog.text
    assert json.loads((target / "model.json").read_text()) == read_case_json(target / "a.json").model


def test_a_case_that_failed_leaves_the_list_when_it_succeeds_and_not_before(source, target):
    cut(source / "a.nii.gz")
    with pytest.raises(PartialFailure):
        run(source, target)
    run(source / "b.nii.gz", target)
    assert [case for case, _ in read_failures(target)] == ["a"]
    scan(source, "a", 11)
    run(source / "a.nii.gz", target)
    assert read_failures(target) == []


def test_of_a_case_that_fails_now_no_earlier_result_stays(source, target):
    run(source, target, save=True)
    cut(source / "a.nii.gz")
    with pytest.raises(PartialFailure, match="1 of 2 cases failed"):
        run(source, target, go_on=True)
    assert [path.name for path in target.iterdir() if path.name.startswith("a")] == []
    assert places(target) == {"b": 22}


def test_a_reason_is_plain_text(source, target):
    cut(source / "a.nii.gz")
    with pytest.raises(PartialFailure):
        run(source, target)
    ((case, reason),) = read_failures(target)
    assert case == "a"
    assert reason.startswith("[E302] ")
    assert "Fault" not in reason


def test_a_mistake_of_the_program_is_told_as_such_and_the_other_cases_are_done(source, target):
    scan(source, "a", MISTAKE)
    with pytest.raises(DefectiveCases, match="1 of 2 cases failed"):
        run(source, target)
    assert places(target) == {"b": 22}
    ((_, reason),) = read_failures(target)
    assert reason.endswith("(KeyError: 'vertebra'); please report it with a.log")
    assert 'return {}["vertebra"]' in (target / "a.log").read_text()
    scan(source, "a", 11)
    run(source, target)
    assert not (target / "a.log").exists()


def test_a_scan_in_which_nothing_is_found_is_referred(source, target, caplog):
    scan(source, "a", NOTHING)
    run(source, target)
    (row,) = rows(target, "refer.csv")
    assert row == {"case": "a", "vertebra": "", "class": "", "entropy": "", "prediction_set": "",
                   "reasons": "nothing_found"}  # fmt: skip
    assert f"No vertebra was found in 1 of 2 cases (a); see {target / 'refer.csv'}" in caplog.text


CLASHES = {
    "evidence map": ("a_evidence", "a_evidence.nii.gz"),
    "map of a class": ("a_evidence_class1", "a_evidence_class1.nii.gz"),
    "capital": ("A", "a.json"),
    "name of a result": ("Model", None),
}


@pytest.mark.parametrize("kind", CLASHES)
def test_a_case_whose_files_would_be_those_of_another_fails_and_says_so(kind, source, target):
    name, met = CLASHES[kind]
    scan(source, name, 33)
    with pytest.raises(PartialFailure):
        run(source, target)
    first, second = sorted(["a", name], key=lambda n: (len(n), n)) if met else ("a", name)
    ((case, reason),) = read_failures(target)
    assert case == second
    assert ("would be taken for that of case " + first if met else "folder of results has itself") in reason
    assert set(places(target)) == {"b", first}
    assert (read_case_json(target / f"{first}.json").vertebrae[0].centre_lps[0] == 33) == (first == name)


def test_one_name_in_two_spellings_is_one_case(source, target):
    for number, form in enumerate(("NFC", "NFD")):
        scan(source, unicodedata.normalize(form, "é"), 30 + number)
    with pytest.raises(PartialFailure, match="would be taken for that of case"):
        run(source, target)
    assert len(places(target)) == 3


def test_a_case_of_an_earlier_call_is_not_overwritten_by_the_map_of_another(source, target):
    scan(source, "c_evidence", 33)
    run(source / "c_evidence.nii.gz", target)
    before = (target / "c_evidence.nii.gz").read_bytes()
    scan(source, "c", 44)
    (source / "c_evidence.nii.gz").unlink()
    with pytest.raises(PartialFailure, match=r"c: its result c_evidence\.nii\.gz would be taken for"):
        run(source, target)
    assert (target / "c_evidence.nii.gz").read_bytes() == before


def test_when_it_is_stopped_the_tables_hold_what_is_done(source, target):
    class Stopped(Finder):
        def predict_volume(self, image, geometry, unlike=False):
            if self.seen:
                raise KeyboardInterrupt
            return super().predict_volume(image, geometry, unlike)

    run(source, target)
    with pytest.raises(KeyboardInterrupt):
        run(source, target, Stopped())
    assert places(target) == {"a": 11}
    assert not (target / "b.nii.gz").exists()


def test_two_calls_do_not_write_to_one_folder_at_once(source, target):
    with alone_in(target), pytest.raises(ResourceError, match=r"another process writes its results there\. Wait until"):
        run(source, target)
    assert run(source, target) == [11, 22]


def test_a_damaged_list_of_failures_is_written_anew(source, target, caplog):
    run(source, target)
    (target / "failed.csv").write_text("case,reason\nold,x,y\n")
    assert run(source, target, go_on=True) == []
    assert "Written anew, without what it said" in caplog.text
    assert read_failures(target) == []


def test_scores_of_earlier_predictions_are_named_when_something_was_predicted(source, target, caplog):
    run(source, target)
    (target / "summary.json").write_text("{}")
    run(source, target, go_on=True)
    assert "earlier predictions" not in caplog.text
    run(source, target)
    assert "summary.json is of earlier predictions; run spinecls_evaluate again." in caplog.text


def test_a_folder_of_results_is_no_input(source, target, tmp_path):
    run(source, target)
    with pytest.raises(UsageError, match="a folder of results, whose maps are no scans"):
        run(target, tmp_path / "second")


def test_one_image_as_two_channels_is_refused():
    refuse_equal_channels(("1f", "2e"), ("T1", "STIR"))
    with pytest.raises(DatasetError, match=r"_0000 \(T1\) and _0001 \(STIR\) are the same image\. Give"):
        refuse_equal_channels(("1f", "1f"), ("T1", "STIR"))


def test_what_is_no_image_is_named(source, target, caplog):
    (source / "c.mgz").write_bytes(b"")
    run(source, target)
    assert "Skipped: c.mgz: of FreeSurfer; convert it to .nii.gz" in caplog.text


def test_the_maps_of_classes_that_an_earlier_model_had_go(source, target):
    run(source, target)
    (target / "a_evidence_class7.nii.gz").write_bytes(b"")
    run(source, target)
    assert not (target / "a_evidence_class7.nii.gz").exists()
