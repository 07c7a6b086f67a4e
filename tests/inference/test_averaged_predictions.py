"""Averages of prediction folders, against what is averaged by hand."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from support import run_cli

from spinecls.anatomy import LEVELS
from spinecls.dataloading.forms import inside_box
from spinecls.errors import DatasetError, DefectiveCases, PartialFailure, UsageError
from spinecls.geometry import Geometry
from spinecls.inference.averaged_predictions import (
    Group,
    SavedCase,
    _box,
    _decoded,
    _mean_abnormality,
    ensemble_folders,
    grouped,
    saved_case,
)
from spinecls.inference.models import load_predictor, model_at
from spinecls.inference.predict_folder import FolderOptions, predict_folder
from spinecls.io.images import read_image, read_map
from spinecls.io.predictions import read_case_json, write_case_json
from spinecls.records import SEVERITY, CasePrediction

NAME = "Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


def settled_vertebrae(predictor, path):
    """How many vertebrae are found in a scan; none where the same names, decoded anew, would be others."""
    volume = read_image([path])
    located = predictor.locate(volume.array, volume.geometry)
    vertebrae = [SimpleNamespace(centre_lps=tuple(centre)) for centre in located.centres_lps]
    saved = SimpleNamespace(prediction=SimpleNamespace(vertebrae=vertebrae), level_posterior=located.decoding.posterior)
    decoding = _decoded([saved], [Group({0: row}) for row in range(len(vertebrae))], volume.geometry)
    return len(vertebrae) if list(decoding.labels) == list(located.decoding.labels) else 0


@pytest.fixture(scope="module")
def predicted(trained_phantom, tmp_path_factory):
    """Folders of two models, the second with other evidence, of one scan; and the scan's name."""
    root = tmp_path_factory.mktemp("members")
    model = model_at(trained_phantom / "results" / NAME)
    predictor = load_predictor(model, torch.device("cpu"), augment=False)
    scans = sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").glob("*.nii.gz"))
    # So short a training finds few vertebrae, and how many depends on the number of threads.
    counts = [settled_vertebrae(predictor, path) for path in scans]
    assert max(counts) > 1
    scan = scans[int(np.argmax(counts))]
    for number in range(2):
        predictor = load_predictor(model, torch.device("cpu"), augment=False)
        if number:
            with torch.no_grad():
                for reader in predictor.models[0].readers:
                    reader.evidence.weight.mul_(1.5)
        predict_folder(predictor, model, scan, root / str(number), FolderOptions(save_probabilities=True))
    return root, next(path.stem for path in (root / "0").glob("*.json") if path.name != "model.json")


def copies(predicted, tmp_path):
    """Copies of the two folders, whose JSON files a test may change as if a model had written them so."""
    root, case = predicted
    shutil.copytree(root, tmp_path / "members")
    for path in (tmp_path / "members").glob(f"*/{case}.json"):
        content = json.loads(path.read_text())
        del content["digest"]
        path.write_text(json.dumps(content))
    return [tmp_path / "members/0", tmp_path / "members/1"], case


def values(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_class_probabilities_are_averaged_vertebra_by_vertebra(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    made = ensemble_folders(sources, tmp_path / "out")[0]
    first, second = (read_case_json(s / f"{case}.json").vertebrae for s in sources)
    assert len(made.vertebrae) == len(first) > 0
    for ours, a, b in zip(made.vertebrae, first, second, strict=True):
        assert ours.level == a.level == b.level
        assert a.class_probabilities != b.class_probabilities
        assert ours.class_probabilities == pytest.approx((np.array(a.class_probabilities) + b.class_probabilities) / 2)
    assert read_case_json(tmp_path / "out" / f"{case}.json") == made


def test_maps_are_averaged_and_what_they_add_up_to_stays_true(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    made = ensemble_folders(sources, tmp_path / "out")[0]
    assert made.vertebrae
    assert np.array_equal(values(tmp_path / "out" / f"{case}.nii.gz"), values(sources[0] / f"{case}.nii.gz"))
    names = list(made.vertebrae[0].evidence)
    for number, name in enumerate(names, start=1):
        file = f"{case}_evidence_class{number}.nii.gz"
        mean = (values(sources[0] / file) + values(sources[1] / file)) / 2
        assert values(tmp_path / "out" / file) == pytest.approx(mean, abs=1e-6)
        total = sum(v.evidence[name]["contributions"] for v in made.vertebrae)
        assert mean.sum() == pytest.approx(total, abs=1e-3)


def without_vertebra(folder, case, row):
    """Take a vertebra out of a prediction folder."""
    prediction = read_case_json(folder / f"{case}.json")
    content = json.loads((folder / f"{case}.json").read_text())
    gone = content["vertebrae"].pop(row)
    (folder / f"{case}.json").write_text(json.dumps({**content, "outputs": {}}))
    path = folder / f"{case}_probabilities.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    kept["level_posterior"] = np.delete(kept["level_posterior"], row, axis=0)
    kept["class_probabilities"] = np.delete(kept["class_probabilities"], row, axis=2)
    np.savez(path, **kept)
    return prediction.vertebrae[row], gone["level"]


def test_a_vertebra_that_half_of_the_models_found_stays_and_one_that_fewer_found_goes(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    shutil.copytree(sources[0], tmp_path / "members/2")
    three = [*sources, tmp_path / "members/2"]
    count = len(read_case_json(sources[0] / f"{case}.json").vertebrae)
    without_vertebra(sources[0], case, count - 1)
    assert len(ensemble_folders(sources, tmp_path / "two")[0].vertebrae) == count
    without_vertebra(sources[1], case, count - 1)
    assert len(ensemble_folders(three, tmp_path / "three")[0].vertebrae) == count - 1


def test_a_vertebra_that_two_models_saw_apart_from_each_other_is_named_once(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}.json"
    content = json.loads(path.read_text())
    place = content["vertebrae"][0]["centre_lps"]
    # Farther apart than one vertebra for two models, nearer than two vertebrae of a column.
    content["vertebrae"][0]["centre_lps"] = [place[0], place[1], place[2] + 11.0]
    path.write_text(json.dumps(content))
    for source in sources:
        alter_posterior(source, case, row=0)
    made = ensemble_folders(sources, tmp_path / "out")[0]
    names = [v.level for v in made.vertebrae]
    assert len(names) == len(content["vertebrae"])
    assert len(set(names)) == len(names)


def forget_hashes(folder, case):
    """Make files of a case changeable, as those of an earlier version are."""
    path = folder / f"{case}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outputs": {}}))


def alter_posterior(folder, case, row):
    """Make a model sure of the name that it finds most probable."""
    forget_hashes(folder, case)
    path = folder / f"{case}_probabilities.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    sure = np.zeros_like(kept["level_posterior"][row])
    sure[kept["level_posterior"][row].argmax()] = 1
    kept["level_posterior"][row] = sure
    np.savez(path, **kept)


def test_what_belongs_to_a_vertebra_that_too_few_found_leaves_the_maps(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    for number in (2, 3):
        shutil.copytree(sources[0], tmp_path / f"members/{number}")
    several = [tmp_path / f"members/{number}" for number in range(4)]
    for folder in several[1:]:
        without_vertebra(folder, case, 0)
    made = ensemble_folders(several, tmp_path / "out")[0]
    for number in range(1, len(made.vertebrae[0].evidence) + 1):
        name = f"{case}_evidence_class{number}.nii.gz"
        before, after = (read_map(folder / name) for folder in (sources[0], tmp_path / "out"))
        kept = np.zeros(after.geometry.shape, bool)
        for vertebra in made.vertebrae:
            kept |= inside_box(after.geometry, *_box(vertebra))
        assert before.array[0][~kept].any()
        assert not after.array[0][~kept].any()


def two_models_of_one_vertebra(folder, names, probabilities, values, evidence_names):
    """Saved cases of models that found the same vertebra, each with evidence of one value everywhere."""
    axes = tuple(map(tuple, np.eye(3)))
    grid = Geometry(shape=(1, 2, 2), spacing_mm=(1.0,) * 3, origin_lps=(0.0,) * 3, direction=axes)
    saved = []
    for number, (row, value) in enumerate(zip(probabilities, values, strict=True)):
        image = sitk.GetImageFromArray(np.full((2, 2, 1), value, np.float32))
        (folder / str(number)).mkdir()
        sitk.WriteImage(image, str(folder / str(number) / "a_evidence.nii.gz"))
        vertebra = SimpleNamespace(
            class_probabilities=row, box_lps=((0.0,) * 3, (1.0,) * 3), evidence=dict.fromkeys(evidence_names)
        )
        saved.append(SimpleNamespace(folder=folder / str(number), prediction=SimpleNamespace(vertebrae=(vertebra,))))
    mean = SimpleNamespace(class_probabilities=tuple(np.mean(probabilities, axis=0)))
    prediction = SimpleNamespace(identifier="a", class_names=names, vertebrae=(mean,))
    return saved, [Group({0: 0, 1: 0})], prediction, grid


@pytest.mark.parametrize(
    ("names", "probabilities", "evidence_names", "expected"),
    [
        pytest.param("xyz", [(0.1, 0.8, 0.1), (0.8, 0.15, 0.05)], ("y", "z"), 3.0, id="both of the same class"),
        pytest.param("xyz", [(0.1, 0.8, 0.1), (0.1, 0.1, 0.8)], ("y", "z"), 1.0, id="the second of another class"),
        pytest.param("xyz", [(0.1, 0.8, 0.1), (0.1, 0.1, 0.8)], (SEVERITY,), 3.0, id="grades have one map"),
    ],
)
def test_the_evidence_of_abnormality_is_the_mean_of_models_that_show_the_class(
    tmp_path, names, probabilities, evidence_names, expected
):
    made = two_models_of_one_vertebra(tmp_path, names, probabilities, (2.0, 4.0), evidence_names)
    assert _mean_abnormality(*made) == pytest.approx(np.full((1, 2, 2), expected))


def test_an_ensemble_of_equal_models_is_no_surer_of_its_names_than_each():
    names = ["T7", "T8", "T9", "T10", "T11", "T12", "L1"]
    posterior = np.zeros((6, len(LEVELS)))
    for row in range(6):
        posterior[row, LEVELS.index(names[row])] = 0.6
        posterior[row, LEVELS.index(names[row + 1])] = 0.4
    column = SimpleNamespace(vertebrae=[SimpleNamespace(centre_lps=(0.0, 0.0, -24.0 * row)) for row in range(6)])
    model = SavedCase(None, column, posterior, np.zeros(27), False, np.zeros((1, 6, 3)))
    decoding = _decoded([model, model], [Group({0: row, 1: row}) for row in range(6)], None)
    assert decoding.labels == tuple(names[:6])
    # As six witnesses they would give 0.96; distances say a little, too.
    assert 0.5 < decoding.posterior[2].max() < 0.85
    assert decoding.shift_margin_nats < 2


def test_the_reported_class_is_in_the_set_and_of_grades_there_is_no_gap(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    rows = {0: (0.5, 0.4, 0.1), 1: (0.1, 0.4, 0.5)}
    for number, source in enumerate(sources):
        content = json.loads((source / f"{case}.json").read_text())
        names = content["class_names"]
        for vertebra in content["vertebrae"]:
            vertebra["class_probabilities"] = dict(zip(names, rows[number], strict=True))
            vertebra["prediction_set"] = [names[2 * number]]
        (source / f"{case}.json").write_text(json.dumps(content))
    assert all(v.prediction_set == tuple(names) for v in ensemble_folders(sources, tmp_path / "out")[0].vertebrae)


def test_doubt_between_the_models_is_told(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    made = ensemble_folders(sources, tmp_path / "out")[0]
    alone = [read_case_json(source / f"{case}.json").vertebrae for source in sources]
    # What the readers of each model disagree on is the mean of both; what the models do comes on top.
    for joined, first, second in zip(made.vertebrae, *alone, strict=True):
        within = (first.doubt["disagreement"] + second.doubt["disagreement"]) / 2
        assert joined.doubt["disagreement"] > within + 1e-6


def test_warnings_of_any_model_are_passed_on(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["odd contrast"]}))
    assert ensemble_folders(sources, tmp_path / "out")[0].warnings[-1] == "odd contrast"


def test_mean_says_which_image_it_is_of_and_other_images_are_not_averaged(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    voxels = read_case_json(sources[0] / f"{case}.json").input["voxels"]
    assert len(voxels) == 1
    assert ensemble_folders(sources, tmp_path / "out")[0].input["voxels"] == voxels
    path = sources[1] / f"{case}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"input": {"voxels": ["another"]}}))
    with pytest.raises(PartialFailure, match="predicted from another image of this name"):
        ensemble_folders(sources, tmp_path / "again")


def test_a_case_that_failed_in_the_models_fails_with_their_reason(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    for source in sources:
        (source / "failed.csv").write_text("case,reason\nbroken,the voxels cannot be read\n")
    with pytest.raises(PartialFailure, match="broken: the voxels cannot be read"):
        ensemble_folders(sources, tmp_path / "out")
    assert "broken" in (tmp_path / "out/failed.csv").read_text()
    assert (tmp_path / "out" / f"{case}.json").exists()


def test_when_every_case_failed_the_reasons_are_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "failed.csv").write_text("case,reason\nbroken,no volume\n")
    with pytest.raises(PartialFailure, match="broken: no volume"):
        ensemble_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_cases_of_an_earlier_call_are_left_out(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    for source in sources:
        shutil.copy(source / f"{case}.json", source / "earlier.json")
        content = json.loads((source / "earlier.json").read_text()) | {"identifier": "earlier"}
        (source / "earlier.json").write_text(json.dumps(content))
    assert [made.identifier for made in ensemble_folders(sources, tmp_path / "out", {case})] == [case]


def test_a_damaged_file_of_probabilities_costs_its_case_only(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[0] / f"{case}_probabilities.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PartialFailure, match=r"_probabilities\.npz: is not as it was written"):
        ensemble_folders(sources, tmp_path / "out")
    forget_hashes(sources[0], case)
    with pytest.raises(PartialFailure, match=r"_probabilities\.npz: cannot be read .*--save_probabilities"):
        ensemble_folders(sources, tmp_path / "out")


@pytest.mark.parametrize("ending", [".nii.gz", "_evidence.nii.gz", "_evidence_class1.nii.gz"])
def test_a_map_that_is_not_as_it_was_written_costs_its_case(ending, predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}{ending}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PartialFailure, match=f"{case}{ending}: is not as it was written"):
        ensemble_folders(sources, tmp_path / "out")
    assert list((tmp_path / "out").glob(f"{case}*")) == []


def test_a_mistake_of_the_program_is_told_as_such(predicted, tmp_path, monkeypatch):
    sources, case = copies(predicted, tmp_path)
    monkeypatch.setattr("spinecls.inference.averaged_predictions.grouped", lambda centres: centres["x"])
    with pytest.raises(DefectiveCases, match=f"{case}: a defect of spinecls .*TypeError"):
        ensemble_folders(sources, tmp_path / "out")
    assert "Traceback" in (tmp_path / "out" / f"{case}.log").read_text()


def test_a_second_call_keeps_the_cases_of_the_first_in_the_tables_and_other_models_out(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    ensemble_folders(sources, tmp_path / "out")
    before = (tmp_path / "out/predictions.csv").read_text()
    assert before.count(case) > 0
    for source in sources:
        for path in source.glob(f"{case}*"):
            path.rename(path.with_name(path.name.replace(case, "later")))
        text = (source / "later.json").read_text().replace(case, "later")
        (source / "later.json").write_text(text)
    ensemble_folders(sources, tmp_path / "out")
    assert (tmp_path / "out/predictions.csv").read_text().count(case) == before.count(case)
    (tmp_path / "out/later.json").unlink()
    content = json.loads((sources[0] / "later.json").read_text())
    content["model"]["folds"] = ["7"]
    (sources[0] / "later.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"holds 1 case of an earlier call .{case}. by another model"):
        ensemble_folders(sources, tmp_path / "out")


def test_sets_are_joined_and_a_model_without_a_calibration_shows(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    for source, names in zip(sources, (0, 1), strict=True):
        path = source / f"{case}.json"
        content = json.loads(path.read_text())
        for vertebra in content["vertebrae"]:
            vertebra["prediction_set"] = [content["class_names"][names]]
            vertebra["flags"] = ["uncalibrated"] if names else ["unsure"]
        path.write_text(json.dumps(content))
    made = ensemble_folders(sources, tmp_path / "out")[0]
    vertebra = made.vertebrae[0]
    assert set(made.class_names[:2]) <= set(vertebra.prediction_set)
    assert {"refer", "unsure", "uncalibrated"} <= set(vertebra.flags)
    assert (tmp_path / "out/refer.csv").read_text().count("unsure") == len(made.vertebrae)


def test_detections_of_two_models_are_paired_by_the_least_distance():
    first = np.array([[0.0, 0, 60], [0, 0, 30], [0, 0, 0]])
    second = np.array([[0.0, 3, 2], [0, 0, 88], [2, 0, 33]])
    rows = [dict(group.rows) for group in grouped([first, second])]
    assert rows == [{1: 1}, {0: 0}, {0: 1, 1: 2}, {0: 2, 1: 0}]


def test_a_case_that_not_every_model_predicted_fails_and_the_others_do_not(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    prediction = json.loads((sources[0] / f"{case}.json").read_text())
    (sources[0] / "other.json").write_text(json.dumps(prediction | {"identifier": "other"}))
    with pytest.raises(PartialFailure, match="other: not predicted by every model"):
        ensemble_folders(sources, tmp_path / "out")
    assert (tmp_path / "out" / f"{case}.json").exists()


def test_a_json_that_was_edited_costs_its_case(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}.json"
    content = json.loads((predicted[0] / "1" / path.name).read_text())
    content["vertebrae"][0]["level"] = "C3"
    path.write_text(json.dumps(content))
    remedy = "Predict again with --continue_prediction --save_probabilities"
    with pytest.raises(PartialFailure, match=rf"{case}\.json: is not as it was written .*{remedy}"):
        ensemble_folders(sources, tmp_path / "out")


def test_a_mean_is_not_averaged_again(predicted, tmp_path):
    sources, _ = copies(predicted, tmp_path)
    ensemble_folders(sources, tmp_path / "mean")
    with pytest.raises(PartialFailure, match=r"mean: holds a mean, which cannot be averaged again\. Give the"):
        ensemble_folders([sources[0], tmp_path / "mean"], tmp_path / "out")


def test_probabilities_that_were_not_saved_are_asked_for(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    (sources[1] / f"{case}_probabilities.npz").unlink()
    with pytest.raises(PartialFailure, match="Predict with --save_probabilities"):
        ensemble_folders(sources, tmp_path / "out")


def test_models_of_other_classes_are_not_averaged(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}.json"
    content = json.loads(path.read_text())
    content["class_names"] = ["a", "b"]
    for vertebra in content["vertebrae"]:
        vertebra["class_probabilities"] = {"a": 0.5, "b": 0.5}
    path.write_text(json.dumps(content))
    message = r"class_names: \[normal, inflammatory, structural\] in .*members/0.*, \[a, b\] in .*members/1"
    with pytest.raises(DatasetError, match=message):
        ensemble_folders(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def edited(name, change):
    """What a test changes in the second of the folders: a value in the JSON of a case."""

    def edit(folder, case):
        path = folder / f"{case}.json"
        content = json.loads(path.read_text())
        content[name] = change(content[name])
        path.write_text(json.dumps(content))

    return edit


def as_grades(folder, case):
    path = folder / f"{case}_probabilities.npz"
    with np.load(path) as content:
        kept = dict(content) | {"class_order": np.array(True)}
    np.savez(path, **kept)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (edited("class_names", lambda names: [names[0], *names[:0:-1]]), "class_names"),
        (edited("model", lambda model: model | {"prevalence": {"normal": 0.9}}), "prevalence"),
        (as_grades, "class_order: False in .*0/.*, True in .*1/"),
    ],
    ids=["order", "prevalence", "grades"],
)
def test_probabilities_that_do_not_mean_the_same_are_not_averaged(edit, told, predicted, tmp_path, capsys):
    sources, case = copies(predicted, tmp_path)
    edit(sources[1], case)
    assert run_cli("ensemble", "-i", *sources, "-o", tmp_path / "out") == 3
    assert re.search(told, capsys.readouterr().err)


def test_maps_on_other_grids_are_not_averaged(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    forget_hashes(sources[1], case)
    path = sources[1] / f"{case}.nii.gz"
    image = sitk.ReadImage(str(path))
    image.SetOrigin([v + 5 for v in image.GetOrigin()])
    sitk.WriteImage(image, str(path))
    with pytest.raises(PartialFailure, match="on another grid"):
        ensemble_folders(sources, tmp_path / "out")


def test_one_folder_or_the_same_twice_or_the_target_is_refused(predicted, tmp_path):
    sources, _ = copies(predicted, tmp_path)
    for given in (sources[:1], [sources[0], sources[0]]):
        with pytest.raises(UsageError, match="two or more different"):
            ensemble_folders(given, tmp_path / "out")
    with pytest.raises(UsageError, match="one of the folders"):
        ensemble_folders(sources, sources[0])


def test_folders_without_a_common_case_are_refused(predicted, tmp_path):
    sources, case = copies(predicted, tmp_path)
    path = sources[1] / f"{case}.json"
    content = json.loads(path.read_text()) | {"identifier": "another"}
    path.unlink()
    (sources[1] / "another.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="no case was predicted in all"):
        ensemble_folders(sources, tmp_path / "out")


def test_the_command_writes_a_prediction_folder(predicted, tmp_path, capsys):
    sources, case = copies(predicted, tmp_path)
    assert run_cli("ensemble", "-i", *sources, "-o", tmp_path / "out") == 0
    assert "1 case, " in capsys.readouterr().out
    assert (tmp_path / "out/predictions.csv").read_text().count(case) == len(
        read_case_json(tmp_path / "out" / f"{case}.json").vertebrae
    )
    assert len(json.loads((tmp_path / "out/model.json").read_text())["ensemble"]) == 2


def test_a_case_in_which_a_model_found_nothing_is_read(tmp_path):
    write_case_json(tmp_path, CasePrediction(identifier="a", class_names=("x", "y"), vertebrae=(), model={}))
    np.savez(
        tmp_path / "a_probabilities.npz", level_posterior=np.zeros((0, 27)), level_codes=np.zeros(27),
        class_order=np.array(False), class_probabilities=np.zeros((0, 0, 0, 0)),
    )  # fmt: skip
    assert saved_case(tmp_path, "a").members.shape == (0, 0, 0)
